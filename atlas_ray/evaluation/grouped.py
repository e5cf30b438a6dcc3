"""The result of a model that was trained with several seeds: one entry for all of its trainings.

Tables show it beside the entries of the trainings, which `metrics.environment_result` makes. Its interval is that of
`statistics.hierarchical_bootstrap`, over training seeds and tasks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from atlas_ray.evaluation.metrics import environment_result, value
from atlas_ray.evaluation.statistics import hierarchical_bootstrap
from atlas_ray.trajectory import Episode, Split

if TYPE_CHECKING:
    from atlas_ray.environments.contract import Metric


def grouped(by_seed: Sequence[Sequence[Episode]], metric: Metric, *, seed: int = 0) -> dict[str, Any]:
    """One environment's entry for all trainings of a model, with the fields of `environment_result`, and `seeds`.

    The score is the mean of the trainings' scores; counts and tokens are of all episodes. Where one training alone has
    finished episodes, score and interval are that training's.

    Args:
        by_seed: the episodes of each training in the environment.
        metric: of the environment.
        seed: of the bootstrap.
    """
    every = [episode for episodes in by_seed for episode in episodes]
    finished = [[episode for episode in episodes if episode.error is None] for episodes in by_seed]
    finished = [episodes for episodes in finished if episodes]
    entry = environment_result(metric, every, seed=seed) | {"seeds": len(by_seed)}
    if len(finished) > 1:
        found = hierarchical_bootstrap([_by_task(episodes, metric) for episodes in finished], seed=seed)
        rates = [fmean(episode.success for episode in episodes) for episodes in finished]
        entry |= {"score": found.mean, "ci95": list(found.ci95), "success_rate": 100 * fmean(rates)}
    return entry


def _by_task(episodes: Sequence[Episode], metric: Metric) -> dict[tuple[Split, int], float]:
    """Mean score of each task."""
    values: dict[tuple[Split, int], list[float]] = defaultdict(list)
    for episode in episodes:
        values[episode.split_task].append(value(episode, metric))
    return {task: fmean(scores) for task, scores in values.items()}
