"""Statistics of episodes: rates and means in percent with 95 % intervals, and paired comparisons of models.

The unit of chance is the task. With one episode per task, a rate gets Wilson's interval, and two models are compared
by McNemar's exact test. A mean (reward, progress, or several episodes per task) is bootstrapped over tasks. Episodes
with an error are counted and left out; they are never a zero. Needs numpy alone. Statistics over several trainings are
in `statistics.py` and `grouped.py`; episodes are read in `ledger.py` and played in `evaluate.py`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atlas_ray.errors import DataError
from atlas_ray.trajectory import Episode, Split

if TYPE_CHECKING:
    from atlas_ray.environments.contract import EnvironmentCard, Metric

Interval = tuple[float, float]

RESAMPLES = 10_000
"""Draws of a bootstrap and of a permutation test."""
_CHUNK = 500
_Z = NormalDist().inv_cdf(0.975)


def wilson(successes: int, n: int) -> Interval:
    """Wilson's score interval of a rate, 95 %, in percent (Wilson 1927).

    Raises:
        ValueError: n is 0, or `successes` does not lie in 0..n.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n}: give a rate of at least one")
    rate = successes / n
    centre = rate + _Z**2 / (2 * n)
    half = _Z * math.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + _Z**2 / n), (centre + half) / (1 + _Z**2 / n)
    return 100 * max(0.0, low), 100 * min(1.0, high)


