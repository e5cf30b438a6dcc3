"""Statistics of experiments: intervals and tests over training seeds and tasks, curves over rounds, and the precision
and recall of a selection.

A method is trained with several seeds, and every training is evaluated on the same tasks. Its success varies between
seeds and between tasks, so intervals draw both. Two methods are compared on the same tasks; their trainings are
independent. Outcomes lie in [0, 1]; results are in percent or percentage points. Needs numpy alone. Statistics of one
training are in `metrics.py`; how many tasks and seeds an experiment needs is in `power.py`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from atlas_ray.evaluation.metrics import RESAMPLES, Interval, bootstrap, sign_flip, wilson
from atlas_ray.trajectory import Episode, Split

Array = NDArray[np.float64]
Task = TypeVar("Task", bound=Hashable)
Over = Literal["seeds and tasks", "tasks"]

_CHUNK = 500
_Z = NormalDist().inv_cdf(0.975)
_MOST_FREEDOM = 1000
"""With so many degrees of freedom, Student's t is the normal distribution for every purpose here."""
_ANGLES = np.linspace(0, np.pi / 2, 20_001)
_EQUAL = 1e-9
"""A standard error below this is rounding: the outcomes do not vary."""


@dataclass(frozen=True)
class Mean:
    """The mean outcome of a method, in percent."""

    mean: float
    ci95: Interval
    seeds: int
    """Trainings with an outcome."""
    tasks: int

    @property
    def over(self) -> Over:
        """What the interval covers: with one seed, nothing is known of another training's luck."""
        return "seeds and tasks" if self.seeds > 1 else "tasks"


@dataclass(frozen=True)
class Difference:
    """Two methods on the same tasks; in percent, or percentage points for the difference."""

    first: float
    second: float
    difference: float
    """second - first."""
    ci95: Interval
    p_value: float
    """Two-sided, not corrected for several comparisons (`holm`)."""
    seeds: tuple[int, int]
    """Trainings of the first and of the second method."""
    tasks: int
    """Tasks that both methods have an outcome of."""

    @property
    def over(self) -> Over:
        """What interval and p value cover; a method with one seed is taken as that one training."""
        return "seeds and tasks" if min(self.seeds) > 1 else "tasks"


def hierarchical_bootstrap(outcomes_by_seed: Sequence[Mapping[Task, float]], *, seed: int = 0) -> Mean:
    """Mean over seeds of the mean over tasks, with a 95 % interval over seeds and tasks.

    A draw takes seeds and, for all of its seeds, the same tasks, both with replacement (Owen 2007, "The pigeonhole
    bootstrap"). Percentiles of such draws are too close together where few seeds differ much. The interval keeps their
    shape and takes its width from the two-way analysis of variance: standard error times Student's t, degrees of
    freedom by Satterthwaite. With one seed it is `metrics.bootstrap` over tasks. Equal outcomes, or a single task,
    get the interval of `metrics.bootstrap` too, which never has width 0.

    Args:
        outcomes_by_seed: the outcome of each task in [0, 1], for each training; a task without an outcome is left out.
        seed: the same seed and outcomes give the same interval.

    Raises:
        ValueError: there is no outcome, or one outside [0, 1].
    """
    arm = _arm(outcomes_by_seed, list(dict.fromkeys(task for outcomes in outcomes_by_seed for task in outcomes)))
    interval, _ = _interval_and_p([(1, arm)], 0.0, seed)
    return Mean(100 * _mean(arm), interval, *arm.shape)


def compare_over_seeds(
    first: Sequence[Mapping[Task, float]], second: Sequence[Mapping[Task, float]], *, seed: int = 0
) -> Difference | None:
    """Difference of two methods on the tasks that both have an outcome of, paired by task; None without such a task.

    A draw of the bootstrap takes the same tasks for both methods, and seeds for each method. The interval is then made
    as in `hierarchical_bootstrap`. The p value is Student's t test of the difference over that standard error. It tests
    that both methods have the same mean over trainings and tasks. With one seed for each method, interval and p value
    are those of `metrics.compare` for means: a bootstrap and a sign-flip test over tasks.

    Args:
        first: outcomes in [0, 1] of the method compared with, by task, for each training.
        second: the same of the method in question.
        seed: of the bootstrap.

    Raises:
        ValueError: an outcome lies outside [0, 1].
    """
    known = {task for outcomes in second for task in outcomes}
    tasks = [task for task in dict.fromkeys(task for outcomes in first for task in outcomes) if task in known]
    if not tasks:
        return None
    left, right = _arm(first, tasks), _arm(second, tasks)
    interval, p_value = _interval_and_p([(-1, left), (1, right)], -1.0, seed)
    a, b = _mean(left), _mean(right)
    return Difference(100 * a, 100 * b, 100 * (b - a), interval, p_value, (len(left), len(right)), len(tasks))


