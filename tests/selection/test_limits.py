"""Rates and money."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.selection.limits import Limits, TokenBucket


def test_a_bucket_spaces_evenly_after_a_burst_of_a_second() -> None:
    now = 100.0
    bucket = TokenBucket(120, clock=lambda: now)
    assert [bucket.reserve() for _ in range(3)] == pytest.approx([0.0, 0.5, 1.0])
    now = 200.0
    assert [bucket.reserve() for _ in range(4)] == pytest.approx([0.0, 0.0, 0.5, 1.0])


@given(sizes=st.lists(st.integers(1, 5000), min_size=2, max_size=50), per_minute=st.integers(600, 100_000))
def test_no_window_gets_more_than_its_rate_and_one_burst(sizes: list[int], per_minute: int) -> None:
    limits = Limits(None, per_minute, None, clock=lambda: 0.0)
    starts = [limits.pace(size) for size in sizes]
    assert starts == sorted(starts)
    # all that started before a moment fits into the rate so far, the burst, and the one that started last
    for index, start in enumerate(starts):
        assert sum(sizes[:index]) <= per_minute / 60 * (start + 1) + 1e-6 * sum(sizes) + 1


def test_the_slower_of_both_rates_decides() -> None:
    limits = Limits(60, 6000, None, clock=lambda: 0.0)
    assert [limits.pace(50) for _ in range(3)] == pytest.approx([0.0, 1.0, 2.0])
    limits = Limits(60, 600, None, clock=lambda: 0.0)
    assert limits.pace(100) == 0.0
    assert limits.pace(1) >= 9.0


@given(asked=st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 1)), max_size=40), budget=st.floats(0.5, 5))
def test_never_more_is_paid_than_the_budget(asked: list[tuple[float, float]], budget: float) -> None:
    limits = Limits(None, None, budget, spent_usd=0.25)
    for most, share in asked:
        answer = limits.reserve(most)
        assert answer != "later"  # nothing is under way
        if answer == "granted":
            limits.settle(most, most * share)
        else:
            assert limits.spent() + most > budget
        assert limits.spent() <= budget


def test_what_is_under_way_is_waited_for() -> None:
    limits = Limits(None, None, 1.0)
    assert (limits.reserve(0.75), limits.reserve(0.75), limits.reserve(1.5)) == ("granted", "later", "spent")
    limits.settle(0.75, 0.25)
    assert limits.reserve(0.75) == "granted"
    limits.settle(0.75, 0.5)
    assert limits.reserve(0.75) == "spent"
