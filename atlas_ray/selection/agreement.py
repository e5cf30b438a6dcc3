"""Do selection methods agree more than chance would have them agree, and where in a trajectory do they pick?

Agreement is the Jaccard overlap of the picks, per trajectory, against that of random picks with the same counts in the
same trajectories, whose mean and variance are known exactly (hypergeometric). Rows with an error take no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, fsum, sqrt

from atlas_ray.trajectory import Selection


@dataclass(frozen=True)
class Agreement:
    """Two methods over the trajectories that both answered and in which at least one picked a step."""

    first: str
    second: str
    n: int
    """Trajectories."""
    jaccard: float
    """Mean overlap |A and B| / |A or B|."""
    expected: float
    """Mean overlap of random picks with the same counts."""
    spread: float
    """Standard deviation of that mean."""

    @property
    def kappa(self) -> float | None:
        """Share of the agreement that chance left to be reached: 1 is identity, 0 chance; None where all is forced."""
        return (self.jaccard - self.expected) / (1 - self.expected) if self.expected < 1 else None

    @property
    def z(self) -> float | None:
        """Standard deviations above chance; None where the counts force the overlap."""
        return (self.jaccard - self.expected) / self.spread if self.spread else None


def agreements(selections: Mapping[str, Iterable[Selection]], n_steps: Mapping[str, int]) -> list[Agreement]:
    """Every pair of methods that share a trajectory, in the order given.

    Args:
        selections: rows by method.
        n_steps: steps by trajectory id.
    """
    picks = {
        method: {row.trajectory_id: frozenset(row.steps) for row in rows if row.error is None}
        for method, rows in selections.items()
    }
    found = []
    for first, second in combinations(picks, 2):
        shared = sorted(picks[first].keys() & picks[second].keys())
        cases = [(n_steps[key], picks[first][key], picks[second][key]) for key in shared]
        cases = [(n, a, b) for n, a, b in cases if a or b]
        if cases:
            chance = [chance_jaccard(n, len(a), len(b)) for n, a, b in cases]
            found.append(
                Agreement(
                    first,
                    second,
                    len(cases),
                    fsum(len(a & b) / len(a | b) for _, a, b in cases) / len(cases),
                    fsum(mean for mean, _ in chance) / len(cases),
                    sqrt(fsum(variance for _, variance in chance)) / len(cases),
                )
            )
    return found


def chance_jaccard(n: int, a: int, b: int) -> tuple[float, float]:
    """Mean and variance of the Jaccard overlap of random sets of `a` and of `b` out of `n` steps, not both empty."""
    common = range(max(0, a + b - n), min(a, b) + 1)
    weights = [comb(a, k) * comb(n - a, b - k) / comb(n, b) for k in common]
    overlaps = [k / (a + b - k) for k in common]
    mean = fsum(weight * overlap for weight, overlap in zip(weights, overlaps, strict=True))
    return mean, fsum(weight * (overlap - mean) ** 2 for weight, overlap in zip(weights, overlaps, strict=True))


def position_profile(rows: Sequence[Selection], n_steps: Mapping[str, int]) -> list[tuple[int, int]]:
    """For step 0, 1, ...: how often a method picked it, and how many answered trajectories have it."""
    answered = [row for row in rows if row.error is None]
    longest = max((n_steps[row.trajectory_id] for row in answered), default=0)
    picked, there = [0] * longest, [0] * longest
    for row in answered:
        for step in range(n_steps[row.trajectory_id]):
            there[step] += 1
        for step in row.steps:
            picked[step] += 1
    return list(zip(picked, there, strict=True))
