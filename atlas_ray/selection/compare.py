"""How selections of the same trajectories differ: shares, categories, positions, overlaps, and distance to the truth.

The only place that computes these figures: `metrics/select.jsonl`, `atlas-ray select compare` and the report all take
them from here. A share counts chosen steps, whatever their weights. The mathematics of overlaps is in `agreement.py`;
tables and drawings are the report's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from atlas_ray.environments.styles import Kind
from atlas_ray.errors import SelectionError
from atlas_ray.evaluation.statistics import PrecisionRecall, precision_recall
from atlas_ray.selection.agreement import Overlap, overlaps
from atlas_ray.selection.chunks import plan, read, read_beside
from atlas_ray.selection.method import method_class, names
from atlas_ray.store import GROUP_ROWS, Store
from atlas_ray.trajectory import Selection, Trajectory

OVERALL = "all environments"
RELEVANT: frozenset[Kind] = frozenset({"productive", "recovery"})
"""Kinds of steps that an agent has to learn; habits, slips and detours are not among them."""
TENTHS = 10
"""Of the profile by tenth: step t of n is in tenth floor(10 t / n)."""
PROFILE_STEPS = 10
"""Step numbers with an entry of their own in the profile by step; all later steps share one more."""


class TrajectoryShape(NamedTuple):
    """What the figures need of a trajectory."""

    env: str
    n_steps: int
    tokens: tuple[int, ...] | None = None
    """Of each step; None where they were not counted."""
    relevant: frozenset[int] | None = None
    """The steps that matter; None where nobody knows."""


@dataclass(frozen=True)
class SelectionFigures:
    """One selection over some trajectories. Shares are means over the answered trajectories that have steps."""

    name: str
    method: str
    answered: int
    """Trajectories with a row that is no error, those without steps included."""
    errors: dict[str, int]
    """Error rows by kind."""
    picked: int
    """Chosen steps."""
    steps: int
    """Steps of the answered trajectories."""
    step_share: float | None
    """Share of a trajectory's steps that is chosen; None when no answered trajectory has a step."""
    token_share: float | None
    """Share of the tokens of a trajectory's steps that the chosen steps hold; None when tokens were not counted."""
    profile_by_tenth: tuple[float | None, ...]
    """Of the steps in each tenth of their trajectories, the share that is chosen; None where there is no such step."""
    profile_by_step: tuple[float | None, ...]
    """Of the trajectories that have a step 0, 1, ..., 9, the share in which it is chosen; the last entry is the share
    of all later steps. None where there is no such step."""
    categories: dict[str, float]
    """Shares of the categories among the chosen steps that have one, largest first; empty where none has."""
    favourite: tuple[int, float] | None
    """The step number chosen in most trajectories of two or more steps, and its share of them; None without any."""
    truth: PrecisionRecall | None
    """Against the steps that matter, over the answered trajectories of which they are known; None without any."""


@dataclass(frozen=True)
class Figures:
    """All selections over the trajectories of one environment, or over all of them."""

    environment: str
    """A name, or `OVERALL`."""
    trajectories: int
    selections: tuple[SelectionFigures, ...]
    overlaps: tuple[Overlap, ...]
    """Of every two selections that share an answered trajectory and whose methods are not derived from others."""

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"overlaps": [overlap.facts() for overlap in self.overlaps]}


