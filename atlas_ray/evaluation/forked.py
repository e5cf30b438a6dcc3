"""Episodes that fork off trajectories: every trajectory is replayed once, and a model plays on from before its steps.

Value estimates and the verification of critical steps both play such episodes; which steps, how many episodes, and what
they tell is decided by them. Episodes are appended to a journal as they finish, so that a rerun plays only those that
the journal lacks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from atlas_ray.config import PipelineConfig, Playing
from atlas_ray.environments import registry
from atlas_ray.progress import Progress, say
from atlas_ray.rollout.driver import Rollouts
from atlas_ray.rollout.player import playing as playing_model
from atlas_ray.rollout.replay import Replay, ReplaySpec
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.roster import RosterEntry
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode, Trajectory


class Fork(NamedTuple):
    """An episode from before a step of a trajectory."""

    step: int
    """The first step that the model plays itself."""
    sample: int = 0
    """Tells episodes from the same step apart."""


@dataclass
class Forked:
    """A trajectory, its replay, and the episodes that forked off it."""

    trajectory: Trajectory
    steps: frozenset[int] | None = None
    """The steps before which episodes may fork; None: every step."""
    replay: Replay | None = None
    episodes: dict[Fork, Episode] = field(default_factory=dict)
    under_way: int = 0
    """Episodes asked for that have not finished."""

    @property
    def replayed(self) -> Replay:
        """The replay, of a trajectory that `ForkedRollouts` has yielded."""
        assert self.replay is not None
        return self.replay

    @property
    def error(self) -> str | None:
        """Why nothing follows from the episodes: the replay or some of the episodes failed."""
        if self.replay is None:
            return "replay: not played"
        if self.replay.error is not None:
            return f"replay: {self.replay.error}"
        failed = [episode.error for episode in self.episodes.values() if episode.error is not None]
        return f"rollouts: {len(failed)} of {len(self.episodes)} failed ({failed[0]})" if failed else None

    def scores(self, most: int | None = None) -> list[list[float]]:
        """The scores of the episodes from before each step, of the first `most` samples, in the order of samples."""
        found: list[list[float]] = [[] for _ in range(self.trajectory.n_steps)]
        for fork in sorted(self.episodes):
            if most is None or fork.sample < most:
                found[fork.step].append(self.episodes[fork].score)
        return found


class ForkedRollouts:
    """Iterate to get each trajectory when it has been replayed, and whenever the episodes asked for have finished.

    Args:
        config: of the run.
        store: its run directory.
        entry: the model that plays.
        playing: how it plays.
        forked: the trajectories.
        journal: path of the journal in the run directory.
        rollouts: plays with the model.
        progress: counts episodes.
        by_expert: episodes begin after the step that the environment's expert takes in a step's place, instead of
            before the step; see `ReplaySpec`.
    """

    def __init__(
        self, config: PipelineConfig, store: Store, entry: RosterEntry, playing: Playing, forked: Sequence[Forked],
        journal: tuple[str, ...], rollouts: Rollouts, progress: Progress, *, by_expert: bool = False,
    ) -> None:  # fmt: skip
        self._config, self._store, self._entry, self._playing = config, store, entry, playing
        self._journal, self._rollouts, self._progress = journal, rollouts, progress
        self._finished: dict[str, Episode] = {}
        for row in store.journal(*journal):
            if row["episode"]["error"] is None:
                self._finished[row["episode"]["key"]] = Episode.model_validate(row["episode"])
        self._forked = {each.trajectory.trajectory_id: each for each in forked}
        self._versions = {
            env: registry.version(env, self._options(env)) for env in {each.trajectory.env for each in forked}
        }
        self._under_way: dict[str, tuple[Forked, Fork]] = {}
        """Trajectory and fork of the episodes under way, by key."""
        self._idle: deque[Forked] = deque()
        rollouts.add(
            ReplaySpec(each.trajectory, each.steps, config.seed, self._options(each.trajectory.env),
                       config.rollout.deadline_s, by_expert=by_expert)
            for each in forked
        )  # fmt: skip

    def ask(self, forked: Forked, forks: Sequence[Fork]) -> None:
        """Ask for episodes; the trajectory is yielded again when all of them have finished."""
        for fork in forks:
            spec = self._spec(forked, fork)
            if spec.key in self._finished:
                self._take(forked, fork, self._finished[spec.key])
            else:
                self._under_way[spec.key] = (forked, fork)
                forked.under_way += 1
                self._rollouts.add([spec])
        if forks and not forked.under_way:
            self._idle.append(forked)

    def __iter__(self) -> Iterator[Forked]:
        for result in self._rollouts:
            if isinstance(result, Replay):
                forked = self._forked[result.trajectory_id]
                forked.replay = result
            else:
                forked, fork = self._under_way.pop(result.key)
                row = {"trajectory_id": forked.trajectory.trajectory_id, "step": fork.step, "sample": fork.sample}
                self._store.append([row | {"episode": result.model_dump(mode="json")}], *self._journal)
                self._take(forked, fork, result)
                forked.under_way -= 1
            if not forked.under_way:
                self._idle.append(forked)
            while self._idle:
                forked = self._idle.popleft()
                if not forked.under_way:  # else it was asked for more meanwhile
                    yield forked

    def _take(self, forked: Forked, fork: Fork, episode: Episode) -> None:
        forked.episodes[fork] = episode
        self._progress.add()

    def _spec(self, forked: Forked, fork: Fork) -> EpisodeSpec:
        env, replay = forked.trajectory.env, forked.replayed
        return EpisodeSpec(
            model=self._entry.name, model_key=self._entry.player_key(self._config.engine), env=env, task=replay.task,
            split=replay.split, seed=replay.seed, playing=self._playing, options=self._options(env),
            env_version=self._versions[env], start=replay.starts[fork.step], sample=fork.sample,
            deadline_s=self._config.rollout.deadline_s,
        )  # fmt: skip

    def _options(self, env: str) -> dict[str, Any]:
        return self._config.collect_options(env)


@contextmanager
def forked_rollouts(
    config: PipelineConfig, store: Store, entry: RosterEntry, playing: Playing, forked: Sequence[Forked],
    journal: tuple[str, ...], progress: Progress,
) -> Iterator[ForkedRollouts]:  # fmt: skip
    """`ForkedRollouts` with the model's engines and environment servers, which live until the block ends.

    Raises:
        EngineError: an engine did not start.
        ModelError: the model has no tokenizer.
    """
    with playing_model(entry, config.engine) as model, Rollouts(model, config.rollout) as rollouts:
        yield ForkedRollouts(config, store, entry, playing, forked, journal, rollouts, progress)
    for line in differences(forked):
        say(f"  {line}")


def costs(forked: Sequence[Forked], others: Sequence[Episode] = ()) -> dict[str, int]:
    """What replays and episodes cost, in episodes (`rollouts`), environment steps and tokens.

    Args:
        forked: with their replays and episodes.
        others: episodes that were played besides.
    """
    episodes = [*others, *(episode for each in forked for episode in each.episodes.values())]
    replay_steps = sum(each.replay.environment_steps for each in forked if each.replay is not None)
    cached = sum(episode.cached_tokens for episode in episodes)
    return {
        "rollouts": len(episodes),
        "environment_steps": replay_steps + sum(episode.environment_steps for episode in episodes),
        "replay_steps": replay_steps,
        "prefill_tokens_computed": sum(episode.prompt_tokens for episode in episodes) - cached,
        "prefill_tokens_reused": cached,
        "generated_tokens": sum(episode.completion_tokens for episode in episodes),
    }


def differences(forked: Sequence[Forked]) -> list[str]:
    """How the replays of imported trajectories compare with what they say: a line for each environment."""
    replays: dict[str, list[Replay]] = {}
    for each in forked:
        if each.replay is not None and each.replay.compared:
            replays.setdefault(each.trajectory.env, []).append(each.replay)
    lines = []
    for env, found in sorted(replays.items()):
        compared, differing = sum(each.compared for each in found), sum(each.differing for each in found)
        line = f"{env}: {compared - differing} of {compared} observations of {len(found)} imports are equal"
        first = next((each for each in found if each.difference is not None), None)
        lines.append(line if first is None else f"{line}; first difference: {first.trajectory_id} {first.difference}")
    return lines