def label_swap_test(
    first: Sequence[Mapping[Task, float]], second: Sequence[Mapping[Task, float]], *, seed: int = 0
) -> float:
    """Two-sided p value of a permutation test that swaps the methods' labels in each pair of outcomes.

    A pair is one task and one seed; trainings at the same index of `first` and `second` share their seed. The test
    says whether *these trainings* differ on *these tasks*: it is exact when, for every seed, both models solve every
    task equally often. It does not say that one method is better when trained again, because luck of a training that
    moves all of its tasks counts as a difference. That is what the p value of `compare_over_seeds` is for.

    Raises:
        ValueError: the numbers of trainings differ, or no pair is shared.
    """
    gains = [b[task] - a[task] for a, b in zip(first, second, strict=True) for task in a if task in b]
    if not gains:
        raise ValueError("the two methods share no task under the same seed: give outcomes of the same tasks")
    return sign_flip(gains, seed=seed)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for all comparisons of a table, in the given order (Holm 1979).

    Rejecting where the adjusted value is below alpha keeps the chance of any false rejection below alpha.

    Raises:
        ValueError: a p value lies outside [0, 1].
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p values must lie in [0, 1], found {list(p_values)}")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True)
class CurvePoint:
    """Success within a number of rounds, in percent."""

    rounds: int
    success: float
    ci95: Interval
    """Of this point alone, not of the whole curve."""


def success_curve(episodes_by_seed: Sequence[Sequence[Episode]], max_rounds: int, *, seed: int = 0) -> list[CurvePoint]:
    """Success within 1, 2, ... `max_rounds` rounds, of episodes that finished without an error; empty without any.

    One training with one episode per task has Wilson's interval; one with several has a bootstrap over tasks; several
    trainings have the interval of `hierarchical_bootstrap`. An episode that was played with a smaller cap counts as
    unsolved from there on, so give a `max_rounds` that is not above the cap of the evaluation.

    Args:
        episodes_by_seed: the episodes of each training.
        max_rounds: at least 1.
        seed: of the bootstraps.
    """
    done = [[episode for episode in episodes if episode.error is None] for episodes in episodes_by_seed]
    done = [episodes for episodes in done if episodes]
    if not done:
        return []
    single = len(done) == 1 and len({(e.env, e.split_task) for e in done[0]}) == len(done[0])
    points: list[CurvePoint] = []
    solved = -1
    for rounds in range(1, max_rounds + 1):
        wins = [[e.success and e.rounds <= rounds for e in episodes] for episodes in done]
        before, solved = solved, sum(map(sum, wins))
        if solved == before:
            points.append(CurvePoint(rounds, points[-1].success, points[-1].ci95))
        elif single:
            points.append(CurvePoint(rounds, 100 * solved / len(done[0]), wilson(solved, len(done[0]))))
        else:
            found = hierarchical_bootstrap([_by_task(*pair) for pair in zip(done, wins, strict=True)], seed=seed)
            points.append(CurvePoint(rounds, found.mean, found.ci95))
    return points


@dataclass(frozen=True)
class PrecisionRecall:
    """How well a selection finds the steps that matter, in percent over all steps of all trajectories."""

    precision: float | None
    """Share of the selected steps that matter; None when no step was selected."""
    precision_ci95: Interval | None
    recall: float | None
    """Share of the steps that matter that were selected; None when no step matters."""
    recall_ci95: Interval | None
    selected: int
    """Steps selected."""
    relevant: int
    """Steps that matter."""
    trajectories: int