class FigureSums:
    """Adds up the figures of one selection row by row; of a row it keeps the steps, if the truth about it is known.

    Args:
        name: of the selection.
        method: of the selection.
    """

    def __init__(self, name: str, method: str) -> None:
        self._name, self._method = name, method
        self._answered = self._picked = self._steps = 0
        self._errors, self._categories, self._in_longer = Counter[str](), Counter[str](), Counter[int]()
        self._with_steps = self._with_tokens = self._longer = 0
        self._step_shares = self._token_shares = 0.0
        self._tenths = _Profile(TENTHS)
        self._numbers = _Profile(PROFILE_STEPS + 1)
        self._selected: dict[str, Collection[int]] = {}
        self._relevant: dict[str, Collection[int]] = {}

    def add(self, row: Selection, shape: TrajectoryShape) -> None:
        """Count one trajectory's row."""
        if row.error is not None:
            self._errors[row.error.partition(":")[0]] += 1
            return
        n = shape.n_steps
        self._answered += 1
        self._picked += len(row.steps)
        self._steps += n
        self._categories.update(row.categories or ())
        self._tenths.add((TENTHS * step // n for step in range(n)), (TENTHS * step // n for step in row.steps))
        last = PROFILE_STEPS
        self._numbers.add((min(step, last) for step in range(n)), (min(step, last) for step in row.steps))
        if shape.relevant is not None:
            self._selected[row.trajectory_id], self._relevant[row.trajectory_id] = row.steps, shape.relevant
        if n:
            self._with_steps += 1
            self._step_shares += len(row.steps) / n
        if n and shape.tokens is not None:
            self._with_tokens += 1
            self._token_shares += sum(shape.tokens[step] for step in row.steps) / sum(shape.tokens)
        if n > 1:
            self._longer += 1
            self._in_longer.update(row.steps)

    def result(self) -> SelectionFigures:
        """The figures of the rows so far."""
        step, times = max(self._in_longer.items(), key=lambda item: (item[1], -item[0]), default=(0, 0))
        named = self._categories.total()
        return SelectionFigures(
            name=self._name, method=self._method, answered=self._answered, errors=dict(sorted(self._errors.items())),
            picked=self._picked, steps=self._steps,
            step_share=self._step_shares / self._with_steps if self._with_steps else None,
            token_share=self._token_shares / self._with_tokens if self._with_tokens else None,
            profile_by_tenth=self._tenths.shares(), profile_by_step=self._numbers.shares(),
            categories={
                name: count / named for name, count in sorted(self._categories.items(), key=lambda i: (-i[1], i[0]))
            },
            favourite=(step, times / self._longer) if times else None,
            truth=precision_recall(self._selected, self._relevant) if self._selected else None,
        )  # fmt: skip


class _Profile:
    """How many steps there are in each bin, and how many of them are chosen."""

    def __init__(self, bins: int) -> None:
        self._present, self._chosen = [0] * bins, [0] * bins

    def add(self, present: Iterable[int], chosen: Iterable[int]) -> None:
        for index in present:
            self._present[index] += 1
        for index in chosen:
            self._chosen[index] += 1

    def shares(self) -> tuple[float | None, ...]:
        return tuple(part / whole if whole else None for part, whole in zip(self._chosen, self._present, strict=True))


def figures(selections: Mapping[str, Iterable[Selection]], shapes: Mapping[str, TrajectoryShape]) -> list[Figures]:
    """The figures of each environment, by name, and then over all of them; a single environment stands for all.

    Args:
        selections: rows by the selection's name. Rows of other trajectories than those in `shapes` are ignored.
        shapes: by trajectory id; see `shapes_of`.

    Returns:
        The last entry is the one over all trajectories.
    """
    rows = {name: [row for row in found if row.trajectory_id in shapes] for name, found in selections.items()}
    environments = sorted({shape.env for shape in shapes.values()})
    if len(environments) != 1:
        environments.append(OVERALL)
    return [_of_environment(name, rows, shapes) for name in environments]


def _of_environment(
    name: str, selections: Mapping[str, Sequence[Selection]], shapes: Mapping[str, TrajectoryShape]
) -> Figures:
    inside = {key: shape for key, shape in shapes.items() if name in (OVERALL, shape.env)}
    rows = {each: [row for row in found if row.trajectory_id in inside] for each, found in selections.items()}
    found = []
    for selection, own in rows.items():
        sums = FigureSums(selection, own[0].method if own else selection)
        for row in own:
            sums.add(row, inside[row.trajectory_id])
        found.append(sums.result())
    comparable = {each.name: rows[each.name] for each in found if not _is_derived(each.method)}
    pairs = overlaps(comparable, {key: shape.n_steps for key, shape in inside.items()})
    return Figures(name, len(inside), tuple(found), tuple(pairs))


def _is_derived(method: str) -> bool:
    """Of a method whose package is not installed any more nothing is known: it counts as one that can be compared."""
    return method in names() and method_class(method).derived


def stored(
    store: Store,
    wanted: Sequence[str],
    count: Callable[[list[str]], list[int]] | None,
    ids: Collection[str] | None = None,
) -> list[Figures]:
    """`figures` of stored selections. Trajectories are read chunk by chunk; only their shapes and picks are kept.

    A selection of trajectories that its method made has figures over these, and no overlap with others.

    Args:
        store: the run directory.
        wanted: names of the selections.
        count: tokens of texts (`models.token_counter`); None leaves the share of tokens out.
        ids: the trajectories to compare on; None: all.

    Raises:
        SelectionError: no selection is named, or one has no row for a trajectory.
    """
    if not wanted:
        raise SelectionError("there is no selection to compare; run atlas-ray select first")
    shapes: dict[str, TrajectoryShape] = {}
    rows: dict[str, list[Selection]] = defaultdict(list)
    common = [name for name in wanted if store.trajectory_folder(name) == store.trajectory_folder()]
    for names_of in [common, *([name] for name in wanted if name not in common)]:
        for chunk in plan(store, ids, GROUP_ROWS, next(iter(names_of), None)).chunks:
            trajectories = read(store, chunk)
            shapes |= shapes_of(trajectories, count)
            for name in names_of:
                rows[name] += [_lean(row) for row in read_beside(store, name, trajectories)]
    return figures({name: rows[name] for name in wanted}, shapes)


def _lean(row: Selection) -> Selection:
    """What the figures need of a row."""
    return row.model_copy(update={"scores": None, "plan": None, "reason": None, "provenance": {}})


def shapes_of(
    trajectories: Iterable[Trajectory], count: Callable[[list[str]], list[int]] | None
) -> dict[str, TrajectoryShape]:
    """Environment, number of steps, tokens of every step, and the steps that matter, by trajectory id.

    A step's tokens are those of its text and the end-of-turn token (docs/architecture.md, decision 3). The texts are
    counted by themselves, which is much faster than `chat.encode` and differs from it only where a template's
    whitespace merges with the text. Which steps matter is known of trajectories whose expert recorded their kinds.

    Args:
        trajectories: whose steps.
        count: tokens of texts; None: tokens are not counted.
    """
    whole = list(trajectories)
    shapes = {each.trajectory_id: TrajectoryShape(each.env, each.n_steps, None, _relevant(each)) for each in whole}
    if count is None:
        return shapes
    counts = iter(count([message.content for each in whole for message in each.steps]))
    return {
        name: shape._replace(tokens=tuple(next(counts) + 1 for _ in range(shape.n_steps)))
        for name, shape in shapes.items()
    }


def kinds_of(trajectory: Trajectory) -> Sequence[Kind] | None:
    """The kind of every step; None where no expert of ours recorded it: an import's metadata have their own words."""
    return trajectory.metadata.get("kinds") if trajectory.source == "expert" else None


def _relevant(trajectory: Trajectory) -> frozenset[int] | None:
    kinds = kinds_of(trajectory)
    return None if kinds is None else frozenset(step for step, kind in enumerate(kinds) if kind in RELEVANT)
