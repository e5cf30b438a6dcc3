"""Agreement against brute force and simulation."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean, pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.selection import random
from atlas_ray.selection.agreement import agreements, chance_jaccard, position_profile
from atlas_ray.trajectory import Selection
from tests.selection.data import trajectory


@given(data=st.data(), n=st.integers(1, 7))
def test_chance_is_what_enumeration_gives(data: st.DataObject, n: int) -> None:
    a, b = data.draw(st.integers(1, n)), data.draw(st.integers(0, n))
    first = set(range(a))
    overlaps = [len(first & set(other)) / len(first | set(other)) for other in combinations(range(n), b)]
    assert chance_jaccard(n, a, b) == pytest.approx((fmean(overlaps), pvariance(overlaps)), abs=1e-12)


def test_independent_random_picks_agree_as_chance_says_and_identical_ones_fully() -> None:
    subjects = [trajectory(number, 6 + number % 7) for number in range(400)]
    n_steps = {subject.trajectory_id: subject.n_steps for subject in subjects}
    rows = {f"seed{seed}": [random.select(subject, 0.3, seed) for subject in subjects] for seed in (1, 2)}
    rows["same"] = rows["seed1"]
    one_two, same, _ = agreements(rows, n_steps)
    assert (one_two.first, one_two.second, one_two.n) == ("seed1", "seed2", 400)
    assert one_two.z is not None
    assert abs(one_two.z) < 3
    assert same.jaccard == 1
    assert same.kappa == 1


def test_errors_and_forced_overlaps() -> None:
    row = Selection(trajectory_id="a", method="m", ratio=0.3, steps=(0,))
    failed = Selection(trajectory_id="a", method="m", ratio=0.3, error="timeout: late")
    assert agreements({"one": [row], "two": [failed]}, {"a": 3}) == []
    (forced,) = agreements({"one": [row], "two": [row]}, {"a": 1})
    assert (forced.kappa, forced.z) == (None, None)


def test_position_profile() -> None:
    rows = [
        Selection(trajectory_id="a", method="m", ratio=0.3, steps=(0, 2)),
        Selection(trajectory_id="b", method="m", ratio=0.3, steps=(0,)),
        Selection(trajectory_id="c", method="m", ratio=0.3, error="timeout: late"),
    ]
    assert position_profile(rows, {"a": 3, "b": 2, "c": 9}) == [(2, 2), (0, 2), (1, 1)]
    assert position_profile([], {}) == []
