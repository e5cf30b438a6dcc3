"""Replay: plays a trajectory's actions again, keeps the environment's state before its steps, and finds the steps that
change nothing.

Episodes can then begin at those steps. Environment servers do replays as they play episodes. What the episodes are for
(value estimates, verification) is decided in `evaluation/forked.py` and by its callers; what is done about steps that
change nothing, in `selection/filters.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from atlas_ray.environments.contract import TextEnv, first_texts
from atlas_ray.errors import DataError
from atlas_ray.react import last_line, parse_reply
from atlas_ray.rollout.episode import EpisodeRecorder, one_line
from atlas_ray.rollout.spec import Start
from atlas_ray.trajectory import Split, Trajectory


@dataclass(frozen=True)
class Replay:
    """The result of replaying a trajectory."""

    trajectory_id: str
    task: int = 0
    split: Split = "train"
    seed: int = 0
    starts: dict[int, Start] = field(default_factory=dict)
    """By the step that an episode from this start plays first."""
    unchanged: frozenset[int] = frozenset()
    """The steps that change nothing, if they were asked for; see `ReplaySpec`."""
    outcome: float = 0.0
    """The environment's metric after the last step."""
    compared: int = 0
    """Observations of an imported trajectory that were compared with the environment's; white space does not count."""
    differing: int = 0
    """How many of them are others here."""
    difference: str | None = None
    """The first of these, in words."""
    environment_steps: int = 0
    error: str | None = None


@dataclass(frozen=True)
class ReplaySpec:
    """A trajectory to replay.

    Args:
        trajectory: with `task` and `seed` in its metadata, or an `item_id` that its environment can locate.
        steps: the steps before which a start is kept; None: all steps.
        seed: of a trajectory whose metadata have none.
        options: the environment's.
        deadline_s: seconds that it may take.
        find_unchanged: find the steps that leave the environment's own state and the score as they were. Also those
            whose action is one of `TextEnv.looks`, which decides alone where snapshots are replays.
    """

    trajectory: Trajectory
    steps: frozenset[int] | None = None
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    deadline_s: float = 900.0
    find_unchanged: bool = False

    @property
    def env(self) -> str:
        """Name of the environment."""
        return self.trajectory.env

    @property
    def label(self) -> str:
        """Names it in messages."""
        return f"replay of {self.trajectory.trajectory_id}"


def replay(env: TextEnv, spec: ReplaySpec, recorder: EpisodeRecorder) -> Replay:
    """Play a trajectory's actions again; an action that is answered otherwise than in the trajectory is an error."""
    try:
        return _replay(env, spec, recorder)
    except Exception as problem:  # this trajectory's result, as an episode's failure is its own
        return failed(spec, one_line(problem), recorder=recorder)


def failed(spec: ReplaySpec, error: str, *, recorder: EpisodeRecorder | None = None) -> Replay:
    """The replay that could not be finished."""
    steps = recorder.environment_steps if recorder is not None else 0
    return Replay(spec.trajectory.trajectory_id, environment_steps=steps, error=error)


