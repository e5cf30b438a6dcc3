"""Properties that hold for every registered rule, and for any trajectory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.selection.budget import budget
from atlas_ray.selection.method import RuleMethod, method_class, names
from atlas_ray.trajectory import Selection
from tests.selection.data import RATIOS, SIZES, made, trajectory

RULES = [name for name in names() if issubclass(method_class(name), RuleMethod)]
UNBOUNDED = ("all",)
"""Rules that choose every step, whatever the ratio."""


@pytest.mark.parametrize("name", RULES)
@given(data=st.data(), n_steps=st.sampled_from([0, 1]) | SIZES, ratio=RATIOS, seed=st.integers(0, 3))
def test_every_rule_keeps_the_budget_and_repeats_itself(
    name: str, data: st.DataObject, n_steps: int, ratio: float, seed: int
) -> None:
    method, subject = made(name, ratio=ratio, seed=seed), trajectory(1, n_steps)
    most = budget(n_steps, ratio)
    if method.own_trajectories:  # what it has found is in the trajectory that it made
        found = data.draw(
            st.sampled_from([{"step": n, "instead_of": "x"} for n in range(n_steps)] + [{}, {"error": "replay: no"}])
        )
        subject = subject.model_copy(update={"metadata": {"verified": found}})
    inputs = {}
    for other in method.inputs():
        picks = data.draw(st.sets(st.sampled_from(range(n_steps)), max_size=most) if n_steps else st.just(set()))
        failed = data.draw(st.none() | st.just("timeout: late"))
        means = data.draw(st.lists(st.sampled_from([0.0, 0.2, 0.4, 1.0]), min_size=n_steps, max_size=n_steps))
        rollouts = {"returns": means, "variances": [p * (1 - p) for p in means], "samples": [5] * n_steps}
        inputs[other] = Selection(
            trajectory_id="t0001", method="llm", ratio=ratio, steps=() if failed else tuple(sorted(picks)),
            error=failed, provenance=rollouts,
        )  # fmt: skip
    chosen = method.choose(subject, inputs)
    assert (chosen.trajectory_id, chosen.method) == ("t0001", name)
    assert set(chosen.steps) <= set(range(n_steps))
    assert len(chosen.steps) <= (n_steps if name in UNBOUNDED else most)
    assert all(0 < weight <= 1 for weight in chosen.weight_of().values())
    assert chosen.scores is None or len(chosen.scores) == n_steps
    assert chosen == method.choose(subject, inputs)


def test_the_rules_of_this_package_are_among_them() -> None:
    assert {"all", "hybrid", "non_critical", "pivot", "random", "verified"} <= set(RULES)
