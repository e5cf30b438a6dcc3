"""How a step's weight in the loss is shared among its tokens: its thought, its action, or both, weighted apart.

Where the action begins in a text is said by `react.action_begin`, and in tokens by `chat.Encoded.actions`. The
end-of-turn token belongs to the action. (Sources: Structured Agent Distillation, 2505.13820; ActFocus, 2605.14558.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atlas_ray.chat import encoding
from atlas_ray.config import TrainConfig


def labelled(span: tuple[int, int], action: int, options: TrainConfig) -> tuple[int, int]:
    """The part of a step that carries loss: `encoding.labelled` by the option `span`."""
    return encoding.labelled(span, action, options.span)


def token_weights(span: tuple[int, int], action: int, weight: float, options: TrainConfig) -> NDArray[np.float64]:
    """Weight of each token of a step in the loss, shape (end - start,).

    An action's token has the step's weight and a thought's `thought_weight` times as much; with `loss: step_mean` they
    are divided by their sum, so that every step weighs what the selection says.

    Args:
        span: half-open token span of the step.
        action: index of the first token of its action, inside the span.
        weight: of the step.
        options: `span`, `thought_weight` and `loss` count.
    """
    start, end = span
    shares = np.zeros(end - start)
    first, last = labelled(span, action, options)
    shares[first - start : last - start] = 1.0
    if options.span == "both":
        shares[: action - start] = options.thought_weight
    return weight * shares / (shares.sum() if options.loss == "step_mean" else 1.0)
