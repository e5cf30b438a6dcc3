"""Adaptive sampling for method `value` (not in the paper): which steps are worth another rollout.

An adaptive run plays two rollouts from every step first. How often the two agree, over all steps of an environment,
gives a Beta prior of the chance that a rollout succeeds (empirical Bayes). A step is sampled further only while a
difference that it bears on may still fall on either side of the threshold. Pure statistics; rollouts are played by
`methods/value.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import fsum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas_ray.hashing import content_hash

PILOT = 2
"""Rollouts from every step that an adaptive run begins with."""
_DRAWS = 4000

Differences = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From mean rewards before every step to the score of every step; the steps are the last axis."""


class Prior(NamedTuple):
    """A Beta distribution of the chance that a rollout succeeds."""

    a: float
    b: float


def fit_prior(pilots: Iterable[Sequence[float]]) -> Prior:
    """The distribution of the chance of success over steps, from the first rollouts of every step.

    It has the moments of the pairs of rewards and of one more step whose chance is uniform, so that few pairs claim
    little.

    Args:
        pilots: rewards of at least `PILOT` rollouts, for every step.
    """
    pairs = [rewards[:2] for rewards in pilots]
    mean = (fsum(a + b for a, b in pairs) / 2 + 1 / 2) / (len(pairs) + 1)
    square = (fsum(a * b for a, b in pairs) + 1 / 3) / (len(pairs) + 1)
    spread = max(square - mean**2, 1e-9)
    weight = float(np.clip(mean * (1 - mean) / spread - 1, 0.05, 20.0))
    return Prior(mean * weight, (1 - mean) * weight)


def open_steps(
    samples: Sequence[Sequence[float]], prior: Prior, differences: Differences, *, rollouts: int, threshold: float,
    confidence: float, key: Sequence[str | int],
) -> list[int]:  # fmt: skip
    """The steps whose next rollout bears on a difference that is not decided yet.

    A difference is decided when a share of at least `confidence` of the ways in which the remaining rollouts may turn
    out (by their Beta-binomial distribution) leaves it on one side of the threshold.

    Args:
        samples: the rewards so far, for every step.
        prior: of the chance of success.
        differences: the rule's scores.
        rollouts: of every step, at most.
        threshold: of the rule.
        confidence: of a decision.
        key: seeds the draws, together with the rewards.
    """
    rng = np.random.default_rng(int(content_hash([*key, [list(map(float, rewards)) for rewards in samples]]), 16))
    total = np.array([fsum(rewards) for rewards in samples])
    count = np.array([len(rewards) for rewards in samples])
    chances = rng.beta(prior.a + total, prior.b + count - total, (_DRAWS, len(samples)))
    returns = (total + rng.binomial(rollouts - count, chances)) / rollouts
    share = (differences(returns) > threshold).mean(axis=0)
    undecided = (share < confidence) & (share > 1 - confidence)
    bears = undecided | np.append(False, undecided[:-1])  # the reward before step t is in the differences t - 1 and t
    return [int(step) for step in np.flatnonzero(bears & (count < rollouts))]
