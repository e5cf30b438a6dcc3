"""Properties of every registered method that scores steps by what a model says of them, whatever it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.selection.budget import budget
from atlas_ray.selection.method import method_class, names
from atlas_ray.selection.methods.gain import FinalActionScorer
from atlas_ray.selection.prefill import TokenScorer
from atlas_ray.selection.scored import ScoredMethod
from tests.selection.data import RATIOS, SIZES, made, trajectory

SCORED = [name for name in names() if issubclass(method_class(name), ScoredMethod)]
LOGPROBS = st.sampled_from([-3.0, -0.5, 0.0]) | st.floats(-20, 0)
ENTROPIES = st.sampled_from([0.0, 1.0]) | st.floats(0, 11)


def of_steps(values: st.SearchStrategy[float], n_steps: int) -> st.SearchStrategy[list[list[float]]]:
    return st.lists(st.lists(values, min_size=1, max_size=3), min_size=n_steps, max_size=n_steps)


def found(name: str, n_steps: int, data: st.DataObject) -> dict[str, Any]:
    """What the stage of a method might find of a trajectory."""
    row: dict[str, Any] = {"error": None, "tokens": 7 * n_steps}
    if made(name).stage is FinalActionScorer:
        likelihoods = st.lists(st.sampled_from([0.1, 0.5]) | st.floats(0, 1), min_size=n_steps, max_size=n_steps)
        return row | {"likelihoods": data.draw(likelihoods)}
    assert made(name).stage is TokenScorer
    return row | {
        "logprobs": data.draw(of_steps(LOGPROBS, n_steps)), "entropies": data.draw(of_steps(ENTROPIES, n_steps))
    }  # fmt: skip


def test_the_methods_of_this_package_are_among_them() -> None:
    assert {"perplexity", "entropy", "gain"} <= set(SCORED)


@pytest.mark.parametrize("name", SCORED)
@given(data=st.data(), n_steps=st.sampled_from([0, 1]) | SIZES, ratio=RATIOS)
def test_the_highest_scores_within_the_budget_and_of_equal_ones_the_earlier(
    name: str, data: st.DataObject, n_steps: int, ratio: float
) -> None:
    method, subject = made(name, ratio=ratio), trajectory(1, n_steps)
    row = found(name, n_steps, data)
    chosen = method.judge(subject, [row], ["m"])
    assert (chosen.trajectory_id, chosen.method, chosen.error) == ("t0001", name, None)
    assert chosen.scores is not None
    assert len(chosen.scores) == n_steps
    assert len(chosen.steps) == budget(n_steps, ratio)
    for step in chosen.steps:
        for other in set(range(n_steps)) - set(chosen.steps):
            assert (chosen.scores[step], -step) > (chosen.scores[other], -other)
    assert chosen == method.judge(subject, [row], ["m"])
    assert chosen.usage.prompt_tokens == 7 * n_steps


@pytest.mark.parametrize("name", SCORED)
def test_an_error_of_the_stage_is_an_error_row(name: str) -> None:
    chosen = made(name).judge(trajectory(1, 3), [{"error": "template: no", "tokens": 0}], ["m"])
    assert (chosen.steps, chosen.scores, chosen.error) == ((), None, "template: no")
