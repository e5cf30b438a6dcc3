"""What the selection methods did: how much they picked, where, and whether they agree more than chance would.

The yardstick of agreement is what random picks of the same counts would give (`selection/agreement.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from atlas_ray.report.data import RunData
from atlas_ray.report.findings import stand_in
from atlas_ray.selection.agreement import Agreement, agreements, position_profile
from atlas_ray.trajectory import Selection

PROFILE_STEPS = 10
"""Step numbers with a column of their own in a position profile."""
_NOISE = 1e-9
_DERIVED = ("all", "non_critical")
"""Methods whose overlap with others follows from their definition."""


@dataclass(frozen=True)
class MethodRow:
    """One method over all of its trajectories."""

    method: str
    trajectories: int
    """Answered ones, without error rows."""
    errors: dict[str, int]
    """Error rows by kind."""
    picked: int
    steps: int
    """Steps of the answered trajectories."""
    step_share: float
    """Mean over trajectories."""
    token_share: float | None
    """Share of the steps' tokens, mean over trajectories; None when it was not logged."""
    profile: list[float | None]
    """Of the trajectories that have a step 0, 1, ..., the share in which it was picked; then all later steps."""
    categories: dict[str, float]
    """Of the picked steps that were given a category, the share of each; empty where the method gives none."""
    favourite: tuple[int, float]
    """The step number picked in most trajectories of two or more steps, and in what share of them."""
    tokens: int
    """Prompt and answer tokens of the selector model."""
    calls: int
    """Questions put to the selector model, and tried again, in the last run."""
    retries: int
    cost_usd: float
    stand_in: bool


@dataclass(frozen=True)
class Overlap:
    """Agreement of two methods: mean Jaccard overlap over the trajectories that both answered."""

    first: str
    second: str
    trajectories: int
    jaccard: float
    expected: float
    """Of random picks of the same counts."""
    low: float
    high: float
    """Where 95 % of such random picks' means lie."""

    @property
    def verdict(self) -> str:
        """Against chance."""
        if self.jaccard > self.high + _NOISE:
            return "more than chance"
        return "less than chance" if self.jaccard < self.low - _NOISE else "no more than chance"


def method_rows(data: RunData) -> list[MethodRow]:
    """One row a method, in the order of the config; methods without any row are left out."""
    return [_method_row(data, method, rows) for method, rows in data.selections.items() if rows]


def _method_row(data: RunData, method: str, rows: Sequence[Selection]) -> MethodRow:
    answered = [(row, data.trajectories[row.trajectory_id]) for row in _known(data, rows) if row.error is None]
    picked = sum(len(row.steps) for row, _ in answered)
    steps = sum(trajectory.n_steps for _, trajectory in answered)
    shares = [len(row.steps) / trajectory.n_steps for row, trajectory in answered if trajectory.n_steps]
    logged = data.selecting.get(method, {})
    longer = [row for row, trajectory in answered if trajectory.n_steps > 1]
    counts = Counter(step for row in longer for step in row.steps)
    step, times = max(counts.items(), key=lambda item: (item[1], -item[0]), default=(0, 0))
    return MethodRow(
        method=method,
        trajectories=len(answered),
        errors=dict(Counter(row.error.partition(":")[0] for row in rows if row.error is not None)),
        picked=picked,
        steps=steps,
        step_share=fmean(shares) if shares else 0.0,
        token_share=logged.get("share_of_tokens"),
        profile=_profile(data, rows),
        categories=_categories([row for row, _ in answered]),
        favourite=(step, times / len(longer) if longer else 0.0),
        tokens=sum(row.usage.prompt_tokens + row.usage.completion_tokens for row in rows),
        calls=logged.get("calls", 0),
        retries=logged.get("retries", 0),
        cost_usd=math.fsum(row.usage.cost_usd for row in rows),
        stand_in=stand_in(data, method),
    )


def _categories(rows: Sequence[Selection]) -> dict[str, float]:
    counts = Counter(name for row in rows for name in row.categories or ())
    return {name: count / counts.total() for name, count in sorted(counts.items(), key=lambda item: -item[1])}


def _profile(data: RunData, rows: Sequence[Selection]) -> list[float | None]:
    counts = position_profile(_known(data, rows), _n_steps(data))
    head, later = counts[:PROFILE_STEPS], counts[PROFILE_STEPS:]
    head += [(0, 0)] * (PROFILE_STEPS - len(head))
    columns = [*head, (sum(picked for picked, _ in later), sum(there for _, there in later))]
    return [picked / there if there else None for picked, there in columns]


def overlaps(data: RunData) -> list[Overlap]:
    """Every pair of methods that could differ and share a trajectory."""
    rows = {method: _known(data, rows) for method, rows in data.selections.items() if method not in _DERIVED}
    return [_overlap(agreement) for agreement in agreements(rows, _n_steps(data))]


def _overlap(found: Agreement) -> Overlap:
    low, high = found.expected - 1.96 * found.spread, found.expected + 1.96 * found.spread
    return Overlap(found.first, found.second, found.n, found.jaccard, found.expected, max(0.0, low), min(1.0, high))


def _known(data: RunData, rows: Iterable[Selection]) -> list[Selection]:
    return [row for row in rows if row.trajectory_id in data.trajectories]


def _n_steps(data: RunData) -> dict[str, int]:
    return {key: trajectory.n_steps for key, trajectory in data.trajectories.items()}


def worth(data: RunData) -> str:
    """One honest sentence on what the selector of the tuned model is worth, as far as agreement can tell."""
    rows = {row.method: row for row in method_rows(data)}
    name = "llm" if "llm" in rows else next((n for n in data.config.train.selections if n in rows), "")
    if not name or name in _DERIVED or not rows[name].trajectories:
        return "No selector answered, so there is nothing to judge."
    row = rows[name]
    who = f"The model on board as selector ({name})" if row.stand_in else f"The selector ({name})"
    parts = []
    for overlap in overlaps(data):
        if name in (overlap.first, overlap.second):
            other = overlap.second if overlap.first == name else overlap.first
            parts.append(
                f"overlap with {other} {overlap.jaccard:.2f}, where chance gives {overlap.expected:.2f} "
                f"({overlap.low:.2f} to {overlap.high:.2f}), so {overlap.verdict}"
            )
    step, share = row.favourite
    where = f"its most frequent pick is step {step}, in {share:.0%} of the trajectories"
    if "random" in rows and name != "random":
        where += f" (random picks: step {rows['random'].favourite[0]}, {rows['random'].favourite[1]:.0%})"
    agreement = "; ".join(parts) or "there is no other method to compare it with"
    verdict = (
        "its choices are those of a stand-in and not to be trusted as critical steps."
        if row.stand_in
        else "agreement alone proves no worth: the comparison of tuned models above does."
    )
    return f"{who}: {agreement}; {where}; {verdict}"
