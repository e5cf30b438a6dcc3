"""Agreement against brute force and simulation."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean, pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.selection.agreement import chance_jaccard, overlaps
from atlas_ray.trajectory import Selection
from tests.selection.data import made, trajectory


@given(data=st.data(), n=st.integers(1, 7))
def test_chance_is_what_enumeration_gives(data: st.DataObject, n: int) -> None:
    a, b = data.draw(st.integers(1, n)), data.draw(st.integers(0, n))
    first = set(range(a))
    found = [len(first & set(other)) / len(first | set(other)) for other in combinations(range(n), b)]
    assert chance_jaccard(n, a, b) == pytest.approx((fmean(found), pvariance(found)), abs=1e-12)


def test_independent_random_picks_agree_as_chance_says_and_identical_ones_fully() -> None:
    subjects = [trajectory(number, 6 + number % 7) for number in range(400)]
    n_steps = {subject.trajectory_id: subject.n_steps for subject in subjects}
    rows = {f"seed{seed}": [made("random", seed=seed).choose(subject, {}) for subject in subjects] for seed in (1, 2)}
    rows["same"] = rows["seed1"]
    one_two, same, _ = overlaps(rows, n_steps)
    assert (one_two.first, one_two.second, one_two.n) == ("seed1", "seed2", 400)
    assert one_two.z is not None
    assert abs(one_two.z) < 3
    assert one_two.low < one_two.expected < one_two.high
    assert (same.jaccard, same.kappa, same.verdict) == (1, 1, "more than chance")


def test_errors_and_forced_overlaps() -> None:
    row = Selection(trajectory_id="a", method="m", ratio=0.3, steps=(0,))
    failed = Selection(trajectory_id="a", method="m", ratio=0.3, error="timeout: late")
    assert overlaps({"one": [row], "two": [failed]}, {"a": 3}) == []
    (forced,) = overlaps({"one": [row], "two": [row]}, {"a": 1})
    assert (forced.kappa, forced.z, forced.verdict) == (None, None, "no more than chance")
    other = Selection(trajectory_id="a", method="m", ratio=0.3, steps=(1, 2))
    (apart,) = overlaps({"one": [row], "two": [other]}, {"a": 3})
    assert apart.jaccard == 0
