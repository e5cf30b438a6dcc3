"""Selections beside each other: tables, and one sentence on what the selector is worth.

Presentation only: every figure comes from `selection/compare.py`. The drawings are in `drawings.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atlas_ray.report.data import RunData
from atlas_ray.report.tables import NONE, Cell, Table, table, to_markdown
from atlas_ray.report.text import count, percent
from atlas_ray.selection.agreement import CHANCE, Overlap
from atlas_ray.selection.compare import PROFILE_STEPS, TENTHS, Figures, SelectionFigures
from atlas_ray.selection.method import color_of, method_class, names

_LISTED = 6
"""Pairs of selections that have a row each: those of four selections. More stand in a matrix."""


def classes(found: Figures) -> dict[str, str]:
    """The CSS class of every selection, which gives its colour; a name may hold what a class may not."""
    return {each.name: f"s{i}" for i, each in enumerate(found.selections)}


TRUTH = (
    "The experts recorded what their steps are. Productive steps matter, and steps that make up for a mistake; looks "
    "out of habit, mistakes and detours do not. Precision is the share of the chosen steps that matter. Recall is the "
    "share of the steps that matter that were chosen. Percent, 95 % interval over trajectories in brackets."
)


def colors(found: Figures) -> dict[str, tuple[str, str, int]]:
    """By selection: its method's colours on light and on dark ground, and their strength in percent.

    The second and later selections of one method are fainter.
    """
    methods = [each.method for each in found.selections]
    earlier = [methods[:i].count(method) for i, method in enumerate(methods)]
    return {
        each.name: (*color_of(each.method), max(40, 100 - 25 * times))
        for each, times in zip(found.selections, earlier, strict=True)
    }


def summary_table(data: RunData, found: Figures) -> Table:
    """What every selection of the run chose and cost."""
    header = ["selection", "method", "trajectories", "steps chosen", "share of steps", "of their tokens", "calls",
              "rollouts"]  # fmt: skip
    rows: list[list[str | Cell]] = []
    for each in found.selections:
        logged = data.selecting.get(each.name, {})
        usages = [row.usage for row in data.selections[each.name]]
        tokens = sum(usage.prompt_tokens + usage.completion_tokens for usage in usages)
        cost = sum(usage.cost_usd for usage in usages)
        retries = f" (+{logged['retries']} retries)" if logged.get("retries") else ""
        stand_in = " (stand-in)" if data.is_stand_in(each.name) else ""
        rows.append(
            [
                Cell(each.name, key=classes(found)[each.name]), each.method + stand_in,
                f"{count(each.answered)}{_failed(logged)}",
                f"{count(each.picked)} of {count(each.steps)}{_filtered(logged)}", percent(each.step_share),
                percent(logged.get("share_of_tokens")), f"{count(logged.get('calls') or None)}{retries}",
                count(logged.get("rollouts")), count(tokens or None), f"${cost:.4f}" if cost else NONE, _errors(each),
            ]
        )  # fmt: skip
    return table([*header, "selector tokens", "cost", "error rows"], rows, words=(0, 1, 10))


def truth_table(by_environment: Sequence[Figures]) -> Table | None:
    """Precision and recall of every selection in each environment; None where the truth is not known."""
    rows = [
        [
            each.name, figures.environment, count(found.trajectories), _score(found.precision, found.precision_ci95),
            _score(found.recall, found.recall_ci95), count(found.selected), count(found.relevant),
        ]
        for figures in by_environment
        for each in figures.selections
        if (found := each.truth) is not None
    ]  # fmt: skip
    header = ["selection", "environment", "trajectories", "precision", "recall", "steps chosen", "steps that matter"]
    return table(header, rows, words=(0, 1)) if rows else None


def step_table(found: Figures) -> Table | None:
    """How often every step number was chosen; None where no trajectory has a step."""
    profiles = {each.name: each.profile_by_step for each in found.selections}
    known = [i for profile in profiles.values() for i, value in enumerate(profile) if value is not None]
    if not known:
        return None
    width = max(known) + 1
    header = ["step", *(f"{step}+" if step == PROFILE_STEPS else str(step) for step in range(width))]
    return table(header, [_row(name, profile[:width]) for name, profile in profiles.items()])


def category_table(found: Figures) -> Table | None:
    """Shares of the categories; None where no selection names any."""
    named = [each for each in found.selections if each.categories]
    categories = list(dict.fromkeys(name for each in named for name in each.categories))
    rows = [_row(each.name, (each.categories.get(name, 0.0) for name in categories)) for each in named]
    return table(["selection", *categories], rows) if rows else None


def overlap_table(overlaps: Sequence[Overlap]) -> Table | None:
    """Agreement beside that of chance, of many selections as a matrix; None without a pair of selections."""
    if len(overlaps) > _LISTED:
        return _overlap_matrix(overlaps)
    rows = [
        [
            f"{each.first} and {each.second}", str(each.n), f"{each.jaccard:.3f}", f"{each.expected:.3f}",
            f"{each.low:.3f} to {each.high:.3f}", NONE if each.kappa is None else f"{each.kappa:+.2f}", each.verdict,
        ]
        for each in overlaps
    ]  # fmt: skip
    header = ["selections", "trajectories", "overlap", "by chance", "95 % of chance", "beyond chance", "verdict"]
    return table(header, rows, words=(0, 6)) if rows else None


def _overlap_matrix(overlaps: Sequence[Overlap]) -> Table:
    """How far every two selections agree beyond chance."""
    known = {frozenset((each.first, each.second)): each for each in overlaps}
    named = list(dict.fromkeys(name for each in overlaps for name in (each.first, each.second)))

    def cell(row: int, column: int) -> str:
        found = known.get(frozenset((named[row], named[column]))) if column < row else None
        if found is None or found.kappa is None:
            return NONE
        return f"({found.kappa:+.2f})" if found.verdict == CHANCE else f"{found.kappa:+.2f}"

    header = ["agreement beyond chance (in brackets: no more than chance)", *named[:-1]]
    rows = [[named[row], *(cell(row, column) for column in range(len(named) - 1))] for row in range(1, len(named))]
    return table(header, rows)


def worth(data: RunData, found: Figures) -> str:
    """One honest sentence on what the selection that was tuned on is worth, as far as agreement can tell.

    It is about the first selection of `train.selections` that is compared with another, else about the first answered.
    """
    compared = {name for overlap in found.overlaps for name in (overlap.first, overlap.second)}
    answered = {each.name: each for each in found.selections if each.answered and each.favourite is not None}
    wanted = [*data.config.train.selections, *answered]
    name = next((name for name in wanted if name in compared), next((name for name in wanted if name in answered), ""))
    subject = answered.get(name)
    if subject is None or subject.favourite is None:
        return "No selector answered, so there is nothing to judge."
    who = f"The model on board as selector ({name})" if data.is_stand_in(name) else f"The selection {name}"
    parts = []
    for overlap in found.overlaps:
        if name in (overlap.first, overlap.second):
            other = overlap.second if overlap.first == name else overlap.first
            parts.append(
                f"overlap with {other} {overlap.jaccard:.2f}, where chance gives {overlap.expected:.2f} "
                f"({overlap.low:.2f} to {overlap.high:.2f}), so {overlap.verdict}"
            )
    step, share = subject.favourite
    where = f"its most frequent choice is step {step}, in {share:.0%} of the trajectories"
    agreement = "; ".join(parts) or "there is no other selection to compare it with"
    verdict = (
        "its choices are those of a stand-in and not to be trusted as critical steps."
        if data.is_stand_in(name)
        else "agreement alone proves no worth: the comparison of tuned models above does."
    )
    return f"{who}: {agreement}; {where}; {verdict}"


def comparison(found: Sequence[Figures], logged: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of `atlas-ray select compare` in Markdown: what selections cost, and the figures of each environment.

    Args:
        found: the figures; the last ones are of all environments.
        logged: the last row of every selection in `metrics/select.jsonl`, by its name.
    """
    parts = ["# Selections compared", "## Costs", to_markdown(cost_table(found[-1], logged)).rstrip()]
    if any(each.truth is not None for each in found[-1].selections):
        parts.append(TRUTH)
    for figures in found:
        parts.append(f"## {figures.environment} ({figures.trajectories} trajectories)")
        tables = [
            _share_table(figures), truth_table([figures]), category_table(figures), overlap_table(figures.overlaps),
            _tenths(figures),
        ]  # fmt: skip
        parts += [to_markdown(each).rstrip() for each in tables if each is not None]
    return "\n\n".join(parts) + "\n"


