"""Soft weights: from scores to weights of all steps."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.config import SoftWeights
from atlas_ray.config_files import load
from atlas_ray.errors import ConfigError, SelectionError
from atlas_ray.selection.soft import SMALLEST, ranks, soften, softmax
from atlas_ray.trajectory import Selection

SCORES = st.lists(st.floats(-50, 50).map(lambda score: round(score, 3)), max_size=20)
RANK, SOFTMAX = SoftWeights(kind="rank"), SoftWeights(kind="softmax", temperature=2.0)


def scored(*scores: float) -> Selection:
    return Selection(trajectory_id="t", method="entropy", ratio=0.3, steps=(0,) if scores else (), scores=scores)


def test_ranks_and_softmax_by_hand() -> None:
    assert ranks([3.0, 1.0, 2.0, 2.0]) == [1.0, 0.25, 0.625, 0.625]
    assert ranks([7.0]) == [1.0]
    assert ranks([5.0] * 3) == pytest.approx([2 / 3] * 3)
    assert softmax([1.0, 3.0, 1.0], 2.0) == pytest.approx([math.exp(-1), 1.0, math.exp(-1)])


@given(scores=SCORES, soft=st.sampled_from([RANK, SOFTMAX]))
def test_every_step_has_a_weight_and_the_order_of_the_scores(scores: list[float], soft: SoftWeights) -> None:
    row = soften(scored(*scores), soft)
    weights = row.weight_of()
    assert Selection.model_validate(row.model_dump()) == row
    assert row.scores == tuple(scores)
    assert row.ratio == 1.0
    assert row.provenance["soft_weights"]["kind"] == soft.kind
    assert all(0 < weight <= 1 for weight in weights.values())
    if soft is RANK:
        assert list(weights) == list(range(len(scores)))
        assert sum(weights.values()) == pytest.approx((len(scores) + 1) / 2 if scores else 0)
    else:
        assert set(range(len(scores))) - set(weights) == {
            step for step, score in enumerate(scores) if math.exp((score - max(scores)) / 2) < SMALLEST
        }
    for one in weights:
        for other in weights:
            assert (weights[one] > weights[other]) <= (scores[one] > scores[other])
            assert (scores[one] == scores[other]) <= (weights[one] == weights[other])


def test_errors_stay_and_a_method_without_scores_is_refused() -> None:
    failed = Selection(trajectory_id="t", method="value", ratio=0.3, error="replay: no")
    assert soften(failed, RANK) is failed
    with pytest.raises(SelectionError, match="soft_weights: method 'random' gives no scores"):
        soften(Selection(trajectory_id="t", method="random", ratio=0.3, steps=(1,)), RANK)


def test_they_stand_in_a_selection_beside_its_method_and_count_in_its_spec() -> None:
    values = {
        "soft": {"method": "entropy", "soft_weights": {"kind": "softmax", "temperature": 2}},
        "hard": {"method": "entropy"},
    }
    config = load(None, {"select": {"selections": values}})
    assert config.selection("soft").soft_weights == SOFTMAX
    assert config.selection("hard").soft_weights is None
    for wrong in ({"kind": "softmax"}, {"kind": "rank", "temperature": 1.0}):
        with pytest.raises(ConfigError, match="temperature"):
            load(None, {"select": {"selections": {"soft": {"method": "entropy", "soft_weights": wrong}}}})
