"""Method `value`: the equations by hand, the threshold and the budget, and what an adaptive run may leave out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.config import SelectionSpec
from atlas_ray.selection.adaptive import Prior, fit_prior, open_steps
from atlas_ray.selection.budget import budget
from atlas_ray.selection.methods.value import ValueOptions, ValueSteps
from tests.selection.data import trajectory


def method(ratio=1.0, **options):
    return ValueSteps(SelectionSpec("critical", "value", ratio, ValueOptions(**options), 0))


PRINTED, MEAN = method(estimate="discounted"), method()
REWARDS = st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=5), min_size=1, max_size=12)
JUMP = np.array([0.0, 0.4, 1.0])


def test_equation_9_as_printed():
    # r = (0, 0.4, 1), the expert's outcome 1: V_3 = 1, V_2 = 1 + .99, V_1 = .4 + .99 V_2, V_0 = .99 V_1
    assert PRINTED.values(JUMP, 1.0) == pytest.approx([2.346399, 2.3701, 1.99, 1.0])
    assert PRINTED.differences(JUMP, 1.0) == pytest.approx((0.023701, -0.3801, -0.99))


def test_the_mean_estimate_is_the_chance_of_success():
    assert MEAN.values(JUMP, 1.0).tolist() == [0.0, 0.4, 1.0, 1.0]
    assert MEAN.differences(JUMP, 1.0) == pytest.approx((0.4, 0.6, 0.0))


def test_many_draws_at_once_are_each_alone():
    draws = np.random.default_rng(0).random((20, 7))
    for rule in (PRINTED, MEAN, method(absolute=True)):
        assert np.array_equal(rule.differences(draws, 1.0), [rule.differences(row, 1.0) for row in draws])


def test_steps_above_the_threshold_count_and_the_largest_within_the_budget():
    samples = [[0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
    row = MEAN.choose(trajectory(0, 4), samples, 1.0)
    assert row.scores == (0.2, 0.4, 0.4, 0.0)
    assert row.steps == (0, 1, 2)
    assert method(0.5).choose(trajectory(0, 4), samples, 1.0).steps == (1, 2)
    assert row.provenance["returns"] == [0.0, 0.2, 0.6, 1.0]
    assert row.provenance["samples"] == [5, 5, 5, 5]
    assert (row.method, row.ratio) == ("value", 1.0)


def test_a_difference_of_the_threshold_itself_does_not_exceed_it():
    tenths = [[1.0] * n + [0.0] * (10 - n) for n in range(1, 10)]
    assert MEAN.choose(trajectory(0, 9), tenths, 1.0).steps == ()


def test_falls_count_only_where_asked():
    falling = [[1.0], [0.0]]
    assert MEAN.choose(trajectory(0, 2), falling, 0.0).steps == ()
    assert method(absolute=True).choose(trajectory(0, 2), falling, 0.0).steps == (0,)


def test_a_trajectory_without_steps_has_none():
    row = MEAN.choose(trajectory(0, 0), [], 1.0)
    assert (row.steps, row.scores) == ((), ())


@given(samples=REWARDS, outcome=st.sampled_from([0.0, 1.0]), ratio=st.sampled_from([0.1, 0.3, 1.0]))
def test_any_selection_keeps_budget_and_threshold_and_of_equal_ones_the_earlier(samples, outcome, ratio):
    for options in ({}, {"estimate": "discounted"}, {"estimate": "discounted", "absolute": True}):
        rule = method(ratio, **options)
        row = rule.choose(trajectory(0, len(samples)), samples, outcome)
        above = [step for step in range(len(samples)) if row.scores[step] > rule.options.threshold]
        assert len(row.steps) == min(len(above), budget(len(samples), ratio))
        assert set(row.steps) <= set(above)
        rest = set(above) - set(row.steps)
        assert all((row.scores[i], -i) > (row.scores[j], -j) for i in row.steps for j in rest)
        assert row == rule.choose(trajectory(0, len(samples)), samples, outcome)


@pytest.mark.parametrize(("rewards", "outcome", "steps"), [(0.0, 0.0, ()), (0.0, 1.0, (3,)), (1.0, 1.0, ())])
def test_where_all_rollouts_end_alike_only_the_last_step_can_have_decided(rewards, outcome, steps):
    assert MEAN.choose(trajectory(0, 4), [[rewards] * 3] * 4, outcome).steps == steps
    assert MEAN.choose(trajectory(0, 1), [[rewards] * 3], outcome).steps == tuple(0 for _ in steps)


def still_open(samples, prior, *key):
    return open_steps(
        samples, prior, lambda returns: MEAN.differences(returns, 1.0), rollouts=5, threshold=0.1, confidence=0.95,
        key=key,
    )  # fmt: skip


class TestAdaptive:
    def test_the_prior_learns_whether_chances_are_extreme(self):
        extreme = fit_prior([[0.0, 0.0]] * 50 + [[1.0, 1.0]] * 50)
        middling = fit_prior([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]] * 25)
        assert sum(extreme) < 0.5 < 2 < sum(middling)
        assert extreme.a / sum(extreme) == pytest.approx(0.5, abs=0.01)

    def test_clear_cases_are_closed_and_doubtful_ones_open(self):
        prior = Prior(0.03, 0.03)
        clear = [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
        assert still_open(clear, prior, "t") == []
        doubtful = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
        assert still_open(doubtful, prior, "t") == [0, 1]

    def test_no_step_gets_more_than_all_rollouts(self):
        samples = [[0.0, 1.0, 0.0, 1.0, 0.0], [0.0, 1.0]]
        assert still_open(samples, Prior(1.0, 1.0), "t") == [1]

    def test_of_many_trajectories_few_change_and_much_is_saved(self):
        rng = np.random.default_rng(0)
        full = []
        for _ in range(150):  # a chance that jumps once, as the paper reports of its rollouts
            jump = rng.integers(0, 8)
            full.append([list(map(float, rng.random(5) < (0.02 if t <= jump else 0.98))) for t in range(8)])
        prior = fit_prior([rewards[:2] for samples in full for rewards in samples])
        saved = changed = 0
        for number, samples in enumerate(full):
            known = [rewards[:2] for rewards in samples]
            while wanted := still_open(known, prior, number):
                for step in wanted:
                    known[step] = samples[step][: len(known[step]) + 1]
            saved += sum(5 - len(rewards) for rewards in known)
            steps = [set(MEAN.choose(trajectory(number, 8), rewards, 1.0).steps) for rewards in (known, samples)]
            changed += len(steps[0] ^ steps[1])
        assert saved > 0.3 * 150 * 8 * 5
        assert changed < 0.05 * 150 * 8  # the confidence is 0.95
