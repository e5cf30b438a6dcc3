"""Do two selections agree more than chance would have them agree?

Agreement is the Jaccard overlap of the chosen steps, per trajectory. The yardstick is the overlap of random picks with
the same counts in the same trajectories, whose mean and variance are known exactly (hypergeometric distribution). Error
rows take no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from math import comb, fsum, sqrt
from typing import Any

from atlas_ray.trajectory import Selection

CHANCE = "no more than chance"
"""The verdict on an overlap that chance explains."""
_NOISE = 1e-9


@dataclass(frozen=True)
class Overlap:
    """Two selections over the trajectories that both answered and in which at least one of them chose a step."""

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
    def low(self) -> float:
        """Lower end of the interval that holds the mean overlap of random picks in 95 % of cases."""
        return max(0.0, self.expected - 1.96 * self.spread)

    @property
    def high(self) -> float:
        """Upper end of that interval."""
        return min(1.0, self.expected + 1.96 * self.spread)

    @property
    def kappa(self) -> float | None:
        """(jaccard - expected) / (1 - expected): 1 for equal picks, 0 for chance; None where chance is 1."""
        return (self.jaccard - self.expected) / (1 - self.expected) if self.expected < 1 else None

    @property
    def z(self) -> float | None:
        """Standard deviations above chance; None where the counts force the overlap."""
        return (self.jaccard - self.expected) / self.spread if self.spread else None

    @property
    def verdict(self) -> str:
        """The overlap against chance, in words."""
        if self.jaccard > self.high + _NOISE:
            return "more than chance"
        return "less than chance" if self.jaccard < self.low - _NOISE else CHANCE

    def facts(self) -> dict[str, Any]:
        """As JSON, with the figures that follow from the fields."""
        return asdict(self) | {"low": self.low, "high": self.high, "kappa": self.kappa, "verdict": self.verdict}


def overlaps(selections: Mapping[str, Iterable[Selection]], n_steps: Mapping[str, int]) -> list[Overlap]:
    """Every two selections that share a trajectory, in the order given.

    Args:
        selections: rows by the selection's name.
        n_steps: steps by trajectory id.
    """
    picks = {
        name: {row.trajectory_id: frozenset(row.steps) for row in rows if row.error is None}
        for name, rows in selections.items()
    }
    found = []
    for first, second in combinations(picks, 2):
        shared = sorted(picks[first].keys() & picks[second].keys())
        cases = [(n_steps[key], picks[first][key], picks[second][key]) for key in shared]
        cases = [(n, a, b) for n, a, b in cases if a or b]
        if cases:
            chance = [chance_jaccard(n, len(a), len(b)) for n, a, b in cases]
            found.append(
                Overlap(
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
    overlapping = [k / (a + b - k) for k in common]
    mean = fsum(weight * overlap for weight, overlap in zip(weights, overlapping, strict=True))
    return mean, fsum(weight * (overlap - mean) ** 2 for weight, overlap in zip(weights, overlapping, strict=True))
