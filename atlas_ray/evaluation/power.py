"""Power of an experiment: how many tasks and seeds it takes to find a difference between two methods.

The test is that of `statistics.compare_over_seeds`: trainings of two methods, evaluated on the same tasks. Power is
the share of simulated experiments whose p value is below alpha. The simulation draws the variances that the test
estimates, not single episodes, so a table takes well under a second. Needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atlas_ray.errors import ConfigError
from atlas_ray.evaluation.statistics import combine, student_quantile

_EXPERIMENTS = 10_000
"""Simulated experiments; the standard error of a power is half a point at most."""


@dataclass(frozen=True)
class Assumptions:
    """What is assumed of the two methods, in percent or percentage points.

    Raises:
        ConfigError: a value is impossible, alone or beside the others.
    """

    base: float
    """Success rate of the first method."""
    seed_sd: float
    """Standard deviation of a method's success rate between trainings, over the same tasks."""
    difference: float = 10.0
    """Success rate of the second method minus that of the first."""
    discordance: float | None = None
    """Share of pairs of episodes (one task, one training of each method) that only one method solves; None: as many
    as if the methods solved tasks independently."""
    repeatable: float = 0.5
    """Share, in [0, 1], of the variance between pairs that belongs to the task and comes back with every seed. More
    seeds average out the rest."""
    comparisons: int = 1
    """Comparisons of the table. The power is that of Holm's first, strictest step: alpha / comparisons."""
    alpha: float = 0.05

    def __post_init__(self) -> None:
        second = self.base + self.difference
        if not (0 <= self.base <= 100 and 0 <= second <= 100):
            raise ConfigError(f"power: base {self.base} and base + difference {second} must lie in [0, 100]")
        for name, low, high in (("seed_sd", 0, 50), ("repeatable", 0, 1), ("alpha", 1e-4, 0.5)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"power: {name} must lie in [{low}, {high}], found {getattr(self, name)}")
        if self.comparisons < 1:
            raise ConfigError(f"power: comparisons must be at least 1, found {self.comparisons}")
        most = min(self.base + second, 200 - self.base - second)
        if self.discordance is not None and not abs(self.difference) <= self.discordance <= most:
            raise ConfigError(
                f"power: discordance must lie in [{abs(self.difference)}, {most}] for rates of {self.base} and "
                f"{second}, found {self.discordance}"
            )

    @property
    def pair_variance(self) -> float:
        """Variance of the difference of one pair of episodes, as a share squared, without the luck of trainings."""
        first, gap = self.base / 100, self.difference / 100
        second = first + gap
        independent = first * (1 - second) + second * (1 - first)
        return (independent if self.discordance is None else self.discordance / 100) - gap**2


@dataclass(frozen=True)
class PowerRow:
    """One design: trainings of each method, tasks, and the chance to find the difference."""

    seeds: int
    tasks: int
    power: float
    """In [0, 1]."""


def power(assumed: Assumptions, seeds: int, tasks: int, *, seed: int = 0) -> float:
    """Chance, in [0, 1], that the test finds the assumed difference.

    Args:
        assumed: of the two methods.
        seeds: trainings of each method, at least 2: one training cannot tell a method from the luck of its seed.
        tasks: evaluated by every training, at least 2.
        seed: of the simulation.

    Raises:
        ConfigError: there are fewer seeds or tasks.
    """
    if seeds < 2 or tasks < 2:
        raise ConfigError(f"power: at least 2 seeds and 2 tasks are needed, found {seeds} and {tasks}")
    generator = np.random.default_rng(seed)
    variance = assumed.pair_variance
    of_training = (assumed.seed_sd / 100) ** 2 / seeds
    of_task = assumed.repeatable * variance / tasks
    of_luck = (1 - assumed.repeatable) * variance / 2 / (seeds * tasks)  # of each method

    def estimates(expected: float, freedom: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return expected * generator.chisquare(freedom, _EXPERIMENTS) / freedom

    freedom = [seeds - 1, seeds - 1, tasks - 1, (seeds - 1) * (tasks - 1), (seeds - 1) * (tasks - 1)]
    expected = [of_training + of_luck] * 2 + [of_task + 2 * of_luck] + [of_luck] * 2
    parts = [estimates(*pair) for pair in zip(expected, freedom, strict=True)]
    estimated, degrees = combine(parts[:2], parts[2], parts[3:], freedom)
    truth = 2 * of_training + of_task + 2 * of_luck
    found = generator.normal(assumed.difference / 100, np.sqrt(truth), _EXPERIMENTS)
    grid = 1 / np.linspace(1, 1e-3, 200)
    limits = [student_quantile(assumed.alpha / assumed.comparisons, float(value)) for value in grid]
    limit = np.interp(np.log(degrees), np.log(grid), np.log(limits))
    return float((np.abs(found) > np.sqrt(estimated) * np.exp(limit)).mean())


def power_table(
    assumed: Assumptions,
    seeds: Sequence[int] = (2, 3, 5, 10),
    tasks: Sequence[int] = (24, 48, 100, 200, 400),
    *,
    seed: int = 0,
) -> list[PowerRow]:
    """The power of every design, by seeds and then tasks; a design with 0.8 or more is usually called enough."""
    return [PowerRow(s, t, power(assumed, s, t, seed=seed)) for s in seeds for t in tasks]
