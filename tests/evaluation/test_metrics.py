"""Intervals and tests against known values, hand-computed values, simulation and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.environments.contract import EnvironmentCard, Metric
from atlas_ray.errors import DataError
from atlas_ray.evaluation.metrics import (
    bootstrap,
    compare,
    environment_result,
    mcnemar,
    paired_difference,
    results,
    sign_flip,
    wilson,
)
from atlas_ray.trajectory import Episode

FACTS = {"model": "llm", "kind": "tuned", "selection": "llm", "seed": 0, "key": "k"}


def card(name: str, metric: Metric = "success_rate", held_in: bool = True) -> EnvironmentCard:
    return EnvironmentCard(
        name=name,
        held_in=held_in,
        metric=metric,
        max_rounds=9,
        instruction="Play.",
        n_train=9,
        n_test=9,
        source="test",
        action_rule="one",
    )


def episode(task: int, score: float, *, seed: int = 0, error: bool = False, env: str = "maze") -> Episode:
    return Episode(
        key=f"{env}{task}{seed}",
        model="m",
        env=env,
        task=task,
        split="test",
        seed=seed,
        messages=(),
        score=score,
        success=score == 1.0,
        rounds=4,
        stop="error" if error else "done",
        error="engine: gone" if error else None,
        prompt_tokens=100,
        completion_tokens=10,
    )


def played(*scores: float, env: str = "maze") -> list[Episode]:
    return [episode(task, score, env=env) for task, score in enumerate(scores)]


# --- rates --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (14, 24, 38.8, 75.5),  # the quickstart's measured TextCraft run
        (37, 40, 80.1, 97.4),
        (0, 24, 0.0, 13.8),
        (24, 24, 86.2, 100.0),
        (81, 263, 25.5, 36.6),  # Newcombe 1998, Table I: 0.2553 to 0.3662
        (1, 29, 0.6, 17.2),  # the same table: 0.0061 to 0.1718
    ],
)
def test_wilson_known_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=0.05)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_an_interval_around_the_rate_and_symmetric(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson(successes, n)
    assert 0 <= low <= 100 * successes / n + 1e-9
    assert 100 * successes / n <= high + 1e-9 <= 100 + 1e-9
    assert low < high
    assert wilson(n - successes, n) == pytest.approx((100 - high, 100 - low), abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_refuses_what_is_no_rate(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, n)


# --- means --------------------------------------------------------------------------------------------------
def test_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for trial in range(200):
        low, high = bootstrap(list(generator.beta(2, 3, size=30)), seed=trial)
        covered += low <= 40.0 <= high
    assert 0.90 <= covered / 200 <= 0.98  # percentile intervals are a little narrow at n = 30


def test_bootstrap_agrees_with_the_normal_interval_of_many_values() -> None:
    values = list(np.random.default_rng(1).uniform(size=400))
    half = 100 * 1.96 * float(np.std(values)) / 20
    low, high = bootstrap(values)
    assert low == pytest.approx(100 * np.mean(values) - half, abs=0.3)
    assert high == pytest.approx(100 * np.mean(values) + half, abs=0.3)


def test_bootstrap_of_equal_values_does_not_claim_certainty() -> None:
    assert bootstrap([0.0] * 24) == pytest.approx(wilson(0, 24))
    assert bootstrap([1.0] * 24) == pytest.approx(wilson(24, 24))
    low, high = bootstrap([0.5] * 24)
    assert low == pytest.approx(50 * wilson(24, 24)[0] / 100)
    assert high == pytest.approx(100 - low)
    low, high = bootstrap([0.0] * 24, low=-1.0)
    assert low == pytest.approx(-high)
    assert high == pytest.approx(wilson(0, 24)[1])


def test_bootstrap_draws_tasks_not_their_repeats() -> None:
    once = [0.0, 0.2, 0.4, 0.9, 1.0, 0.1, 0.7, 0.5]
    fourfold = [value for value in once for _ in range(4)]
    tasks = [task for task in range(8) for _ in range(4)]
    assert bootstrap(fourfold, tasks) == pytest.approx(bootstrap(once))
    naive = bootstrap(fourfold)
    assert naive[1] - naive[0] < 0.6 * (bootstrap(once)[1] - bootstrap(once)[0])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_bootstrap_is_repeatable_and_within_the_range(values: list[float]) -> None:
    low, high = bootstrap(values, seed=3)
    assert (low, high) == bootstrap(values, seed=3)
    assert -1e-9 <= low <= high <= 100 + 1e-9
    mean = 100 * float(np.mean(values))
    assert low - 1e-6 <= mean <= high + 1e-6


# --- paired -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("wins", "losses", "p_value"),
    [
        (0, 0, 1.0),
        (3, 3, 1.0),
        (5, 0, 0.0625),  # 2 / 2^5
        (10, 2, 158 / 4096),  # 2 (1 + 12 + 66) / 2^12
        (2, 10, 158 / 4096),
        (14, 0, 2 / 2**14),
    ],
)
def test_mcnemar_by_hand(wins: int, losses: int, p_value: float) -> None:
    assert mcnemar(wins, losses) == pytest.approx(p_value)


def test_mcnemar_of_thousands_of_pairs_is_finite() -> None:
    assert 0 <= mcnemar(3000, 2000) < 1e-40


def test_paired_difference_by_hand() -> None:
    # (14 + 1) / 26 - 1 / 26 = 0.53846; variance (16/26 - 0.53846^2) / 26 = 0.012517
    assert paired_difference(14, 0, 24) == pytest.approx((31.92, 75.77), abs=0.02)
    assert paired_difference(0, 0, 24) == pytest.approx((-10.66, 10.66), abs=0.02)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))))
def test_paired_difference_turns_around_with_the_models(case: tuple[int, int, int]) -> None:
    wins, losses, n = case[0], min(case[1], case[2] - case[0]), case[2]
    low, high = paired_difference(wins, losses, n)
    assert (-high, -low) == pytest.approx(paired_difference(losses, wins, n))
    assert -100 <= low < high <= 100


def test_sign_flip_is_mcnemar_on_successes() -> None:
    gains = [1.0] * 10 + [-1.0] * 2 + [0.0] * 12
    assert sign_flip(gains) == pytest.approx(mcnemar(10, 2), abs=0.01)
    assert sign_flip([0.0] * 5) == 1.0
    assert sign_flip([1.0] * 40) == pytest.approx(1 / 10_001)


def test_sign_flip_takes_a_task_as_one_coin() -> None:
    assert sign_flip([1.0] * 12, [0, 1, 2] * 4) == pytest.approx(0.25, abs=0.02)


def test_compare_pairs_by_task_and_leaves_errors_out() -> None:
    base = played(0, 0, 0, 0, 0, 0, 1, 1)
    tuned = [*played(1, 1, 1, 1, 1, 1, 1, 0)[:7], episode(7, 0.0, error=True), episode(99, 1.0)]
    found = compare(base, tuned)
    assert found is not None
    assert found.n == 7
    assert (found.first, found.second) == pytest.approx((100 / 7, 100.0))
    assert found.difference == pytest.approx(600 / 7)
    assert found.p_value == pytest.approx(2 / 2**6)
    assert found.established


def test_compare_of_one_gain_is_not_established() -> None:
    found = compare(played(0, 0, 0, 0), played(1, 0, 0, 0))
    assert found is not None
    assert found.p_value == 1.0
    assert not found.established


def test_compare_means_uses_scores() -> None:
    base = played(*[0.1, 0.2, 0.3, 0.0] * 6)
    tuned = played(*[0.4, 0.3, 0.3, 0.2] * 6)
    found = compare(base, tuned, "mean_reward")
    assert found is not None
    assert found.difference == pytest.approx(15.0)
    assert found.established
    assert found.ci95[0] < 15 < found.ci95[1]
    assert compare(base, base, "mean_reward") is not None
    same = compare(base, base, "mean_reward")
    assert same is not None
    assert not same.established
    assert same.p_value == 1.0


def test_compare_without_shared_tasks() -> None:
    assert compare(played(1, 1), [episode(7, 1.0)]) is None
    assert compare(played(1), played(1, env="textcraft")) is None


def test_compare_over_repeats_does_not_count_a_task_twice() -> None:
    base = [episode(task, 0.0, seed=seed) for task in range(4) for seed in range(8)]
    tuned = [episode(task, 1.0, seed=seed) for task in range(4) for seed in range(8)]
    found = compare(base, tuned)
    assert found is not None
    assert found.n == 32
    assert found.p_value > 0.1
    assert not found.established


def test_compare_is_rarely_wrong_when_nothing_differs() -> None:
    generator = np.random.default_rng(5)
    wrong = 0
    for _ in range(200):
        a, b = (played(*map(float, generator.integers(0, 2, 24))) for _ in range(2))
        found = compare(a, b)
        assert found is not None
        wrong += found.established
    assert wrong <= 14  # 5 % of 200 is 10; the exact test stays below


# --- results.json -------------------------------------------------------------------------------------------
def test_environment_result_of_a_rate() -> None:
    entry = environment_result("success_rate", [*played(*[1.0] * 14, *[0.5] * 10), episode(30, 0.0, error=True)])
    assert entry["score"] == entry["success_rate"] == pytest.approx(100 * 14 / 24)
    assert entry["ci95"] == pytest.approx(list(wilson(14, 24)))
    assert (entry["n"], entry["errors"], entry["mean_rounds"]) == (24, 1, 4.0)
    assert (entry["prompt_tokens"], entry["completion_tokens"]) == (2500, 250)


def test_environment_result_of_a_mean() -> None:
    entry = environment_result("mean_reward", played(0.5, 1.0, 0.0, 0.9))
    assert entry["score"] == pytest.approx(60.0)
    assert entry["success_rate"] == 25.0
    assert entry["ci95"][0] < 60 < entry["ci95"][1]


def test_environment_result_without_a_finished_episode_is_null_not_zero() -> None:
    for rows in ([], [episode(0, 0.0, error=True)]):
        entry = environment_result("mean_reward", rows)
        assert entry["n"] == 0
        assert entry["errors"] == len(rows)
        assert entry["score"] is entry["ci95"] is entry["success_rate"] is entry["mean_rounds"] is None


def test_repeats_widen_the_interval_of_a_rate() -> None:
    once = environment_result("success_rate", played(*[1.0, 0.0] * 10))
    rows = [episode(task, float(task % 2), seed=seed) for task in range(20) for seed in range(5)]
    repeated = environment_result("success_rate", rows)
    width = [entry["ci95"][1] - entry["ci95"][0] for entry in (once, repeated)]
    assert repeated["n"] == 100
    assert width[1] > 0.9 * width[0]


def test_results_averages_over_environments() -> None:
    cards = {
        "maze": card("maze"),
        "babyai": card("babyai", "mean_reward"),
        "pddl": card("pddl", "progress_rate", False),
    }
    found = results(FACTS, "abc", {"maze": played(1, 0), "babyai": played(0.5, 0.5, env="babyai"), "pddl": []}, cards)
    assert found.items() >= (FACTS | {"config_hash": "abc"}).items()
    assert found["episode_keys"] == {"maze": ["maze00", "maze10"], "babyai": ["babyai00", "babyai10"], "pddl": []}
    assert found["held_in_average"] == pytest.approx(50.0)
    assert found["held_out_average"] is None
    assert list(found["environments"]) == ["maze", "babyai", "pddl"]
    assert found["environments"]["babyai"]["metric"] == "mean_reward"


def test_results_needs_a_card() -> None:
    with pytest.raises(DataError, match="'sheet' has no card"):
        results(FACTS, "abc", {"sheet": []}, {"maze": card("maze")})