def _replay(env: TextEnv, spec: ReplaySpec, recorder: EpisodeRecorder) -> Replay:
    trajectory = spec.trajectory
    split, task, seed = task_of(trajectory, env, spec.seed)
    observation, _ = recorder.call(env.reset, seed=seed, options={"task": task, "split": split})
    imported = trajectory.source != "expert"
    if imported and "task" not in trajectory.metadata and env.recognise(trajectory.messages) is None:
        _check_beginning(trajectory, env, observation)
    seen = _Compared()
    starts: dict[int, Start] = {}
    unchanged: set[int] = set()
    score = 0.0
    for turn, message in enumerate(trajectory.messages):
        if message.step is None:
            continue
        before = trajectory.messages[:turn]
        if imported and seen.steps:
            seen.add(message.step, before[-1].content, observation)
        seen.steps += 1
        if not imported and before[-1].content != observation:
            raise DataError(
                f"step {message.step}: the environment says {observation[:60]!r}, the trajectory "
                f"{before[-1].content[:60]!r}; it was collected with other options or another version"
            )
        if not env.running:
            raise DataError(f"step {message.step}: the episode is over before it")
        if spec.steps is None or message.step in spec.steps:
            starts[message.step] = Start(trajectory.trajectory_id, message.step, before, recorder.call(env.snapshot))
        reply = parse_reply(message.content, env.card.action_rule)
        if imported and reply.action is None and "action:" not in message.content.lower():
            reply = reply._replace(action=last_line(message.content))
        if reply.action is None:
            unchanged.add(message.step)
            observation = str(reply.problem)
            continue
        recorder.environment_steps += 1
        here = _Here(env, recorder) if spec.find_unchanged else None
        observation, reward, terminated, _, info = recorder.call(env.step, reply.action)
        if here is not None and not terminated and reward == 0 and here.is_kept_by(reply.action):
            unchanged.add(message.step)
        score = float(info["score"])
    if trajectory.reward is not None and score < trajectory.reward - 1e-6:
        raise DataError(f"its actions end with score {score:g}, the trajectory's reward is {trajectory.reward:g}")
    kept = frozenset(unchanged) if spec.find_unchanged else frozenset()
    if imported and trajectory.messages and trajectory.messages[-1].role != "assistant":
        seen.add(trajectory.n_steps, trajectory.messages[-1].content, observation)
    return Replay(
        trajectory.trajectory_id, task, split, seed, starts, kept, score, seen.compared, seen.differing,
        seen.difference, recorder.environment_steps,
    )  # fmt: skip


def _check_beginning(trajectory: Trajectory, env: TextEnv, observation: str) -> None:
    """Refuse a trajectory whose item id is another task's: the two first lines of that task must stand in it."""
    said = " ".join(first_texts(trajectory.messages).split())
    for line in observation.removeprefix(f"{env.rules}\n").splitlines()[:2]:
        if " ".join(line.split()) not in said:
            raise DataError(
                f"item {trajectory.item_id!r} is another task: {line[:60]!r} is not in its first observation"
            )


@dataclass
class _Compared:
    """An imported trajectory's observations beside the environment's. The first one is left out: it holds the rules."""

    steps: int = 0
    compared: int = 0
    differing: int = 0
    difference: str | None = None

    def add(self, step: int, theirs: str, ours: str) -> None:
        """Compare what precedes a step."""
        self.compared += 1
        if theirs.split() != ours.split():
            self.differing += 1
            told = f"before step {step}: {ours[:60]!r} here, {theirs[:60]!r} in the trajectory"
            self.difference = self.difference or told


class _Here:
    """The environment before an action: which actions only look, and its own state where that can be compared."""

    def __init__(self, env: TextEnv, recorder: EpisodeRecorder) -> None:
        self._env, self._recorder = env, recorder
        self._looks = recorder.call(env.looks)
        self._inner = self._state()

    def is_kept_by(self, action: str) -> bool:
        """Whether the action, which has just been played, left the state as it was."""
        return action in self._looks or (self._env.card.snapshot == "native" and self._state() == self._inner)

    def _state(self) -> Any:
        return self._recorder.call(self._env.snapshot).inner if self._env.card.snapshot == "native" else None


def task_of(trajectory: Trajectory, env: TextEnv, seed: int) -> tuple[Split, int, int]:
    """Split, task and seed of a trajectory.

    An imported trajectory's own texts count before its item id, which can be wrong.

    Raises:
        EnvironmentError: an imported trajectory that the environment does not recognise, of an item that it cannot
            locate.
    """
    if "task" in trajectory.metadata:
        return trajectory.split, int(trajectory.metadata["task"]), int(trajectory.metadata.get("seed", seed))
    split, task = env.recognise(trajectory.messages) or env.locate(trajectory.item_id)
    return split, task, seed
