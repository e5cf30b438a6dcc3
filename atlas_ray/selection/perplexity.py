"""Method `perplexity`: the steps that a model finds hardest to generate (paper Appendix B.2, equation 5).

Scores come from one pass over the whole trajectory; a trajectory longer than the model's context is scored in
overlapping windows. Computing log-probabilities is the engine's business (`inference/engine.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, fsum, log
from typing import Any

from atlas_ray.selection.budget import budget
from atlas_ray.trajectory import Selection, Trajectory


def windows(n_tokens: int, width: int) -> list[tuple[int, int]]:
    """Half-open windows of at most `width` tokens that cover a sequence, each overlapping half of the one before.

    Raises:
        ValueError: `width` is below 2, which leaves nothing to score.
    """
    if width < 2:
        raise ValueError(f"a window needs two tokens or more, found {width}")
    if n_tokens <= width:
        return [(0, n_tokens)]
    starts = range(0, n_tokens - width + width // 2, width // 2)
    return [(min(start, n_tokens - width), min(start, n_tokens - width) + width) for start in starts]


def stitch(spans: Sequence[tuple[int, int]], scores: Sequence[Sequence[float]]) -> list[float]:
    """Log-probabilities of tokens 1.. of a whole sequence from those of its `windows`.

    Where windows overlap, the earlier one counts, which has seen more of what comes before.

    Args:
        spans: the windows, in order.
        scores: for a window of w tokens, its w - 1 log-probabilities.
    """
    whole: list[float] = []
    for (start, _), part in zip(spans, scores, strict=True):
        whole.extend(part[len(whole) - start :])
    return whole


def perplexities(logprobs: Sequence[float], spans: Sequence[tuple[int, int]]) -> tuple[float, ...]:
    """exp(mean negative log-likelihood) of each step.

    Args:
        logprobs: log-probability of token i + 1 given tokens 0 .. i, at index i.
        spans: half-open token span of each step (`chat.Encoded.spans`), none of which starts at token 0.
    """
    return tuple(exp(-fsum(logprobs[start - 1 : end - 1]) / (end - start)) for start, end in spans)


def differences(base: Sequence[float], reference: Sequence[float]) -> tuple[float, ...]:
    """Mean negative log-likelihood of each step under a base model minus that under a reference (tuned) model.

    High where the reference model has learnt what the base model could not foresee.

    Args:
        base: perplexities under the base model.
        reference: perplexities under the reference model, step by step.
    """
    return tuple(log(one) - log(other) for one, other in zip(base, reference, strict=True))


def select(
    trajectory: Trajectory,
    ratio: float,
    seed: int,
    scores: Sequence[float],
    provenance: dict[str, Any] | None = None,
) -> Selection:
    """The budget's number of steps with the highest score; of equal ones the earlier.

    Args:
        trajectory: what was scored.
        ratio: share of the steps.
        seed: not used.
        scores: one perplexity (or difference, see `differences`) a step.
        provenance: which model scored, and how.
    """
    del seed
    hardest = sorted(range(trajectory.n_steps), key=lambda step: (-scores[step], step))
    return Selection(
        trajectory_id=trajectory.trajectory_id,
        method="perplexity",
        ratio=ratio,
        steps=tuple(sorted(hardest[: budget(trajectory.n_steps, ratio)])),
        scores=tuple(scores),
        provenance=provenance or {},
    )
