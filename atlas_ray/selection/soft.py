"""Soft weights: every step carries loss, by its score, in place of the chosen steps alone.

They compose with every method that gives scores. Filters come after them. What a weight does is in `training/loss.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

from atlas_ray.config import SoftWeights
from atlas_ray.errors import SelectionError
from atlas_ray.trajectory import Selection

SMALLEST = 1e-4
"""A step with less than this share of the largest possible weight is left out: it would only be read."""


def soften(row: Selection, soft: SoftWeights) -> Selection:
    """A selection of all steps with weights by their scores; an error row stays as it is.

    Args:
        row: as the method made it.
        soft: how scores become weights.

    Raises:
        SelectionError: the method gives no scores.
    """
    if row.error is not None:
        return row
    if row.scores is None:
        raise SelectionError(
            f"soft_weights: method {row.method!r} gives no scores to make weights from; take them out of the selection "
            "or choose a method with scores"
        )
    of_step = ranks(row.scores) if soft.temperature is None else softmax(row.scores, soft.temperature)
    kept = {step: weight for step, weight in enumerate(of_step) if weight >= SMALLEST}
    return row.model_copy(
        update={
            "steps": tuple(kept), "weights": tuple(kept.values()), "categories": None, "ratio": 1.0,
            "provenance": row.provenance | {"soft_weights": soft.determinants()},
        }
    )  # fmt: skip


def ranks(scores: Sequence[float]) -> list[float]:
    """The share of the steps that each step is at least as good as, in (0, 1]; equal steps share the mean of theirs."""
    ordered = sorted(scores)
    first = {score: ordered.index(score) for score in set(ordered)}
    return [(first[score] + (ordered.count(score) + 1) / 2) / len(scores) for score in scores]


def softmax(scores: Sequence[float], temperature: float) -> list[float]:
    """exp((score - highest) / temperature): the softmax of the scores as a share of its largest value, in [0, 1].

    Args:
        scores: finite.
        temperature: in the unit of the scores, above 0.
    """
    highest = max(scores, default=0.0)
    return [exp((score - highest) / temperature) for score in scores]
