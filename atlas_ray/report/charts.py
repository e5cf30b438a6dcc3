"""The coordinates of the page's line charts, which are plain SVG without a script. Pictures are in `drawings.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MAX_POINTS = 600
"""Points of a line; longer ones are thinned evenly, the last point kept."""


@dataclass(frozen=True)
class Tick:
    """A grid line."""

    at: float
    """In percent of the axis, from its start."""
    label: str


@dataclass(frozen=True)
class Curve:
    """A line in a box of 100 x 100, y downwards, with its axes."""

    points: str
    """`x,y x,y ...` for an SVG polyline."""
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def curve(xs: Sequence[float], ys: Sequence[float]) -> Curve | None:
    """A line through the finite points, y from 0 where the values are positive; None with fewer than two.

    Args:
        xs: ascending.
        ys: one for each of `xs`.
    """
    known = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    if len(known) < 2:
        return None
    if len(known) > MAX_POINTS:
        every = len(known) / MAX_POINTS
        known = [known[int(i * every)] for i in range(MAX_POINTS - 1)] + [known[-1]]
    left, right = known[0][0], known[-1][0]
    low, high = min(0.0, *(y for _, y in known)), max(y for _, y in known)
    ticks = nice(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def percent_of(value: float, start: float, end: float) -> float:
        return 100 * (value - start) / (end - start) if end > start else 50.0

    return Curve(
        " ".join(f"{percent_of(x, left, right):.2f},{100 - percent_of(y, low, high):.2f}" for x, y in known),
        [Tick(percent_of(x, left, right), f"{x:g}") for x in dict.fromkeys((left, right))],
        [Tick(100 - percent_of(y, low, high), f"{y:g}") for y in ticks],
    )


def nice(low: float, high: float) -> list[float]:
    """Three to seven round numbers from at most `low` to at least `high`."""
    span = high - low if high - low > 1e-9 else 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / 4))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if span / (m * magnitude) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]
