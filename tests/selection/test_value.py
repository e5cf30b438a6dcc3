"""Method `value`: the equations by hand, the threshold and the budget, and what an adaptive run may leave out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.config import ValueConfig
from atlas_ray.selection import value
from atlas_ray.selection.budget import budget
from tests.selection.data import trajectory

PRINTED, MEAN = ValueConfig(), ValueConfig(estimate="mean")
REWARDS = st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=5), min_size=1, max_size=12)


def test_equation_9_as_printed():
    # r = (0, 0.4, 1), the expert's outcome 1: V_3 = 1, V_2 = 1 + .99, V_1 = .4 + .99 V_2, V_0 = .99 V_1
    assert value.values([0.0, 0.4, 1.0], 1.0, PRINTED) == pytest.approx([2.346399, 2.3701, 1.99, 1.0])
    assert value.differences([0.0, 0.4, 1.0], 1.0, PRINTED) == pytest.approx((0.023701, -0.3801, -0.99))


def test_the_mean_estimate_is_the_chance_to_get_home():
    assert value.values([0.0, 0.4, 1.0], 1.0, MEAN) == [0.0, 0.4, 1.0, 1.0]
    assert value.differences([0.0, 0.4, 1.0], 1.0, MEAN) == pytest.approx((0.4, 0.6, 0.0))


def test_steps_above_the_threshold_count_and_the_largest_within_the_budget():
    samples = [[0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
    row = value.select(trajectory(0, 4), 1.0, 0, samples, 1.0, MEAN)
    assert row.scores == (0.2, 0.4, 0.4, 0.0)
    assert row.steps == (0, 1, 2)
    assert value.select(trajectory(0, 4), 0.5, 0, samples, 1.0, MEAN).steps == (1, 2)
    assert row.provenance["returns"] == [0.0, 0.2, 0.6, 1.0]
    assert row.provenance["samples"] == [5, 5, 5, 5]


def test_a_difference_of_the_threshold_itself_does_not_exceed_it():
    tenths = [[1.0] * n + [0.0] * (10 - n) for n in range(1, 10)]
    assert value.select(trajectory(0, 9), 1.0, 0, tenths, 1.0, MEAN).steps == ()


def test_falls_count_only_where_asked():
    falling = [[1.0], [0.0]]
    assert value.select(trajectory(0, 2), 1.0, 0, falling, 0.0, MEAN).steps == ()
    both = MEAN.model_copy(update={"absolute": True})
    assert value.select(trajectory(0, 2), 1.0, 0, falling, 0.0, both).steps == (0,)


@given(samples=REWARDS, outcome=st.sampled_from([0.0, 1.0]), ratio=st.sampled_from([0.1, 0.3, 1.0]))
def test_any_selection_keeps_budget_and_threshold(samples, outcome, ratio):
    for config in (PRINTED, MEAN, PRINTED.model_copy(update={"absolute": True})):
        row = value.select(trajectory(0, len(samples)), ratio, 0, samples, outcome, config)
        assert len(row.steps) <= budget(len(samples), ratio)
        assert all(row.scores[step] > config.threshold for step in row.steps)


class TestAdaptive:
    def test_the_prior_learns_whether_chances_are_extreme(self):
        extreme = value.fit_prior([[0.0, 0.0]] * 50 + [[1.0, 1.0]] * 50)
        middling = value.fit_prior([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]] * 25)
        assert sum(extreme) < 0.5 < 2 < sum(middling)
        assert extreme.a / sum(extreme) == pytest.approx(0.5, abs=0.01)

    def test_clear_cases_are_closed_and_doubtful_ones_open(self):
        prior = value.Prior(0.03, 0.03)
        clear = [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
        assert value.open_steps(clear, 1.0, prior, MEAN, "t") == []
        doubtful = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
        assert value.open_steps(doubtful, 1.0, prior, MEAN, "t") == [0, 1]

    def test_no_step_gets_more_than_all_rollouts(self):
        samples = [[0.0, 1.0, 0.0, 1.0, 0.0], [0.0, 1.0]]
        assert value.open_steps(samples, 1.0, value.Prior(1.0, 1.0), MEAN, "t") == [1]

    def test_of_many_trajectories_few_change_and_much_is_saved(self):
        rng = np.random.default_rng(0)
        full = []
        for _ in range(150):  # a chance that jumps once, as the paper reports of its rollouts
            jump = rng.integers(0, 8)
            full.append([list(map(float, rng.random(5) < (0.02 if t <= jump else 0.98))) for t in range(8)])
        prior = value.fit_prior([rewards[:2] for samples in full for rewards in samples])
        saved = changed = 0
        for number, samples in enumerate(full):
            known = [rewards[:2] for rewards in samples]
            while wanted := value.open_steps(known, 1.0, prior, MEAN, str(number)):
                for step in wanted:
                    known[step] = samples[step][: len(known[step]) + 1]
            saved += sum(5 - len(rewards) for rewards in known)
            rule = (trajectory(number, 8), 1.0, 0)
            steps = [set(value.select(*rule, rewards, 1.0, MEAN).steps) for rewards in (known, samples)]
            changed += len(steps[0] ^ steps[1])
        assert saved > 0.3 * 150 * 8 * 5
        assert changed < 0.05 * 150 * 8  # the confidence is 0.95
