"""How many steps may be chosen, and the choice by score."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.selection.budget import budget, highest
from tests.selection.data import RATIOS


@pytest.mark.parametrize(
    ("n_steps", "ratio", "expected"),
    [(10, 0.3, 3), (100, 0.29, 29), (3, 0.3, 1), (1, 0.3, 1), (0, 0.3, 0), (7, 1.0, 7), (10, 0.7, 7), (7, 0.3, 2)],
)
def test_examples(n_steps: int, ratio: float, expected: int) -> None:
    assert budget(n_steps, ratio) == expected


@given(n_steps=st.integers(1, 10_000), ratio=RATIOS)
def test_at_least_one_and_never_more_than_the_share(n_steps: int, ratio: float) -> None:
    steps = budget(n_steps, ratio)
    assert 1 <= steps <= n_steps
    assert steps == 1 or Fraction(repr(ratio)) * n_steps - 1 < steps <= Fraction(repr(ratio)) * n_steps


@given(n_steps=st.integers(0, 200), percent=st.integers(1, 100))
def test_percentages_are_exact(n_steps: int, percent: int) -> None:
    assert budget(n_steps, percent / 100) == (max(1, n_steps * percent // 100) if n_steps else 0)


@pytest.mark.parametrize(("n_steps", "ratio"), [(-1, 0.3), (3, 0.0), (3, 1.1), (3, -0.3)])
def test_nonsense_is_refused(n_steps: int, ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        budget(n_steps, ratio)


@given(scores=st.lists(st.floats(1, 1e6), max_size=30), ratio=RATIOS)
def test_the_highest_scores_win_and_ties_go_to_the_earlier(scores: list[float], ratio: float) -> None:
    chosen = highest(scores, ratio)
    rest = [step for step in range(len(scores)) if step not in chosen]
    assert len(chosen) == budget(len(scores), ratio)
    assert all((scores[i], -i) > (scores[j], -j) for i in chosen for j in rest)