def precision_recall(
    selected: Mapping[str, Collection[int]], truth: Mapping[str, Collection[int]], *, seed: int = 0
) -> PrecisionRecall:
    """Precision and recall of a selection against the known truth, with 95 % intervals clustered by trajectory.

    Steps of one trajectory are not independent, so the bootstrap draws whole trajectories.

    Args:
        selected: the selected steps by trajectory id. A trajectory whose selection failed must be absent, and is then
            not scored; one without a selected step must be present, and counts in the recall.
        truth: the steps that matter (productive steps, no habit) by trajectory id; others than in `selected` are
            ignored.
        seed: of the bootstrap.

    Raises:
        ValueError: a selected trajectory has no truth.
    """
    if unknown := sorted(selected.keys() - truth.keys()):
        raise ValueError(f"trajectory {unknown[0]!r} has a selection and no truth ({len(unknown)} in all)")
    picks = [(key, step in truth[key]) for key, steps in selected.items() for step in sorted(set(steps))]
    finds = [(key, step in steps) for key, steps in selected.items() for step in sorted(set(truth[key]))]
    precision, precision_ci95 = _share(picks, seed)
    recall, recall_ci95 = _share(finds, seed)
    return PrecisionRecall(
        precision, precision_ci95, recall, recall_ci95, len(picks), len(finds), trajectories=len(selected)
    )


def _share(hits: Sequence[tuple[str, bool]], seed: int) -> tuple[float, Interval] | tuple[None, None]:
    """Share of hits in percent, with its interval; a hit is a trajectory id and whether its step is right."""
    if not hits:
        return None, None
    trajectories, values = zip(*hits, strict=True)
    return 100 * fmean(values), bootstrap(values, trajectories, seed=seed)


# --- how it is computed -------------------------------------------------------------------------------------
def combine(seeds: Any, tasks: Any, luck: Any, freedom: Sequence[Any]) -> tuple[Any, Any]:
    """Variance of a mean over seeds and tasks, and its degrees of freedom; element by element for arrays.

    In a two-way layout the variance between seeds and the variance between tasks both contain the luck of single
    outcomes, so it is subtracted once. The result is never less than any of its parts. Degrees of freedom are
    Satterthwaite's (1946), between 1 and 1000.

    Args:
        seeds: estimated variances of the mean that seeds cause, one for each method with several seeds.
        tasks: the same that tasks cause.
        luck: the same that single outcomes cause, one for each method in `seeds`.
        freedom: degrees of freedom of `[*seeds, tasks, *luck]`.
    """
    between, within = sum(seeds), sum(luck)
    variance = np.maximum(np.maximum(between + tasks - within, tasks), np.maximum(between, within))
    parts = [*seeds, tasks, *luck]
    spread = sum(part**2 / degrees for part, degrees in zip(parts, freedom, strict=True))
    return variance, np.clip(variance**2 / np.maximum(spread, 1e-300), 1, _MOST_FREEDOM)


def _tails(freedom: float) -> Array:
    """Two-sided p values of Student's t at sqrt(freedom) * tan(_ANGLES).

    By the angle, the density of t is proportional to cos(angle) ** (freedom - 1).
    """
    density = np.cos(_ANGLES) ** (freedom - 1)
    area = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return np.asarray(1 - area / area[-1])


def student_p(t: float, freedom: float) -> float:
    """Two-sided p value of Student's t."""
    return float(np.interp(math.atan(abs(t) / math.sqrt(freedom)), _ANGLES, _tails(freedom)))


@lru_cache(maxsize=4096)
def student_quantile(p: float, freedom: float) -> float:
    """The t whose two-sided p value is `p`."""
    return math.sqrt(freedom) * math.tan(float(np.interp(1 - p, 1 - _tails(freedom), _ANGLES)))


def _arm(outcomes_by_seed: Sequence[Mapping[Task, float]], tasks: Sequence[Task]) -> Array:
    """Outcomes as (seeds, tasks), NaN where there is none; seeds without any outcome are left out."""
    values = [value for outcomes in outcomes_by_seed for value in outcomes.values()]
    if wrong := [value for value in values if not 0 <= value <= 1]:
        raise ValueError(f"outcomes must lie in [0, 1], found {wrong[0]}")
    rows = [[outcomes.get(task, math.nan) for task in tasks] for outcomes in outcomes_by_seed]
    rows = [row for row in rows if not all(map(math.isnan, row))]
    if not rows:
        raise ValueError("there is no outcome: give at least one training with one task")
    return np.array(rows, dtype=np.float64)


