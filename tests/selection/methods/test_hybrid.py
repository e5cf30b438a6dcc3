"""Method `hybrid`: the fusion of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.selection.budget import budget, highest
from atlas_ray.trajectory import Selection
from tests.selection.data import made, trajectory

SCORES = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12)


def scored(scores: Sequence[float], ratio: float) -> Selection:
    """A selection by these scores."""
    return Selection(
        trajectory_id="t0001", method="perplexity", ratio=ratio, steps=highest(scores, ratio), scores=tuple(scores)
    )


@given(scores=SCORES, ratio=st.sampled_from([0.1, 0.3, 1.0]), data=st.data())
def test_alone_a_method_keeps_its_choice_whatever_its_weight(
    scores: list[float], ratio: float, data: st.DataObject
) -> None:
    subject = trajectory(1, len(scores))
    alone = scored(scores, ratio)
    method = made("hybrid", ratio=ratio, weights={"perplexity": data.draw(st.floats(0.1, 9))})
    fused = method.choose(subject, {"perplexity": alone})
    assert fused.steps == alone.steps


@given(one=SCORES, data=st.data(), ratio=st.sampled_from([0.1, 0.3, 1.0]))
def test_only_ranks_count_the_budget_holds_and_a_step_ahead_everywhere_wins(
    one: list[float], data: st.DataObject, ratio: float
) -> None:
    n = len(one)
    other = data.draw(st.lists(st.floats(-1, 1), min_size=n, max_size=n))
    subject = trajectory(1, n)
    weights = {"perplexity": 2.0, "value": 1.0}
    rows = {
        "perplexity": scored(one, ratio),
        "value": scored(other, ratio),
    }
    method = made("hybrid", ratio=ratio, weights=weights)
    fused = method.choose(subject, rows)
    assert len(fused.steps) == budget(n, ratio)
    stretched = rows | {"perplexity": scored([7 * score**3 + 1 for score in one], ratio)}
    assert method.choose(subject, stretched) == fused
    assert fused.scores is not None
    assert all(0 <= score <= 1 for score in fused.scores)
    for a in range(n):
        for b in range(n):
            if one[a] > one[b] and other[a] > other[b]:
                assert fused.scores[a] > fused.scores[b]


def test_weights_decide_between_a_choice_and_scores() -> None:
    subject = trajectory(1, 4)
    chosen = Selection(trajectory_id="t0001", method="llm", ratio=0.3, steps=(0,))
    by_score = scored([1.0, 2.0, 3.0, 9.0], 0.3)
    rows = {"llm": chosen, "perplexity": by_score}
    assert made("hybrid", weights={"llm": 3.0, "perplexity": 1.0}).choose(subject, rows).steps == (0,)
    assert made("hybrid", weights={"llm": 1.0, "perplexity": 3.0}).choose(subject, rows).steps == (3,)


def test_an_error_takes_no_part_and_errors_alone_are_an_error() -> None:
    subject = trajectory(1, 4)
    failed = Selection(trajectory_id="t0001", method="llm", ratio=0.3, error="timeout: late")
    by_score = scored([1.0, 2.0, 3.0, 9.0], 0.3)
    fused = made("hybrid", weights={"llm": 9.0, "perplexity": 1.0}).choose(
        subject, {"llm": failed, "perplexity": by_score}
    )
    assert (fused.steps, fused.error) == ((3,), None)
    assert fused.provenance == {"weights": {"perplexity": 1.0}, "left_out": {"llm": "timeout: late"}}
    fused = made("hybrid", weights={"llm": 1.0}).choose(subject, {"llm": failed})
    assert (fused.steps, fused.error) == ((), "inputs: no selection has a row without an error (timeout: late)")


def test_no_steps() -> None:
    nothing = made("all").choose(trajectory(1, 0), {})
    assert made("hybrid", weights={"all": 1.0}).choose(trajectory(1, 0), {"all": nothing}).steps == ()


def test_weights_that_mean_nothing_are_refused() -> None:
    for weights in ({}, {"llm": 0.0}, {"llm": float("inf")}):
        with pytest.raises(ValueError, match="weight above 0"):
            made("hybrid", weights=weights)
