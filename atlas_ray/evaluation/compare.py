"""Paired comparisons of evaluated models on the same tasks, as lines of text; the tests are in `metrics.py`."""

from __future__ import annotations

from collections.abc import Mapping

from atlas_ray.config import PipelineConfig
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.evaluation.metrics import compare
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode


def against(
    config: PipelineConfig, store: Store, first: str, second: str, cards: Mapping[str, EnvironmentCard]
) -> list[str]:
    """One line an environment: the difference of two models, its 95 % interval, p value and number of pairs.

    Args:
        config: of the run; episodes that it does not ask for take no part.
        store: the run directory, where both were evaluated.
        first: the model compared with.
        second: the model in question.
        cards: of the environments.
    """
    lines = []
    for env, card in cards.items():
        found = compare(_episodes(config, store, first, env), _episodes(config, store, second, env), card.metric)
        if found is None:
            continue
        low, high = found.ci95
        verdict = "" if found.established else ", not established"
        lines.append(
            f"{second} - {first}, {env}: {found.difference:+.1f} [{low:+.1f}, {high:+.1f}], p = {found.p_value:.3g}, "
            f"{found.n} pairs{verdict}"
        )
    return lines


def _episodes(config: PipelineConfig, store: Store, model: str, env: str) -> list[Episode]:
    wanted = config.evaluate
    return [
        Episode.model_validate(row)
        for row in store.journal("evaluation", model, f"{env}.jsonl")
        if row["task"] < wanted.tasks and 0 <= row["seed"] - config.seed < wanted.repeats
    ]
