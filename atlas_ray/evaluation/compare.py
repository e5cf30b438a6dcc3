"""Paired comparisons of two models on the tasks that both were evaluated on; the tests are in `metrics.py`.

Pure: episodes come from `ledger.py`. What a comparison means is said in words by the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from atlas_ray.environments.contract import EnvironmentCard, Metric
from atlas_ray.evaluation import ledger, metrics
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode

ALL = "all"
"""In place of an environment: success over all environments."""


@dataclass(frozen=True)
class Contrast:
    """A paired comparison of two models, in one environment or over all."""

    first: str
    """The model compared with."""
    second: str
    """The model in question."""
    env: str
    """An environment's name, or `all`."""
    metric: Metric
    """What is compared: the environment's own metric; success over all environments."""
    comparison: metrics.Comparison

    @property
    def verdict(self) -> Literal["better", "worse", "not established"]:
        """Whether the second model is better or worse than the first."""
        if not self.comparison.established:
            return "not established"
        return "better" if self.comparison.difference > 0 else "worse"

    @property
    def line(self) -> str:
        """The comparison on one line: difference in percentage points, 95 % interval, p value, number of pairs."""
        found = self.comparison
        low, high = found.ci95
        verdict = "" if found.established else ", not established"
        return (
            f"{self.second} - {self.first}, {self.env}: {found.difference:+.1f} [{low:+.1f}, {high:+.1f}], "
            f"p = {found.p_value:.3g}, {found.n} pairs{verdict}"
        )


def contrast(
    first: Sequence[Episode], second: Sequence[Episode], env: str | None, cards: Mapping[str, EnvironmentCard]
) -> Contrast | None:
    """Compare two models; None when they share no finished episode.

    Args:
        first: all episodes of the model compared with.
        second: all episodes of the model in question.
        env: compare in this environment, by its own metric; None: success over all environments.
        cards: of the environments.
    """
    metric: Metric = "success_rate" if env is None else cards[env].metric
    left, right = ([episode for episode in rows if env in (None, episode.env)] for rows in (first, second))
    found = metrics.compare(left, right, metric)
    return None if found is None else Contrast(left[0].model, right[0].model, env or ALL, metric, found)


def against(store: Store, first: str, second: str, cards: Mapping[str, EnvironmentCard]) -> list[Contrast]:
    """Two evaluated models, environment by environment; environments without a shared episode are left out.

    Args:
        store: the run directory, where both were evaluated.
        first: the model compared with.
        second: the model in question.
        cards: of the environments.
    """
    left, right = ledger.counted(store, first), ledger.counted(store, second)
    found = [contrast(left, right, env, cards) for env in cards]
    return [each for each in found if each is not None]
