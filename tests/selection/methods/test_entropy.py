"""Method `entropy`: the formula. (Beside a plain forward pass: `test_run.py` and `tests/inference/test_engine.py`.)"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.selection.methods.entropy import highest_means
from tests.selection.data import made

STEPS = [[0.1, 2.0, 0.3, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [1.0], [0.5, 0.5, 0.5]]


def test_the_mean_of_the_highest_share() -> None:
    assert highest_means(STEPS, 0.2) == pytest.approx([3.0, 1.0, 0.5])
    assert highest_means(STEPS, 1.0) == pytest.approx([0.64, 1.0, 0.5])
    assert highest_means(STEPS, 0.3)[0] == pytest.approx(6.3 / 3)  # 0.3 of ten tokens are three, not four


@given(st.lists(st.lists(st.floats(0, 12), min_size=1, max_size=30), min_size=1, max_size=8), st.floats(0.01, 1))
def test_it_lies_between_the_mean_and_the_maximum(steps: list[list[float]], top: float) -> None:
    for found, step in zip(highest_means(steps, top), steps, strict=True):
        assert math.fsum(step) / len(step) - 1e-9 <= found <= max(step) + 1e-9


def test_a_rise_is_over_the_step_before() -> None:
    found = {"logprobs": [[-1.0]] * 3, "entropies": STEPS}
    assert made("entropy").scores(found) == pytest.approx([3.0, 1.0, 0.5])
    assert made("entropy", rise=True).scores(found) == pytest.approx([0.0, -2.0, -0.5])
    assert made("entropy", rise=True).scores({"logprobs": [[-1.0]], "entropies": [[3.0]]}) == [0.0]
