"""How many steps a method may call critical (docs/architecture.md, decision 1), and the choice by score."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import floor


@lru_cache(maxsize=1024)
def budget(n_steps: int, ratio: float) -> int:
    """Critical steps at most: `max(1, floor(ratio * n_steps))`, 0 for a trajectory without steps.

    The ratio counts as the decimal number it is written as, so 0.29 of 100 steps are 29 (in floats: 28.99...).

    Args:
        n_steps: steps of the trajectory.
        ratio: the paper's m, in (0, 1].

    Raises:
        ValueError: an argument is out of its range.
    """
    if n_steps < 0 or not 0 < ratio <= 1:
        raise ValueError(f"n_steps must be >= 0 and ratio in (0, 1], found {n_steps} and {ratio}")
    return max(1, floor(Fraction(repr(float(ratio))) * n_steps)) if n_steps else 0


def highest(scores: Sequence[float], ratio: float) -> tuple[int, ...]:
    """The budget's number of steps with the highest scores, ascending; of equal scores the earlier step."""
    best = sorted(range(len(scores)), key=lambda step: (-scores[step], step))
    return tuple(sorted(best[: budget(len(scores), ratio)]))
