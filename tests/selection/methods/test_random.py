"""Method `random`: the budget, repeatability and uniformity of the draw."""

from __future__ import annotations

import math
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.selection.budget import budget
from tests.selection.data import RATIOS, SIZES, made, trajectory


@given(n_steps=SIZES, ratio=RATIOS, seed=st.integers(0, 5))
def test_uses_the_whole_budget(n_steps: int, ratio: float, seed: int) -> None:
    assert len(made("random", ratio=ratio, seed=seed).choose(trajectory(1, n_steps), {}).steps) == budget(
        n_steps, ratio
    )


@given(n_steps=SIZES, low=st.integers(1, 50), high=st.integers(50, 100))
def test_a_larger_ratio_contains_the_smaller(n_steps: int, low: int, high: int) -> None:
    small, large = (made("random", ratio=share / 100).choose(trajectory(2, n_steps), {}) for share in (low, high))
    assert set(small.steps) <= set(large.steps)


def test_is_the_same_in_another_process() -> None:
    code = (
        "from tests.selection.data import made, trajectory\n"
        "print([made('random', seed=7).choose(trajectory(n, 10), {}).steps for n in range(5)])"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert again.strip() == str([made("random", seed=7).choose(trajectory(n, 10), {}).steps for n in range(5)])


def test_every_step_is_as_likely() -> None:
    counts = [0] * 10
    for number in range(1000):
        for step in made("random").choose(trajectory(number, 10), {}).steps:
            counts[step] += 1
    assert all(abs(count - 300) < 4.5 * math.sqrt(1000 * 0.3 * 0.7) for count in counts)


def test_seeds_differ() -> None:
    picks = {made("random", seed=seed).choose(trajectory(1, 20), {}).steps for seed in range(10)}
    assert len(picks) > 5
