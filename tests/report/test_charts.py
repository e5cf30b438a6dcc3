"""Coordinates of the page's drawings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.report.charts import MAX_POINTS, curve, nice


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_curve_stays_in_its_box(values: list[float]) -> None:
    drawn = curve(range(len(values)), values)
    assert drawn is not None
    points = [tuple(map(float, point.split(","))) for point in drawn.points.split()]
    assert len(points) == len(values)
    assert all(0 <= x <= 100 and -0.01 <= y <= 100.01 for x, y in points)
    assert points[0][0] == 0
    assert points[-1][0] == 100
    assert all(-0.01 <= tick.at <= 100.01 for tick in drawn.x_ticks + drawn.y_ticks)


def test_curve_of_too_little_or_too_much() -> None:
    assert curve([1.0], [2.0]) is None
    assert curve([1.0, 2.0, 3.0], [float("nan"), 1.0, float("inf")]) is None
    tiny = curve([0.0, 1.0], [0.0, 5e-324])
    assert tiny is not None
    assert tiny.points == "0.00,100.00 100.00,100.00"
    drawn = curve(range(10_001), range(10_001))
    assert drawn is not None
    assert len(drawn.points.split()) == MAX_POINTS
    assert drawn.points.endswith("100.00,0.00")


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_nice_ticks_cover_the_range(low: float, span: float) -> None:
    ticks = nice(low, low + span)
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(ticks)
    slack = 1e-6 * max(abs(low), abs(low + span), 1)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