def _mean(arm: Array) -> float:
    return float(np.nanmean(arm, axis=1).mean())


def _interval_and_p(arms: Sequence[tuple[int, Array]], low: float, seed: int) -> tuple[Interval, float]:
    """Interval in percent and p value (of the null hypothesis 0) of the signed sum of the arms' means.

    Args:
        arms: sign and outcomes (seeds, tasks) of each method; the tasks are the same.
        low: the least possible value of the sum, whose largest is 1.
        seed: of the draws.
    """
    error, freedom = _standard_error(arms)
    if error < _EQUAL or all(len(arm) == 1 for _, arm in arms):
        gains = np.round(sum(sign * np.nanmean(arm, axis=0) for sign, arm in arms), 12)
        return bootstrap(list(gains), low=low, seed=seed), sign_flip(list(gains), seed=seed)
    value = sum(sign * _mean(arm) for sign, arm in arms)
    drawn = _draws(arms, seed)
    stretch = error * student_quantile(0.05, freedom) / (drawn.std() * _Z)
    lower, upper = value + stretch * (np.percentile(drawn, [2.5, 97.5]) - drawn.mean())
    interval = 100 * max(low, float(lower)), 100 * min(1.0, float(upper))
    return interval, student_p(value / error, freedom)


def _standard_error(arms: Sequence[tuple[int, Array]]) -> tuple[float, float]:
    """Standard error of the signed sum of the arms' means, and its degrees of freedom.

    It is 0 with a single task: there is nothing to see of the variance between tasks.
    """
    tasks = arms[0][1].shape[1]
    if tasks == 1:
        return 0.0, 1.0
    by_task = np.zeros(tasks)
    seeds, luck, seed_freedom, luck_freedom = [], [], [], []
    for sign, arm in arms:
        means = np.nanmean(arm, axis=1)
        deviations = arm - means[:, None]
        cells = np.isfinite(arm)
        by_task += sign * np.nansum(deviations / cells.sum(axis=1)[:, None], axis=0) / len(arm)
        if len(arm) > 1:
            residuals = deviations - np.nanmean(deviations, axis=0)
            degrees = max(1, int(cells.sum()) - len(arm) - tasks + 1)
            seeds.append(means.var(ddof=1) / len(arm))
            luck.append(np.nansum(residuals**2) / degrees / cells.sum())
            seed_freedom.append(len(arm) - 1)
            luck_freedom.append(degrees)
    between_tasks = by_task @ by_task * tasks / (tasks - 1)
    variance, freedom = combine(seeds, between_tasks, luck, [*seed_freedom, tasks - 1, *luck_freedom])
    return math.sqrt(variance), float(freedom)


def _draws(arms: Sequence[tuple[int, Array]], seed: int) -> Array:
    """Bootstrapped values of the signed sum of the arms' means."""
    generator = np.random.default_rng(seed)
    tasks = arms[0][1].shape[1]
    drawn = []
    for _ in range(RESAMPLES // _CHUNK):
        picks = generator.integers(0, tasks, (_CHUNK, tasks)) + tasks * np.arange(_CHUNK)[:, None]
        times = np.bincount(picks.ravel(), minlength=_CHUNK * tasks).reshape(_CHUNK, tasks).astype(np.float64)
        values = np.zeros(_CHUNK)
        for sign, arm in arms:
            cells = np.isfinite(arm)
            picks = generator.integers(0, len(arm), (_CHUNK, len(arm)))
            with np.errstate(invalid="ignore"):  # a training without an outcome of the drawn tasks is left out
                means = np.take_along_axis((times @ np.nan_to_num(arm).T) / (times @ cells.T), picks, axis=1)
                values += sign * np.nansum(means, axis=1) / np.isfinite(means).sum(axis=1)
        drawn.append(values[np.isfinite(values)])
    return np.concatenate(drawn)


def _by_task(episodes: Sequence[Episode], wins: Sequence[bool]) -> dict[tuple[str, tuple[Split, int]], float]:
    """Mean success of each task of one training."""
    groups: dict[tuple[str, tuple[Split, int]], list[bool]] = {}
    for episode, won in zip(episodes, wins, strict=True):
        groups.setdefault((episode.env, episode.split_task), []).append(won)
    return {task: fmean(group) for task, group in groups.items()}
