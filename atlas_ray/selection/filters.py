"""Filters: remove chosen steps once a selection method has chosen (SWE-Lego, arXiv 2601.01426, masks errors so).

A filter judges the trajectories of a selection before the method runs, so that its environment servers are gone when
the method needs the machine. What it removes is recorded in the selection's row. Which filters stand behind a
selection is said in `select.filters` and in the selection itself. How a trajectory is played again is in
`rollout/replay.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from atlas_ray.config import FilterName
from atlas_ray.environments import registry
from atlas_ray.environments.calling import NO_CALL, ONE_CALL
from atlas_ray.environments.contract import TextEnv
from atlas_ray.hashing import content_hash
from atlas_ray.progress import Progress, say
from atlas_ray.react import NO_ACTION, ONE_ACTION
from atlas_ray.rollout.replay import Replay, ReplaySpec
from atlas_ray.selection.chunks import read
from atlas_ray.trajectory import Selection, Trajectory

if TYPE_CHECKING:
    from atlas_ray.selection.chunks import Plan
    from atlas_ray.selection.method import SelectionContext

JOURNAL = ("select", "idle.jsonl")
"""Steps that change nothing and steps that repeat, by trajectory: one replay for both, shared by all selections."""
_NO_USABLE_ACTION = (NO_ACTION, ONE_ACTION, NO_CALL, ONE_CALL)
"""What answers a reply that no environment sees."""
_RULE = ["idle", 1]
"""Of the journal's rows; raised when a replay finds other steps than before."""


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

    def fingerprint(self, context: SelectionContext) -> Any:
        """What of it determines a selection, as JSON."""
        return [self.name, self.version, self.depends_on(context)]

    @abstractmethod
    def judge(self, context: SelectionContext, plan: Plan) -> dict[str, Judgement]:
        """The judgement of every planned trajectory, by its id.

        Args:
            context: of the run.
            plan: which trajectories.
        """


class Errors(Filter):
    """Removes steps that the environment answers with an error: it did not understand the action, or could not do it.

    The texts of the trajectory decide (`TextEnv.is_error`); nothing is played. A reply without an action is an error
    too. A last step whose answer is not recorded is none.
    """

    name = "errors"
    summary = "steps that the environment answers with an error"

    def depends_on(self, context: SelectionContext) -> Any:
        """The environments."""
        return dict(context.environment_versions)

    def judge(self, context: SelectionContext, plan: Plan) -> dict[str, Judgement]:
        """See `Filter.judge`."""
        found: dict[str, Judgement] = {}
        known, made = set(registry.names()), dict[str, TextEnv]()
        with ExitStack() as stack:
            for chunk in plan.chunks:
                for trajectory in read(context.store, chunk):
                    env = trajectory.env
                    if env not in known:
                        error = f"there is no environment {env!r} that could tell its errors"
                        found[trajectory.trajectory_id] = Judgement(error=error)
                        continue
                    if env not in made:
                        options = context.config.collect_options(env)
                        made[env] = stack.enter_context(closing(registry.make(env, **options)))
                    found[trajectory.trajectory_id] = Judgement(frozenset(_errors(made[env], trajectory)))
        return found


def _errors(env: TextEnv, trajectory: Trajectory) -> Iterator[int]:
    """The steps whose answer is an error."""
    for message, answer in pairwise(trajectory.messages):
        if message.step is not None and answer.role == "user":
            text = answer.content
            if text in _NO_USABLE_ACTION or env.is_error(text):
                yield message.step


class _Idle(Filter):
    """Removes steps that a replay finds idle, as `of` says.

    Trajectories are played again on environment servers; no model is needed. A trajectory that cannot be played again
    is judged with an error, and tried again next time.
    """

    of: ClassVar[Literal["unchanged", "repeated"]]
    """The field of a replay that has the steps."""

    def depends_on(self, context: SelectionContext) -> Any:
        """The environments."""
        return dict(context.environment_versions)

    def judge(self, context: SelectionContext, plan: Plan) -> dict[str, Judgement]:
        """See `Filter.judge`."""
        from atlas_ray.rollout.driver import Rollouts
        from atlas_ray.rollout.player import ModelSpec

        rollout, replays = context.config.rollout, _Replays(context, plan, self.name, self.of)
        specs = replays.missing()
        with Rollouts(ModelSpec(), rollout) as rollouts:
            rollouts.add(islice(specs, 2 * rollout.servers * rollout.slots))
            for replay in rollouts:
                assert isinstance(replay, Replay)  # a replay's task has a replay as its result
                replays.take(replay)
                rollouts.add(islice(specs, 1))
        return replays.found


class Looks(_Idle):
    """Removes steps that change nothing, replies without an action among them."""

    name = "looks"
    summary = "steps that change nothing: the state is the same before and after"
    of = "unchanged"