def cost_table(found: Figures, logged: Mapping[str, Mapping[str, Any]]) -> Table:
    """What every selection needs and took in all its runs, answers and rollouts of journals included.

    Tokens are those of questions and of rollouts; a prefix that an engine's cache held was read too. Seconds are those
    of the last run, with the start of an engine where it needed one.
    """
    header = ["selection", "needs", "calls", "rollouts", "environment steps", "tokens read", "tokens written", "USD",
              "seconds"]  # fmt: skip
    rows = []
    for each in found.selections:
        row = logged.get(each.name, {})
        played = "rollouts" in row
        calls = row.get("calls", 0) + row.get("cache_hits", 0)
        read = row["prefill_tokens_computed"] + row["prefill_tokens_reused"] if played else row.get("prompt_tokens", 0)
        written = row["generated_tokens"] if played else row.get("completion_tokens", 0)
        cost = row.get("cost_usd", 0.0)
        rows.append(
            [
                each.name, method_class(each.method).needs if each.method in names() else NONE, count(calls or None),
                count(row.get("rollouts")), count(row.get("environment_steps")), count(read or None),
                count(written or None), f"{cost:.4f}" if cost else NONE,
                f"{row['seconds']:,.0f}" if "seconds" in row else NONE,
            ]
        )  # fmt: skip
    return table(header, rows, words=(0, 1))


