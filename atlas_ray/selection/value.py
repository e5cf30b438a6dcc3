"""Method `value`: the steps at which the value of an expert's trajectory rises (paper section 4.5.4, Appendix B.3).

The pure rule: from the rewards of rollouts that fork off before every step to the steps that count, and, for the
adaptive form, which differences are decided already. Playing the rollouts is `atlas_ray/value.py`'s business.

Equations (6)-(8): r_t is the mean reward of the N rollouts that fork off before step t, and the expert's own outcome
where the trajectory is over. Equation (9), as printed: V_t is the discounted sum of r_t, r_(t+1), ... along the
trajectory. The score of step t is V_(t+1) - V_t. With `estimate: mean`, V_t is r_t itself, which is the chance to get
home from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import fsum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas_ray.config import ValueConfig
from atlas_ray.selection.budget import budget
from atlas_ray.store import content_hash
from atlas_ray.trajectory import Selection, Trajectory

PILOT = 2
"""Rollouts of every step that an adaptive run begins with."""
_DRAWS = 4000


def values(returns: Sequence[float], outcome: float, config: ValueConfig) -> list[float]:
    """V_0 .. V_T of a trajectory of T steps; the last is the expert's outcome.

    Args:
        returns: r_0 .. r_(T-1), the mean rewards of the rollouts before each step.
        outcome: the expert's own reward.
        config: `estimate` and `gamma` count.
    """
    along = [*returns, outcome]
    if config.estimate == "discounted":
        for t in reversed(range(len(returns))):
            along[t] += config.gamma * along[t + 1]
    return along


def differences(returns: Sequence[float], outcome: float, config: ValueConfig) -> tuple[float, ...]:
    """The score of every step: V_(t+1) - V_t, or its absolute value."""
    along = values(returns, outcome, config)
    gains = [round(after - before, 9) for before, after in pairwise(along)]
    return tuple(abs(gain) for gain in gains) if config.absolute else tuple(gains)


def select(
    trajectory: Trajectory,
    ratio: float,
    seed: int,
    samples: Sequence[Sequence[float]],
    outcome: float,
    config: ValueConfig,
    provenance: dict[str, Any] | None = None,
) -> Selection:
    """The steps whose difference exceeds the threshold; where the budget has no room for all, the largest.

    Args:
        trajectory: what was forked.
        ratio: share of the steps, at most.
        seed: not used.
        samples: rewards of the rollouts before each step, at least one each.
        outcome: the expert's own reward.
        config: of the method.
        provenance: whose rollouts they were.
    """
    del seed
    returns = [fsum(rewards) / len(rewards) for rewards in samples]
    scores = differences(returns, outcome, config)
    above = [step for step in range(trajectory.n_steps) if scores[step] > config.threshold]
    above.sort(key=lambda step: (-scores[step], step))
    return Selection(
        trajectory_id=trajectory.trajectory_id, method="value", ratio=ratio,
        steps=tuple(sorted(above[: budget(trajectory.n_steps, ratio)])), scores=scores,
        provenance=(provenance or {}) | {
            "returns": returns, "values": values(returns, outcome, config), "outcome": outcome,
            "samples": [len(rewards) for rewards in samples],
        },
    )  # fmt: skip


class Prior(NamedTuple):
    """A Beta distribution of the chance that a rollout succeeds."""

    a: float
    b: float


def fit_prior(pilots: Iterable[Sequence[float]]) -> Prior:
    """How the chances of success are spread over steps, from the first rollouts of each (empirical Bayes).

    Two rollouts of a step tell by how often they agree whether chances lie near 0 and 1 or between them. The moments
    are those of the pairs and of one uniform step besides, so that few pairs claim little.

    Args:
        pilots: rewards of at least `PILOT` rollouts a step.
    """
    pairs = [rewards[:2] for rewards in pilots]
    mean = (fsum(a + b for a, b in pairs) / 2 + 1 / 2) / (len(pairs) + 1)
    square = (fsum(a * b for a, b in pairs) + 1 / 3) / (len(pairs) + 1)
    spread = max(square - mean**2, 1e-9)
    weight = float(np.clip(mean * (1 - mean) / spread - 1, 0.05, 20.0))
    return Prior(mean * weight, (1 - mean) * weight)


def open_steps(
    samples: Sequence[Sequence[float]], outcome: float, prior: Prior, config: ValueConfig, *key: str
) -> list[int]:
    """Steps that another rollout is worth: those that bear on a difference which is not decided yet.

    A difference is decided when, of the ways in which the remaining rollouts may turn out (each step's by its
    Beta-binomial distribution), a share of at least `confidence` leaves it on one side of the threshold.

    Args:
        samples: rewards so far, by step.
        outcome: the expert's own reward.
        prior: of the chance of success.
        config: of the method.
        key: makes the draws those of this trajectory.
    """
    rng = np.random.default_rng(int(content_hash([*key, [list(map(float, rewards)) for rewards in samples]]), 16))
    total = np.array([fsum(rewards) for rewards in samples])
    count = np.array([len(rewards) for rewards in samples])
    chances = rng.beta(prior.a + total, prior.b + count - total, (_DRAWS, len(samples)))
    returns = (total + rng.binomial(config.rollouts - count, chances)) / config.rollouts
    share = (_gains(returns, outcome, config) > config.threshold + 1e-9).mean(axis=0)
    undecided = (share < config.confidence) & (share > 1 - config.confidence)
    bears = undecided | np.append(False, undecided[:-1])  # the reward before step t is in the differences t - 1 and t
    return [int(step) for step in np.flatnonzero(bears & (count < config.rollouts))]


def _gains(returns: NDArray[np.float64], outcome: float, config: ValueConfig) -> NDArray[np.float64]:
    """`differences` of many returns at once; rows are draws."""
    along = np.concatenate([returns, np.full((len(returns), 1), outcome)], axis=1)
    if config.estimate == "discounted":
        for t in reversed(range(returns.shape[1])):
            along[:, t] += config.gamma * along[:, t + 1]
    gains: NDArray[np.float64] = along[:, 1:] - along[:, :-1]
    return np.abs(gains) if config.absolute else gains
