"""Statistics over seeds and tasks: coverage by simulation, closed forms, known values, properties and bad input."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.evaluation.metrics import bootstrap, sign_flip, wilson
from atlas_ray.evaluation.statistics import (
    compare_over_seeds,
    hierarchical_bootstrap,
    holm,
    label_swap_test,
    precision_recall,
    student_p,
    student_quantile,
    success_curve,
)
from atlas_ray.trajectory import Episode

Outcomes = list[dict[int, float]]


def rows(values: np.ndarray) -> Outcomes:
    """Outcomes of (seeds, tasks)."""
    return [dict(enumerate(map(float, row))) for row in values]


def trainings(generator: np.random.Generator, rate: float, seeds: int, seed_sd: float, tasks: np.ndarray) -> Outcomes:
    """Successes and failures of several trainings; `tasks` holds what each task adds to the rate."""
    chances = rate + generator.normal(0, seed_sd, (seeds, 1)) + tasks
    return rows(generator.random(chances.shape) < np.clip(chances, 0, 1))


def episode(task: int, success: bool, rounds: int, *, seed: int = 0, error: bool = False) -> Episode:
    return Episode(
        key=f"{task}.{seed}",
        model="m",
        env="maze",
        task=task,
        split="test",
        seed=seed,
        messages=(),
        score=float(success),
        success=success,
        rounds=rounds,
        stop="error" if error else "done",
        error="engine: gone" if error else None,
    )


# --- the interval of a mean ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("seeds", "tasks", "rate", "seed_sd", "task_sd", "width"),
    [
        (3, 48, 0.5, 0.15, 0.05, 75),  # luck of trainings dominates: 2 * 4.30 * 15 / sqrt(3)
        (5, 48, 0.6, 0.05, 0.2, 25),  # hard and easy tasks dominate
    ],
)
def test_the_interval_covers_the_mean_of_new_seeds_and_tasks(
    seeds: int, tasks: int, rate: float, seed_sd: float, task_sd: float, width: float
) -> None:
    generator = np.random.default_rng(seeds)
    covered, widths = 0, []
    for trial in range(200):
        outcomes = trainings(generator, rate, seeds, seed_sd, generator.normal(0, task_sd, tasks))
        low, high = hierarchical_bootstrap(outcomes, seed=trial).ci95
        covered += low <= 100 * rate <= high
        widths.append(high - low)
    assert 0.91 <= covered / 200 <= 0.995
    assert float(np.median(widths)) < width  # not by claiming nothing


def test_a_plain_bootstrap_over_tasks_would_not_cover_it() -> None:
    generator = np.random.default_rng(4)
    covered = 0
    for trial in range(100):
        outcomes = trainings(generator, 0.5, 3, 0.1, generator.normal(0, 0.1, 48))
        means = [float(np.mean([one[task] for one in outcomes])) for task in range(48)]
        low, high = bootstrap(means, seed=trial)
        covered += low <= 50 <= high
    assert covered < 85


def test_the_width_is_that_of_the_two_way_analysis_of_variance() -> None:
    generator = np.random.default_rng(5)
    values = 0.5 + generator.normal(0, 0.05, (6, 1)) + generator.normal(0, 0.08, 40)
    values = np.clip(values + generator.normal(0, 0.05, (6, 40)), 0, 1)
    of_seeds, of_tasks = values.mean(axis=1), values.mean(axis=0)
    residuals = values - of_seeds[:, None] - of_tasks + values.mean()
    squares = (
        40 * of_seeds.var(ddof=1),
        6 * of_tasks.var(ddof=1),
        (residuals**2).sum() / (5 * 39),
    )
    variance = (squares[0] + squares[1] - squares[2]) / 240
    freedom = (240 * variance) ** 2 / (squares[0] ** 2 / 5 + squares[1] ** 2 / 39 + squares[2] ** 2 / 195)
    found = hierarchical_bootstrap(rows(values))
    low, high = found.ci95
    assert found.mean == pytest.approx(100 * values.mean())
    assert high - low == pytest.approx(200 * student_quantile(0.05, freedom) * np.sqrt(variance), rel=0.05)
    assert (found.seeds, found.tasks, found.over) == (6, 40, "seeds and tasks")


def test_one_seed_is_a_bootstrap_over_tasks_and_says_so() -> None:
    outcomes = {task: float(task % 3 == 0) for task in range(30)}
    found = hierarchical_bootstrap([outcomes], seed=7)
    assert found.ci95 == bootstrap(list(outcomes.values()), seed=7)
    assert (found.mean, found.seeds, found.over) == (pytest.approx(100 / 3), 1, "tasks")


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_equal_outcomes_do_not_claim_certainty(value: float) -> None:
    low, high = hierarchical_bootstrap([dict.fromkeys(range(24), value)] * 3).ci95
    assert low <= 100 * value <= high
    assert high - low > 10
    if value == 1.0:
        assert (low, high) == pytest.approx(wilson(24, 24))


def test_a_single_task_says_next_to_nothing() -> None:
    low, high = hierarchical_bootstrap([{0: 1.0}, {0: 0.0}, {0: 1.0}]).ci95
    assert low <= 200 / 3 <= high
    assert high - low > 70


def test_missing_outcomes_are_left_out() -> None:
    found = hierarchical_bootstrap([{0: 1.0, 1: 0.0}, {}, {0: 1.0, 2: 1.0, 3: 0.0, 4: 1.0}])
    assert (found.mean, found.seeds, found.tasks) == (pytest.approx(62.5), 2, 5)
    assert found.ci95[0] < 62.5 < found.ci95[1]


@pytest.mark.parametrize("outcomes", [[], [{}], [{0: 1.5}], [{0: float("nan")}], [{0: -0.1}]])
def test_impossible_outcomes_are_refused(outcomes: Outcomes) -> None:
    with pytest.raises(ValueError, match="outcome"):
        hierarchical_bootstrap(outcomes)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_an_interval_holds_its_mean_and_repeats(data: st.DataObject) -> None:
    cell = st.sampled_from([0.0, 0.1, 0.3, 1.0])
    outcomes = data.draw(st.lists(st.dictionaries(st.integers(0, 8), cell, min_size=1), min_size=1, max_size=4))
    found = hierarchical_bootstrap(outcomes, seed=1)
    low, high = found.ci95
    assert 0 <= low <= found.mean + 1e-6
    assert found.mean <= high + 1e-6 <= 100 + 1e-6
    assert high - low > 0.01
    assert found == hierarchical_bootstrap(outcomes, seed=1)


def test_text_tasks_give_the_same_in_any_process() -> None:
    code = (
        "from atlas_ray.evaluation.statistics import *;"
        "a = [{f't{i}': float((i * s) % 3 == 0) for i in range(20)} for s in (1, 2, 4)];"
        "b = [{f't{i}': float((i + s) % 4 == 0) for i in range(20)} for s in (1, 2, 4)];"
        "print(hierarchical_bootstrap(a), compare_over_seeds(a, b), label_swap_test(a, b))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert len(texts) == 1
    assert "Difference" in texts.pop()


# --- differences --------------------------------------------------------------------------------------------
def test_the_interval_of_a_difference_covers_it_and_equal_methods_are_seldom_told_apart() -> None:
    generator = np.random.default_rng(8)
    covered = rejected = swapped = 0
    for trial in range(200):
        tasks = generator.normal(0, 0.2, 36)
        first, second = (trainings(generator, 0.5, 3, 0.1, tasks) for _ in range(2))
        found = compare_over_seeds(first, second, seed=trial)
        assert found is not None
        covered += found.ci95[0] <= 0 <= found.ci95[1]
        rejected += found.p_value < 0.05
        swapped += label_swap_test(first, second, seed=trial) < 0.05
    assert covered >= 182
    assert rejected <= 18
    assert swapped > 40  # luck of trainings is a difference of these trainings, not of the methods


def test_pairing_by_task_narrows_the_difference() -> None:
    generator = np.random.default_rng(9)
    tasks = np.where(np.arange(60) % 2, 0.45, -0.45)
    first, second = trainings(generator, 0.5, 4, 0.01, tasks), trainings(generator, 0.5, 4, 0.01, tasks)
    paired = compare_over_seeds(first, second)
    order = generator.permutation(60)
    shuffled = compare_over_seeds(first, [{int(order[task]): one[task] for task in one} for one in second])
    assert paired is not None
    assert shuffled is not None
    assert paired.difference == pytest.approx(shuffled.difference)
    assert paired.ci95[1] - paired.ci95[0] < 0.7 * (shuffled.ci95[1] - shuffled.ci95[0])


def test_a_clear_difference_is_found_and_turns_with_its_methods() -> None:
    generator = np.random.default_rng(10)
    tasks = generator.normal(0, 0.1, 48)
    weak, strong = trainings(generator, 0.3, 3, 0.03, tasks), trainings(generator, 0.7, 5, 0.03, tasks)
    found, turned = compare_over_seeds(weak, strong), compare_over_seeds(strong, weak)
    assert found is not None
    assert turned is not None
    assert found.ci95[0] > 15
    assert found.p_value < 0.01
    assert (found.seeds, found.tasks, found.over) == ((3, 5), 48, "seeds and tasks")
    assert turned.difference == pytest.approx(-found.difference)
    assert turned.p_value == pytest.approx(found.p_value)
    assert turned.ci95 == pytest.approx((-found.ci95[1], -found.ci95[0]), abs=2)


def test_one_seed_each_is_the_paired_test_over_tasks() -> None:
    first, second = {t: float(t % 2) for t in range(20)}, {t: float(t % 5 > 1) for t in range(3, 24)}
    shared = range(3, 20)
    gains = [second[task] - first[task] for task in shared]
    found = compare_over_seeds([first], [second], seed=3)
    assert found is not None
    assert (found.ci95, found.p_value) == (bootstrap(gains, low=-1.0, seed=3), sign_flip(gains, seed=3))
    assert (found.tasks, found.over) == (len(shared), "tasks")
    several = compare_over_seeds([first], [second, second | {4: 1.0}])
    assert several is not None
    assert several.over == "tasks"


def test_equal_trainings_do_not_claim_that_the_difference_is_exactly_zero() -> None:
    one = {task: float(task % 2) for task in range(24)}
    found = compare_over_seeds([one, one], [one, one, one])
    assert found is not None
    assert found.difference == 0
    assert found.ci95[0] < -5
    assert found.ci95[1] > 5
    assert found.p_value == 1
    assert compare_over_seeds([{0: 1.0}], [{1: 1.0}]) is None


def test_the_label_swap_test_is_the_exact_binomial_test_for_successes() -> None:
    # 2 seeds x 8 tasks: 9 pairs that only the second solved, 1 that only the first solved: p = 2 * 11 / 2**10
    first = [{**dict.fromkeys(range(8), 0.0), 7: 1.0}, {**dict.fromkeys(range(8), 0.0)}]
    second = [{**dict.fromkeys(range(5), 1.0), 5: 0.0, 6: 0.0, 7: 0.0}, {t: float(t < 4) for t in range(8)}]
    assert label_swap_test(first, second) == pytest.approx(22 / 1024, abs=0.006)
    with pytest.raises(ValueError, match="share no task"):
        label_swap_test([{0: 1.0}], [{1: 1.0}])
    with pytest.raises(ValueError):
        label_swap_test([{0: 1.0}], [{0: 1.0}, {0: 0.0}])


def test_the_p_value_is_students_with_the_variances_of_the_two_way_layout() -> None:
    generator = np.random.default_rng(14)
    arms = []
    for seeds, rate in ((4, 0.4), (3, 0.55)):
        values = rate + generator.normal(0, 0.03, (seeds, 1)) + generator.normal(0, 0.1, 12)
        arms.append(np.clip(values + generator.normal(0, 0.1, (seeds, 12)), 0, 1))
    gaps = arms[1].mean(axis=0) - arms[0].mean(axis=0)
    parts = [(gaps.var(ddof=1) / 12, 11)]
    variance = parts[0][0]
    for arm in arms:
        seeds = len(arm)
        residuals = arm - arm.mean(axis=1, keepdims=True) - arm.mean(axis=0) + arm.mean()
        of_seeds = arm.mean(axis=1).var(ddof=1) / seeds
        of_luck = (residuals**2).sum() / ((seeds - 1) * 11) / (12 * seeds)
        parts += [(of_seeds, seeds - 1), (of_luck, (seeds - 1) * 11)]
        variance += of_seeds - of_luck
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    found = compare_over_seeds(rows(arms[0]), rows(arms[1]))
    assert found is not None
    assert found.difference == pytest.approx(100 * gaps.mean())
    assert found.p_value == pytest.approx(student_p(gaps.mean() / np.sqrt(variance), freedom), rel=1e-6)


# --- Student and Holm ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("p", "freedom", "t"),
    [(0.05, 1, 12.7062), (0.05, 2, 4.30265), (0.01, 5, 4.03214), (0.05, 30, 2.04227), (0.001, 120, 3.37345)],
)
def test_student_has_the_values_of_the_printed_tables(p: float, freedom: float, t: float) -> None:
    assert student_quantile(p, freedom) == pytest.approx(t, rel=1e-4)
    assert student_p(-t, freedom) == pytest.approx(p, rel=1e-3)


def test_holm_known_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.5, 0.001, 0.6]) == pytest.approx([1.0, 0.003, 1.0])
    assert holm([]) == []
    with pytest.raises(ValueError, match="p values"):
        holm([0.2, float("nan")])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_lies_between_no_correction_and_bonferronis(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, value in zip(p_values, adjusted, strict=True):
        assert raw <= value <= min(1, raw * len(p_values))
    pairs = sorted(zip(p_values, adjusted, strict=True))
    assert all(a[1] <= b[1] for a, b in itertools.pairwise(pairs))


# --- success over rounds ------------------------------------------------------------------------------------
def test_a_curve_of_one_training_counts_successes_within_each_number_of_rounds() -> None:
    played = [episode(0, True, 2), episode(1, True, 4), episode(2, False, 4), episode(3, True, 1, error=True)]
    curve = success_curve([played], 4)
    assert [point.rounds for point in curve] == [1, 2, 3, 4]
    assert [point.success for point in curve] == pytest.approx([0, 100 / 3, 100 / 3, 200 / 3])
    assert [point.ci95 for point in curve] == [wilson(0, 3), wilson(1, 3), wilson(1, 3), wilson(2, 3)]
    assert success_curve([[episode(0, True, 1, error=True)], []], 4) == []


def test_a_curve_of_several_trainings_has_the_hierarchical_interval() -> None:
    generator = np.random.default_rng(12)
    played = [[episode(task, bool(generator.random() < 0.6), 1 + task % 5) for task in range(20)] for _ in range(3)]
    curve = success_curve(played, 6, seed=2)
    assert [a.success <= b.success for a, b in itertools.pairwise(curve)] == [True] * 5
    within = [{e.task: float(e.success and e.rounds <= 3) for e in episodes} for episodes in played]
    expected = hierarchical_bootstrap(within, seed=2)
    assert (curve[2].success, curve[2].ci95) == (expected.mean, expected.ci95)
    assert curve[5].ci95 == curve[4].ci95  # nothing is solved in the sixth round


def test_several_episodes_of_a_task_are_one_task() -> None:
    played = [episode(task, task % 2 == 0, 1, seed=seed) for task in range(12) for seed in range(4)]
    [point] = success_curve([played], 1)
    assert (point.success, point.ci95) == (50.0, bootstrap([float(task % 2 == 0) for task in range(12)]))


# --- precision and recall -----------------------------------------------------------------------------------
def test_precision_and_recall_by_hand() -> None:
    found = precision_recall({"a": [0, 1], "b": [], "c": [2, 5, 7]}, {"a": [0], "b": [3], "c": [2, 5], "d": [1]})
    assert (found.selected, found.relevant, found.trajectories) == (5, 4, 3)
    assert (found.precision, found.recall) == (pytest.approx(60), pytest.approx(75))
    assert found.precision_ci95 == bootstrap([1, 0, 1, 1, 0], ["a", "a", "c", "c", "c"])
    assert found.recall_ci95 == bootstrap([1, 0, 1, 1], ["a", "b", "c", "c"])


def test_precision_without_selected_steps_is_unknown_and_perfection_is_not_certain() -> None:
    nothing = precision_recall({"a": []}, {"a": [0]})
    assert (nothing.precision, nothing.precision_ci95, nothing.recall) == (None, None, 0)
    assert precision_recall({"a": [1]}, {"a": []}).recall is None
    keys = [f"t{i}" for i in range(20)]
    perfect = precision_recall({key: [0, 2] for key in keys}, {key: [2, 0] for key in keys})
    assert perfect.precision == 100
    assert perfect.precision_ci95 == pytest.approx(wilson(20, 20))  # 20 trajectories, not 40 steps
    with pytest.raises(ValueError, match=r"'b'.*no truth"):
        precision_recall({"b": [1]}, {"a": [0]})


def test_precision_is_clustered_by_trajectory() -> None:
    generator = np.random.default_rng(13)
    covered = 0
    for trial in range(200):
        quality = np.clip(generator.normal(0.6, 0.25, 40), 0, 1)  # some trajectories are selected well, some badly
        hits = generator.random((40, 6)) < quality[:, None]
        selected = {str(key): range(6) for key in range(40)}
        truth = {str(key): np.flatnonzero(row).tolist() for key, row in enumerate(hits)}
        interval = precision_recall(selected, truth, seed=trial).precision_ci95
        assert interval is not None
        covered += interval[0] <= 60 <= interval[1]
    assert covered >= 180
