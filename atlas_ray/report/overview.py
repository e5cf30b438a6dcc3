"""What the selection methods did: how much they picked, where, and whether they agree more than chance would.

The yardstick of agreement is the overlap of random picks of the same counts in the same trajectories, whose mean
and spread are known exactly (a hypergeometric law).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from atlas_ray.report.data import RunData
from atlas_ray.report.findings import stand_in
from atlas_ray.trajectory import Selection, Trajectory

PROFILE_STEPS = 10
"""Step numbers with a column of their own in a position profile."""
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
        if self.jaccard > self.high:
            return "more than chance"
        return "less than chance" if self.jaccard < self.low else "no more than chance"


def method_rows(data: RunData) -> list[MethodRow]:
    """One row a method, in the order of the config; methods without any row are left out."""
    return [_method_row(data, method, rows) for method, rows in data.selections.items() if rows]


def _method_row(data: RunData, method: str, rows: Sequence[Selection]) -> MethodRow:
    answered = [
        (row, data.trajectories[row.trajectory_id])
        for row in rows
        if row.error is None and row.trajectory_id in data.trajectories
    ]
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
        profile=_profile(answered),
        favourite=(step, times / len(longer) if longer else 0.0),
        tokens=sum(row.usage.prompt_tokens + row.usage.completion_tokens for row in rows),
        calls=logged.get("calls", 0),
        retries=logged.get("retries", 0),
        cost_usd=math.fsum(row.usage.cost_usd for row in rows),
        stand_in=stand_in(data, method),
    )


def _profile(answered: Sequence[tuple[Selection, Trajectory]]) -> list[float | None]:
    there, picked = Counter[int](), Counter[int]()
    for row, trajectory in answered:
        there.update(min(step, PROFILE_STEPS) for step in range(trajectory.n_steps))
        picked.update(min(step, PROFILE_STEPS) for step in row.steps)
    return [picked[step] / there[step] if there[step] else None for step in range(PROFILE_STEPS + 1)]


def overlaps(data: RunData) -> list[Overlap]:
    """Every pair of methods that could differ and share a trajectory."""
    chosen = {
        method: {row.trajectory_id: set(row.steps) for row in rows if row.error is None}
        for method, rows in data.selections.items()
        if method not in _DERIVED
    }
    found = []
    for first, second in combinations(chosen, 2):
        cases = [
            (data.trajectories[key].n_steps, chosen[first][key], chosen[second][key])
            for key in sorted(chosen[first].keys() & chosen[second].keys() & data.trajectories.keys())
        ]
        cases = [case for case in cases if case[1] or case[2]]
        if cases:
            found.append(_overlap(first, second, cases))
    return found


def _overlap(first: str, second: str, cases: Sequence[tuple[int, set[int], set[int]]]) -> Overlap:
    observed = [len(a & b) / len(a | b) for _, a, b in cases]
    chance = [chance_jaccard(n, len(a), len(b)) for n, a, b in cases]
    expected = math.fsum(mean for mean, _ in chance) / len(cases)
    spread = 1.96 * math.sqrt(math.fsum(variance for _, variance in chance)) / len(cases)
    mean = math.fsum(observed) / len(cases)
    return Overlap(first, second, len(cases), mean, expected, max(0.0, expected - spread), min(1.0, expected + spread))


def chance_jaccard(n: int, a: int, b: int) -> tuple[float, float]:
    """Mean and variance of the Jaccard overlap of random sets of `a` and `b` of `n` steps; not both empty."""
    total = math.comb(n, b)
    weights = {k: math.comb(a, k) * math.comb(n - a, b - k) / total for k in range(max(0, a + b - n), min(a, b) + 1)}
    mean = math.fsum(weight * k / (a + b - k) for k, weight in weights.items())
    square = math.fsum(weight * (k / (a + b - k)) ** 2 for k, weight in weights.items())
    return mean, max(0.0, square - mean**2)


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
