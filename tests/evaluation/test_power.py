"""Power: agreement with whole simulated experiments, with the closed form, and bad input."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from atlas_ray.errors import ConfigError
from atlas_ray.evaluation.power import Assumptions, power, power_table
from atlas_ray.evaluation.statistics import compare_over_seeds


def test_power_is_that_of_the_test_on_simulated_episodes() -> None:
    kinds = np.array([(0.1, 0.5), (0.3, 0.3), (0.7, 0.7), (0.5, 0.9)])  # chance of each method, by kind of task
    gaps = kinds[:, 1] - kinds[:, 0]
    discordance = float((kinds[:, 0] * (1 - kinds[:, 1]) + kinds[:, 1] * (1 - kinds[:, 0])).mean())
    assumed = Assumptions(
        base=40,
        difference=20,
        seed_sd=5,
        discordance=100 * discordance,
        repeatable=float(gaps.var() / (discordance - 0.2**2)),
    )
    generator = np.random.default_rng(1)
    found = 0
    for trial in range(200):
        chances = kinds[generator.integers(0, 4, 40)].T[:, None, :] + generator.normal(0, 0.05, (2, 3, 1))
        won = generator.random(chances.shape) < chances
        first, second = ([dict(enumerate(map(float, row))) for row in method] for method in won)
        difference = compare_over_seeds(first, second, seed=trial)
        assert difference is not None
        found += difference.p_value < 0.05
    assert 0.4 < found / 200 < 0.98  # where an error would show
    assert power(assumed, 3, 40) == pytest.approx(found / 200, abs=0.1)


def test_with_many_seeds_and_tasks_power_is_the_normal_formula() -> None:
    assumed = Assumptions(base=50, difference=7, seed_sd=8, discordance=40)
    variance = 2 * 0.08**2 / 40 + (0.5 + 0.5 / 40) * (0.4 - 0.07**2) / 500
    normal = NormalDist()
    expected = 1 - normal.cdf(normal.inv_cdf(0.975) - 0.07 / variance**0.5)
    assert power(assumed, 40, 500) == pytest.approx(expected, abs=0.03)


def test_without_a_difference_power_is_the_chance_of_a_false_alarm() -> None:
    assumed = Assumptions(base=50, difference=0, seed_sd=8, discordance=30)
    assert power(assumed, 40, 500) == pytest.approx(0.05, abs=0.01)
    assert power(assumed, 3, 48) <= 0.055


def test_a_table_grows_with_seeds_and_tasks_and_shrinks_with_comparisons() -> None:
    assumed = Assumptions(base=40, seed_sd=3, discordance=30)
    table = power_table(assumed)
    assert [(row.seeds, row.tasks) for row in table][:6] == [(2, 24), (2, 48), (2, 100), (2, 200), (2, 400), (3, 24)]
    by_design = {(row.seeds, row.tasks): row.power for row in table}
    assert by_design[2, 24] < 0.2
    assert by_design[10, 400] > 0.95
    for (seeds, tasks), value in by_design.items():
        assert all(value <= by_design[s, t] + 0.02 for s, t in by_design if s >= seeds and t >= tasks)
    corrected = {(r.seeds, r.tasks): r.power for r in power_table(replace(assumed, comparisons=6))}
    assert all(corrected[design] < by_design[design] for design in by_design)
    assert table == power_table(assumed)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"base": 95}, "base"),
        ({"base": 40, "discordance": 5}, "discordance must lie in"),
        ({"base": 5, "discordance": 50}, "discordance must lie in"),
        ({"base": 40, "seed_sd": -1}, "seed_sd"),
        ({"base": 40, "repeatable": 1.5}, "repeatable"),
        ({"base": 40, "alpha": 0}, "alpha"),
        ({"base": 40, "comparisons": 0}, "comparisons"),
        ({"base": float("nan")}, "base"),
    ],
)
def test_impossible_assumptions_are_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Assumptions(**({"seed_sd": 3} | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("design", [(1, 48), (3, 1)])
def test_a_design_that_cannot_test_anything_is_refused(design: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="at least 2 seeds"):
        power(Assumptions(base=40, seed_sd=3), *design)
