"""Replay: plays a trajectory's actions again, keeps the environment's state before its steps, and finds the steps that
change nothing or repeat an earlier one.

Episodes can then begin at those steps, or after what the environment's expert does in their place. Environment servers
do replays as they play episodes. What the episodes are for (value estimates, verification) is decided in
`evaluation/forked.py` and by its callers; what is done about idle steps, in `selection/filters.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from atlas_ray.environments.contract import TextEnv, first_texts
from atlas_ray.errors import DataError
from atlas_ray.react import format_reply, last_line, parse_reply
from atlas_ray.rollout.episode import EpisodeRecorder, one_line
from atlas_ray.rollout.spec import Start
from atlas_ray.trajectory import Message, Split, Trajectory


@dataclass(frozen=True)
class Replay:
    """The result of replaying a trajectory."""

    trajectory_id: str
    task: int = 0
    split: Split = "train"
    seed: int = 0
    starts: dict[int, Start] = field(default_factory=dict)
    """By the step that an episode from this start plays first, or that the expert has played; see `ReplaySpec`."""
    unchanged: frozenset[int] = frozenset()
    """The steps that change nothing, if they were asked for; see `ReplaySpec`."""
    repeated: frozenset[int] = frozenset()
    """The steps that repeat an earlier one, if they were asked for."""
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
        find_idle: find the steps that leave the environment's own state and the score as they were, and those whose
            action was taken in the same state before. An action that `TextEnv.looks` lists leaves the state as it was;
            where snapshots are replays, no other one does.
        by_expert: keep the starts after the step that the environment's expert takes in a step's place, instead of
            those before the step. A step whose action is the expert's has none.
    """

    trajectory: Trajectory
    steps: frozenset[int] | None = None
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    deadline_s: float = 900.0
    find_idle: bool = False
    by_expert: bool = False

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
    imported = trajectory.is_imported
    if imported and "task" not in trajectory.metadata and env.recognise(trajectory.messages) is None:
        _check_beginning(trajectory, env, observation)
    seen = _Compared()
    starts: dict[int, Start] = {}
    idle = _Idle(env, recorder) if spec.find_idle else None
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
        is_kept = spec.steps is None or message.step in spec.steps
        if is_kept:
            starts[message.step] = Start(trajectory.trajectory_id, message.step, before, recorder.call(env.snapshot))
        reply = parse_reply(message.content, env.card.action_rule)
        if imported and reply.action is None and "action:" not in message.content.lower():
            reply = reply._replace(action=last_line(message.content))
        if is_kept and spec.by_expert:
            _put_expert(env, starts, message.step, reply.action, recorder)
        if idle is not None:
            idle.begin(message.step, reply.action)
        if reply.action is None:
            observation = str(reply.problem)
            continue
        recorder.environment_steps += 1
        observation, reward, terminated, _, info = recorder.call(env.step, reply.action)
        if idle is not None:
            idle.end(message.step, reply.action, moved=terminated or reward != 0)
        score = float(info["score"])
    if trajectory.reward is not None and score < trajectory.reward - 1e-6:
        raise DataError(f"its actions end with score {score:g}, the trajectory's reward is {trajectory.reward:g}")
    if imported and trajectory.messages and trajectory.messages[-1].role != "assistant":
        seen.add(trajectory.n_steps, trajectory.messages[-1].content, observation)
    return Replay(
        trajectory.trajectory_id, task, split, seed, starts,
        frozenset(idle.unchanged if idle else ()), frozenset(idle.repeated if idle else ()), score,
        seen.compared, seen.differing, seen.difference, recorder.environment_steps,
    )  # fmt: skip


def _put_expert(
    env: TextEnv, starts: dict[int, Start], step: int, action: str | None, recorder: EpisodeRecorder
) -> None:
    """Replace the start before a step by the one after the expert's step in its place; drop it if they act alike."""
    before = starts.pop(step)
    thought, own = recorder.call(env.expert().next_action, before.messages[-1].content)
    if own == action:
        return
    recorder.environment_steps += 1
    observation = recorder.call(env.step, own)[0]
    turns = (
        Message(role="assistant", content=format_reply(thought, own), step=step),
        Message(role="user", content=observation),
    )
    starts[step] = Start(before.trajectory_id, step + 1, (*before.messages, *turns), recorder.call(env.snapshot))
    recorder.call(env.restore, before.state)


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


class _Idle:
    """The steps so far that change nothing, and those that repeat an earlier one.

    Two states are the same if the environment's own states are equal, where these can be compared; and if only steps
    that change nothing lie between them. A reply without an action changes nothing, and repeats nothing.
    """

    def __init__(self, env: TextEnv, recorder: EpisodeRecorder) -> None:
        self._env, self._recorder = env, recorder
        self.unchanged: set[int] = set()
        self.repeated: set[int] = set()
        self._changes = 0
        """Steps so far that changed something."""
        self._taken: dict[str, list[tuple[int, Any]]] = {}
        """By action: the number of changes before it and the state, each time that it was taken."""

    def begin(self, step: int, action: str | None) -> None:
        """Look at the environment before a step."""
        if action is None:
            self.unchanged.add(step)
            return
        self._looks, self._before = self._recorder.call(self._env.looks), self._state()
        taken = self._taken.setdefault(action, [])
        if any(changes == self._changes or self._is_at(state) for changes, state in taken):
            self.repeated.add(step)
        taken.append((self._changes, self._before))

    def end(self, step: int, action: str, *, moved: bool) -> None:
        """Look at the environment after the step's action; `moved`: the score rose or the episode ended."""
        if not moved and (action in self._looks or (self._is_native and self._state() == self._before)):
            self.unchanged.add(step)
        else:
            self._changes += 1

    @property
    def _is_native(self) -> bool:
        return self._env.card.snapshot == "native"

    def _is_at(self, state: Any) -> bool:
        return self._is_native and bool(self._before == state)

    def _state(self) -> Any:
        return self._recorder.call(self._env.snapshot).inner if self._is_native else None


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
