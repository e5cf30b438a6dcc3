"""Filters: remove chosen steps once a selection method has chosen.

A filter judges the trajectories of a selection before the method runs, so that its environment servers are gone when
the method needs the machine. What it removes is recorded in the selection's row. Which filters stand behind a
selection is said in `select.filters` and in the selection itself. How a trajectory is played again is in
`rollout/replay.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from atlas_ray.config import FilterName
from atlas_ray.environments import registry
from atlas_ray.hashing import content_hash
from atlas_ray.progress import Progress, say
from atlas_ray.rollout.replay import Replay, ReplaySpec
from atlas_ray.selection.chunks import read
from atlas_ray.trajectory import Selection, Trajectory

if TYPE_CHECKING:
    from atlas_ray.selection.chunks import Plan
    from atlas_ray.selection.method import SelectionContext

JOURNAL = ("select", "unchanged.jsonl")
"""Steps that change nothing, by trajectory: what all selections behind `looks` share."""


@dataclass(frozen=True)
class Judgement:
    """What a filter says of one trajectory."""

    steps: frozenset[int] = frozenset()
    """The steps that it removes from what was chosen."""
    error: str | None = None
    """Why it cannot tell; the trajectory's selection is then an error row."""


class Filter(ABC):
    """Removes chosen steps."""

    name: ClassVar[FilterName]
    summary: ClassVar[str]
    """One line for the docs."""
    version: ClassVar[int] = 1
    """Raised when the same trajectories are judged otherwise than before."""

    def depends_on(self, context: SelectionContext) -> Any:
        """What determines its judgements besides the trajectories, as JSON."""
        del context
        return None

    @abstractmethod
    def judge(self, context: SelectionContext, plan: Plan) -> dict[str, Judgement]:
        """The judgement of every planned trajectory, by its id.

        Args:
            context: of the run.
            plan: which trajectories.
        """


class Looks(Filter):
    """Removes steps that change nothing: the environment's state is the same before and after.

    Trajectories are played again on environment servers; no model is needed. A reply without an action changes
    nothing either. A trajectory that cannot be played again is judged with an error, and tried again next time.
    """

    name = "looks"
    summary = "steps that change nothing: the state is the same before and after"

    def depends_on(self, context: SelectionContext) -> Any:
        """The environments."""
        return dict(context.environment_versions)

    def judge(self, context: SelectionContext, plan: Plan) -> dict[str, Judgement]:
        """See `Filter.judge`."""
        from atlas_ray.rollout.driver import Rollouts
        from atlas_ray.rollout.player import ModelSpec

        config, store = context.config, context.store
        found: dict[str, Judgement] = {}
        under_way: dict[str, str] = {}
        specs = self._missing(context, plan, found, under_way)
        progress = Progress("select looks", plan.n_trajectories, "trajectories")
        with Rollouts(ModelSpec(), config.rollout) as rollouts:
            rollouts.add(islice(specs, 2 * config.rollout.servers * config.rollout.slots))
            for replay in rollouts:
                assert isinstance(replay, Replay)  # a replay's task has a replay as its result
                key = under_way.pop(replay.trajectory_id)
                if replay.error is None:
                    row = {"key": key, "trajectory_id": replay.trajectory_id, "steps": sorted(replay.unchanged)}
                    store.append([row], *JOURNAL)
                found[replay.trajectory_id] = Judgement(replay.unchanged, replay.error)
                progress.add()
                rollouts.add(islice(specs, 1))
        return found

    def _missing(
        self, context: SelectionContext, plan: Plan, found: dict[str, Judgement], under_way: dict[str, str]
    ) -> Iterator[ReplaySpec]:
        """Replays of the trajectories that the journal lacks, read chunk by chunk.

        Args:
            context: of the run.
            plan: which trajectories.
            found: filled with the judgements that need no replay.
            under_way: filled with the keys of the replays, by trajectory id.
        """
        config, store = context.config, context.store
        known = {row["key"]: frozenset(row["steps"]) for row in store.journal(*JOURNAL)}
        environments = set(registry.names())
        versions: dict[str, str] = {}
        for chunk in plan.chunks:
            for trajectory in read(store, chunk):
                name, env = trajectory.trajectory_id, trajectory.env
                if not trajectory.n_steps:
                    found[name] = Judgement()
                    continue
                if env not in environments:
                    found[name] = Judgement(error=f"there is no environment {env!r} to play it again in")
                    continue
                options = config.collect_options(env)
                if env not in versions:
                    versions[env] = registry.version(env, options)
                key = self._key(trajectory, versions[env])
                if key in known:
                    found[name] = Judgement(known[key])
                    continue
                under_way[name] = key
                yield ReplaySpec(
                    trajectory, frozenset(), config.seed, options, config.rollout.deadline_s, find_unchanged=True
                )

    def _key(self, trajectory: Trajectory, env_version: str) -> str:
        """Of a row of the journal; imported trajectories of equal ids may differ."""
        said = [message.model_dump() for message in trajectory.messages]
        return content_hash([self.name, self.version, env_version, trajectory.trajectory_id, said])


FILTERS: Mapping[FilterName, Filter] = {each.name: each for each in (Looks(),)}
"""Every filter by its name."""


class FilteredSteps:
    """Removes steps from the rows of one selection, and counts them.

    Args:
        judgements: by trajectory id, for each filter in the order in which they are applied.
    """

    def __init__(self, judgements: Mapping[FilterName, Mapping[str, Judgement]]) -> None:
        self._judgements = judgements
        self.removed: Counter[str] = Counter(dict.fromkeys(judgements, 0))
        """Steps by the filter that removed them."""

    def apply(self, row: Selection) -> Selection:
        """The row without what the filters remove, with their names and steps in its provenance.

        Scores stay, because they were given to all steps. An error row stays as it is.
        """
        if row.error is not None:
            return row
        judged = {name: found[row.trajectory_id] for name, found in self._judgements.items()}
        for name, judgement in judged.items():
            if judgement.error is not None:
                error = f"filter {name}: {judgement.error}"
                return row.model_copy(update={"steps": (), "weights": None, "categories": None, "error": error})
        kept = list(row.steps)
        removed: dict[str, list[int]] = {}
        for name, judgement in judged.items():
            removed[name] = [step for step in kept if step in judgement.steps]
            kept = [step for step in kept if step not in judgement.steps]
            self.removed[name] += len(removed[name])
        beside = [index for index, step in enumerate(row.steps) if step in kept]
        return row.model_copy(
            update={
                "steps": tuple(kept), "weights": _at(row.weights, beside), "categories": _at(row.categories, beside),
                "provenance": row.provenance | {"filtered": removed},
            }
        )  # fmt: skip


def judge(context: SelectionContext, filters: Sequence[FilterName], plan: Plan) -> FilteredSteps:
    """Let the filters of a selection judge the planned trajectories."""
    judgements = {name: FILTERS[name].judge(context, plan) for name in filters}
    for name, found in judgements.items():
        errors = sum(judgement.error is not None for judgement in found.values())
        steps = sum(len(judgement.steps) for judgement in found.values())
        say(f"  filter {name}: {steps} steps in {len(found)} trajectories" + (f", {errors} errors" if errors else ""))
    return FilteredSteps(judgements)


def filters_of(row: Selection) -> tuple[str, ...]:
    """The names of the filters that a row went through."""
    return tuple(row.provenance.get("filtered", ()))


def _at(values: tuple[Any, ...] | None, indices: Sequence[int]) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values[index] for index in indices)