def _share_table(found: Figures) -> Table:
    header = ["selection", "method", "answered", "share of steps", "share of tokens", "error rows"]
    rows = [
        [each.name, each.method, str(each.answered), percent(each.step_share), percent(each.token_share), _errors(each)]
        for each in found.selections
    ]
    return table(header, rows, words=(0, 1, 5))


def _tenths(found: Figures) -> Table:
    header = ["chosen of the steps in each tenth", *(f"{10 * i}-{10 * i + 10} %" for i in range(TENTHS))]
    return table(header, [_row(each.name, each.profile_by_tenth) for each in found.selections])


def _row(name: str, shares: Iterable[float | None]) -> list[str | Cell]:
    """A selection's shares, on a ground as strong as they are large."""
    return [name, *(Cell(percent(share, 0), shade=share or 0.0) for share in shares)]


def _score(value: float | None, ci95: tuple[float, float] | None) -> str:
    return NONE if value is None or ci95 is None else f"{value:.1f} [{ci95[0]:.1f}, {ci95[1]:.1f}]"


def _failed(logged: Mapping[str, Any]) -> str:
    """How many failed trajectories a selection judged, behind the number of all."""
    failed = logged.get("failed_trajectories")
    return f" ({count(failed)} failed)" if failed else ""


def _filtered(logged: Mapping[str, Any]) -> str:
    """The steps that filters removed, as in ` (looks: 5 removed)`."""
    parts = [f"{name}: {count(steps)} removed" for name, steps in logged.get("filtered", {}).items()]
    return f" ({', '.join(parts)})" if parts else ""


def _errors(each: SelectionFigures) -> str:
    return ", ".join(f"{times} × {kind}" for kind, times in each.errors.items()) or "none"