class Repeats(_Idle):
    """Removes steps whose action was taken before in the same state; the first time stays."""

    name = "repeats"
    summary = "steps that repeat an action in a state in which it was taken before"
    of = "repeated"


class _Replays:
    """What replays find in every trajectory: from the journal, or played now and then appended to it.

    Args:
        context: of the run.
        plan: which trajectories.
        name: of the filter, for messages.
        of: which of a replay's fields has the steps.
    """

    def __init__(self, context: SelectionContext, plan: Plan, name: str, of: str) -> None:
        self.found: dict[str, Judgement] = {}
        """By trajectory id."""
        self._config, self._store, self._plan, self._of = context.config, context.store, plan, of
        self._known = {row["key"]: frozenset(row[of]) for row in self._store.journal(*JOURNAL)}
        self._versions: dict[str, str] = {}
        self._under_way: dict[str, str] = {}
        """Keys of the replays that were asked for, by trajectory id."""
        self._progress = Progress(f"filter {name}", plan.n_trajectories, "trajectories")

    def missing(self) -> Iterator[ReplaySpec]:
        """Replays of the trajectories that the journal lacks, read chunk by chunk; the others are judged."""
        config, environments = self._config, set(registry.names())
        for chunk in self._plan.chunks:
            for trajectory in read(self._store, chunk):
                name, env = trajectory.trajectory_id, trajectory.env
                if not trajectory.n_steps:
                    self._settle(name, Judgement())
                elif env not in environments:
                    self._settle(name, Judgement(error=f"there is no environment {env!r} to play it again in"))
                elif (key := self._key(trajectory)) in self._known:
                    self._settle(name, Judgement(self._known[key]))
                else:
                    self._under_way[name] = key
                    yield ReplaySpec(
                        trajectory, frozenset(), config.seed, config.collect_options(env), config.rollout.deadline_s,
                        find_idle=True,
                    )  # fmt: skip

    def take(self, replay: Replay) -> None:
        """Judge by a replay, and keep it unless it failed."""
        name = replay.trajectory_id
        key = self._under_way.pop(name)
        if replay.error is None:
            row = {
                "key": key, "trajectory_id": name, "unchanged": sorted(replay.unchanged),
                "repeated": sorted(replay.repeated),
            }  # fmt: skip
            self._store.append([row], *JOURNAL)
        self._settle(name, Judgement(getattr(replay, self._of), replay.error))

    def _settle(self, name: str, judgement: Judgement) -> None:
        self.found[name] = judgement
        self._progress.add()

    def _key(self, trajectory: Trajectory) -> str:
        """Of a row of the journal; of imported trajectories, the id alone does not tell what was said."""
        env = trajectory.env
        if env not in self._versions:
            self._versions[env] = registry.version(env, self._config.collect_options(env))
        said = [message.model_dump() for message in trajectory.messages]
        return content_hash([_RULE, self._versions[env], trajectory.trajectory_id, said])


FILTERS: Mapping[FilterName, Filter] = {each.name: each for each in (Errors(), Looks(), Repeats())}
"""Every filter by its name."""


def judge(
    context: SelectionContext, filters: Sequence[FilterName], plan: Plan
) -> dict[FilterName, dict[str, Judgement]]:
    """What the filters say of the planned trajectories: by filter, in their order, and by trajectory id."""
    judgements = {name: FILTERS[name].judge(context, plan) for name in filters}
    for name, found in judgements.items():
        steps = sum(len(judgement.steps) for judgement in found.values())
        errors = sum(judgement.error is not None for judgement in found.values())
        say(f"  filter {name}: {steps} steps in {len(found)} trajectories" + (f", {errors} errors" if errors else ""))
    return judgements


def apply(row: Selection, judgements: Mapping[FilterName, Mapping[str, Judgement]]) -> Selection:
    """A selection's row without the steps that the filters remove.

    Its provenance gets `filtered`: by filter, the chosen steps that it removed. A step that two filters would remove is
    the first one's. Scores stay, because they were given to all steps. An error row stays as it is.

    Args:
        row: as the method made it.
        judgements: see `judge`; they know the row's trajectory.
    """
    if row.error is not None or not judgements:
        return row
    kept, removed = list(row.steps), {}
    for name, found in judgements.items():
        judgement = found[row.trajectory_id]
        if judgement.error is not None:
            error = f"filter {name}: {judgement.error}"
            return row.model_copy(update={"steps": (), "weights": None, "categories": None, "error": error})
        removed[name] = [step for step in kept if step in judgement.steps]
        kept = [step for step in kept if step not in judgement.steps]
    indices = [index for index, step in enumerate(row.steps) if step in kept]
    return row.model_copy(
        update={
            "steps": tuple(kept), "weights": _at(row.weights, indices), "categories": _at(row.categories, indices),
            "provenance": row.provenance | {"filtered": removed},
        }
    )  # fmt: skip


def _at(values: tuple[Any, ...] | None, indices: Sequence[int]) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values[index] for index in indices)
