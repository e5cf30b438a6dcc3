"""One entry for a model that was trained with several seeds."""

from __future__ import annotations

import pytest

from atlas_ray.evaluation.grouped import grouped
from atlas_ray.evaluation.metrics import environment_result
from atlas_ray.evaluation.statistics import hierarchical_bootstrap
from tests.evaluation.test_metrics import episode, played


def test_the_score_is_the_mean_over_trainings_and_the_interval_covers_seeds_and_tasks() -> None:
    outcomes = [[1.0] * 6 + [0.0] * 4, [1.0] * 2 + [0.0] * 8]
    entry = grouped([played(*row) for row in outcomes], "success_rate")
    assert (entry["score"], entry["success_rate"]) == pytest.approx((40.0, 40.0))
    assert (entry["n"], entry["seeds"], entry["errors"], entry["prompt_tokens"]) == (20, 2, 0, 2000)
    expected = hierarchical_bootstrap([dict(enumerate(row)) for row in outcomes])
    assert entry["ci95"] == list(expected.ci95)
    alone = environment_result("success_rate", played(*outcomes[0]))["ci95"]
    assert entry["ci95"][1] - entry["ci95"][0] > alone[1] - alone[0]  # two trainings differ: nobody knows a third


def test_trainings_weigh_the_same_whatever_their_errors_and_repeats() -> None:
    first = [*played(1.0, 1.0), *(episode(task, 0.0, error=True) for task in (2, 3))]
    second = [episode(task, 0.0, seed=seed) for task in range(4) for seed in range(3)]
    entry = grouped([first, second], "success_rate")
    assert (entry["score"], entry["n"], entry["errors"]) == (50.0, 14, 2)


def test_one_training_with_results_is_that_training() -> None:
    rows = played(*[1.0] * 6, *[0.0] * 4)
    alone, entry = (
        environment_result("success_rate", rows),
        grouped([rows, [episode(0, 0.0, error=True)]], "success_rate"),
    )
    assert (entry["score"], entry["ci95"], entry["errors"], entry["seeds"]) == (alone["score"], alone["ci95"], 1, 2)
    assert grouped([[], []], "success_rate")["score"] is None
