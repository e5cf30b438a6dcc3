"""Method `pivot`: the variance of outcomes by hand, the limit, ties, and what it cannot be made from."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.errors import SelectionError
from atlas_ray.selection.budget import budget
from atlas_ray.trajectory import Selection
from tests.selection.data import RATIOS, made, trajectory

OUTCOMES = st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=5), max_size=12)


def chosen(samples: Sequence[Sequence[float]], *, ratio: float = 1.0, **options: float) -> Selection:
    """What `pivot` makes of the rollouts that `value` has played."""
    subject = trajectory(1, len(samples))
    played = made("value").choose(subject, samples, 1.0)
    row: Selection = made("pivot", ratio=ratio, **options).choose(subject, {"value": played})
    return row


def test_the_variance_of_shares_is_p_times_1_minus_p_and_the_limit_is_on_the_mean() -> None:
    samples = [[0.0] * 5, [0, 0, 0, 0, 1.0], [0, 0, 0, 1.0, 1.0], [0, 0, 1.0, 1.0, 1.0], [1.0] * 5]
    row = chosen(samples)
    assert row.scores == pytest.approx((0.0, 0.16, 0.24, 0.24, 0.0))
    assert row.steps == (1, 2)  # step 3 succeeds in 0.6 of its rollouts, which is the limit
    assert chosen(samples, limit=0.7).steps == (1, 2, 3)
    assert chosen(samples, limit=0.7, ratio=0.4).steps == (2, 3)
    assert chosen(samples, limit=0.7, ratio=0.2).steps == (2,)  # of equal ones the earlier
    assert row.provenance["samples"] == [5] * 5


@pytest.mark.parametrize("samples", [[], [[1.0, 0.0]], [[0.1] * 3] * 4, [[0.0] * 5] * 3, [[1.0] * 5] * 3])
def test_none_one_and_equal_outcomes(samples: list[list[float]]) -> None:
    assert chosen(samples).steps == ((0,) if samples == [[1.0, 0.0]] else ())


@given(samples=OUTCOMES, ratio=RATIOS)
def test_the_chosen_vary_most_of_those_below_the_limit(samples: list[list[float]], ratio: float) -> None:
    row = chosen(samples, ratio=ratio)
    assert row.scores is not None
    means = [sum(rewards) / len(rewards) for rewards in samples]
    fit = [step for step, mean in enumerate(means) if mean < 0.6 and len(set(samples[step])) > 1]
    assert set(row.steps) <= set(fit)
    assert len(row.steps) == min(len(fit), budget(len(samples), ratio))
    rest = set(fit) - set(row.steps)
    assert all((row.scores[i], -i) > (row.scores[j], -j) for i in row.steps for j in rest)


def test_errors_pass_through_and_a_selection_without_rollouts_is_refused() -> None:
    failed = Selection(trajectory_id="t0001", method="value", ratio=0.3, error="replay: no such task")
    row = made("pivot").choose(trajectory(1, 3), {"value": failed})
    assert (row.steps, row.error) == ((), "rollouts: value has none here (replay: no such task)")
    other = Selection(trajectory_id="t0001", method="random", ratio=0.3, steps=(1,))
    with pytest.raises(SelectionError, match="'picks' is a selection by method 'random', which plays no rollouts"):
        made("pivot", rollouts_of="picks").choose(trajectory(1, 3), {"picks": other})