def bootstrap(
    values: Sequence[float],
    tasks: Sequence[Hashable] | None = None,
    *,
    low: float = 0.0,
    high: float = 1.0,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a mean, 95 %, in percent; tasks are drawn, with all of their values.

    Where all values are equal, a bootstrap would claim certainty. The interval is then the widest that agrees with the
    values: the share of tasks with this value is at least Wilson's lower bound, and other tasks may have any value
    between `low` and `high`. (For all 0 or all 1 this is Wilson's interval.)

    Args:
        values: at least one, between `low` and `high`.
        tasks: the task of each value, when tasks have several; None means one each.
        low: the least possible value.
        high: the largest possible value.
        seed: the same seed and values give the same interval.
    """
    sums, counts = _by_task(values, range(len(values)) if tasks is None else tasks)
    means = sums / counts
    if np.ptp(means) == 0:
        share = wilson(len(means), len(means))[0] / 100
        value = float(means[0])
        return 100 * (share * value + (1 - share) * low), 100 * (share * value + (1 - share) * high)
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES // _CHUNK):
        picks = generator.integers(0, len(sums), (_CHUNK, len(sums)))
        drawn.append(sums[picks].sum(axis=1) / counts[picks].sum(axis=1))
    lower, upper = np.percentile(np.concatenate(drawn), [2.5, 97.5])
    return 100 * float(lower), 100 * float(upper)


def mcnemar(wins: int, losses: int) -> float:
    """McNemar's exact p value: two-sided binomial test on the discordant pairs.

    Args:
        wins: pairs that only the second model solved.
        losses: pairs that only the first model solved.
    """
    n = wins + losses
    ways = tail = 1
    for k in range(min(wins, losses)):
        ways = ways * (n - k) // (k + 1)
        tail += ways
    return float(min(1.0, 2 * tail / 2**n))


def paired_difference(wins: int, losses: int, n: int) -> Interval:
    """Interval of the difference of two paired rates, 95 %, in percentage points (Bonett and Price 2012).

    Wald's interval after half a pair is added to each of the four cells; never of width 0, good for small n.

    Args:
        wins: pairs that only the second solved.
        losses: pairs that only the first solved.
        n: all pairs, at least one.
    """
    up, down = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = _Z * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return 100 * max(-1.0, up - down - half), 100 * min(1.0, up - down + half)


def sign_flip(values: Sequence[float], tasks: Sequence[Hashable] | None = None, *, seed: int = 0) -> float:
    """Two-sided p value of a permutation test that flips the signs of paired differences, task by task.

    For differences of -1, 0 and 1 this is McNemar's test, up to the noise of its 10,000 draws.
    """
    sums, _ = _by_task(values, range(len(values)) if tasks is None else tasks)
    observed = abs(sums.sum()) - 1e-9
    generator = np.random.default_rng(seed)
    as_far = 0
    for _ in range(RESAMPLES // _CHUNK):
        signs = generator.integers(0, 2, (_CHUNK, len(sums))) * 2 - 1
        as_far += int((np.abs(signs @ sums) >= observed).sum())
    return (1 + as_far) / (1 + RESAMPLES)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same tasks with the same seeds; everything in percent or percentage points."""

    first: float
    second: float
    difference: float
    """second - first."""
    ci95: Interval
    p_value: float
    n: int
    """Pairs of episodes that both models finished without an error."""

    @property
    def established(self) -> bool:
        """Whether the difference is more than luck: p < 0.05 and an interval without 0."""
        return self.p_value < 0.05 and not self.ci95[0] <= 0 <= self.ci95[1]


def compare(
    first: Iterable[Episode], second: Iterable[Episode], metric: Metric = "success_rate", *, seed: int = 0
) -> Comparison | None:
    """Paired comparison of two models on the (environment, task, seed) keys they share; None without any.

    Success, one episode a task: McNemar's exact test with Bonett and Price's interval. Means, or several
    episodes a task: a bootstrap interval and a sign-flip test over tasks.
    """
    left, right = _finished(first), _finished(second)
    keys = sorted(left.keys() & right.keys())
    if not keys:
        return None
    a = [value(left[key], metric) for key in keys]
    b = [value(right[key], metric) for key in keys]
    gains = [y - x for x, y in zip(a, b, strict=True)]
    tasks = [key[:2] for key in keys]
    if metric == "success_rate" and len(set(tasks)) == len(tasks):
        wins, losses = gains.count(1.0), gains.count(-1.0)
        interval, p_value = paired_difference(wins, losses, len(keys)), mcnemar(wins, losses)
    else:
        interval, p_value = bootstrap(gains, tasks, low=-1.0, seed=seed), sign_flip(gains, tasks, seed=seed)
    return Comparison(100 * fmean(a), 100 * fmean(b), 100 * fmean(gains), interval, p_value, len(keys))


def environment_result(metric: Metric, episodes: Sequence[Episode], *, seed: int = 0) -> dict[str, Any]:
    """One environment's entry of `results.json`: scores in percent, and the tokens of all episodes.

    `n` counts the episodes without an error; when it is 0, `score`, `ci95`, `success_rate` and `mean_rounds` are null.

    Args:
        metric: of the environment.
        episodes: one for each task and seed.
        seed: of the bootstrap.
    """
    done = [episode for episode in episodes if episode.error is None]
    entry: dict[str, Any] = {
        "metric": metric,
        "score": None,
        "ci95": None,
        "n": len(done),
        "success_rate": None,
        "errors": len(episodes) - len(done),
        "stops": dict(sorted(Counter(episode.stop for episode in episodes).items())),
        "mean_rounds": None,
        "prompt_tokens": sum(episode.prompt_tokens for episode in episodes),
        "completion_tokens": sum(episode.completion_tokens for episode in episodes),
    }
    if done:
        values = [value(episode, metric) for episode in done]
        tasks = [episode.split_task for episode in done]
        single = metric == "success_rate" and len(set(tasks)) == len(tasks)
        interval = wilson(int(sum(values)), len(values)) if single else bootstrap(values, tasks, seed=seed)
        entry["score"] = 100 * fmean(values)
        entry["ci95"] = list(interval)
        entry["success_rate"] = 100 * fmean(float(episode.success) for episode in done)
        entry["mean_rounds"] = fmean(episode.rounds for episode in done)
    return entry


def results(
    facts: Mapping[str, Any],
    config_hash: str,
    episodes_by_env: Mapping[str, Sequence[Episode]],
    cards: Mapping[str, EnvironmentCard],
) -> dict[str, Any]:
    """The content of one model's `results.json`.

    The averages are over environments, which all weigh the same (paper, Table 1). An environment without a score is
    left out of them, and an average over no environment is null.

    Args:
        facts: what the model is (`RosterEntry.facts`).
        config_hash: of the episodes asked for.
        episodes_by_env: the episodes that count, one for each task and seed.
        cards: of the environments.

    Raises:
        DataError: an environment has no card.
    """
    for env in episodes_by_env:
        if env not in cards:
            raise DataError(
                f"evaluation of {facts['model']}: environment {env!r} has no card; known are {sorted(cards)}"
            )
    entries = {env: environment_result(cards[env].metric, rows) for env, rows in episodes_by_env.items()}

    def average(held_in: bool) -> float | None:
        scores = [entry["score"] for env, entry in entries.items() if cards[env].held_in is held_in]
        known = [score for score in scores if score is not None]
        return fmean(known) if known else None

    return {
        **facts,
        "config_hash": config_hash,
        "environments": entries,
        "held_in_average": average(True),
        "held_out_average": average(False),
        "episode_keys": {env: [episode.key for episode in rows] for env, rows in episodes_by_env.items()},
    }


def value(episode: Episode, metric: Metric) -> float:
    """An episode's score by a metric, in [0, 1]."""
    return float(episode.success) if metric == "success_rate" else episode.score


def _finished(episodes: Iterable[Episode]) -> dict[tuple[str, tuple[Split, int], int], Episode]:
    return {(e.env, e.split_task, e.seed): e for e in episodes if e.error is None}


def _by_task(values: Sequence[float], tasks: Iterable[Hashable]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of the values of each task, in the order in which tasks first appear."""
    groups: dict[Hashable, list[float]] = defaultdict(list)
    for value, task in zip(values, tasks, strict=True):
        groups[task].append(value)
    return (
        np.array([sum(group) for group in groups.values()], dtype=np.float64),
        np.array([len(group) for group in groups.values()], dtype=np.float64),
    )
