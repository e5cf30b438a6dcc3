"""How many tokens a row may hold on a GPU, and what to change where the model or a trajectory does not fit.

Decisions over bytes; the bytes are those of the dry run (`dry_run.needs`). A row is one forward and backward pass, so
what does not depend on it (weights, gradients, Adam's moments) comes off the card first.
"""

from __future__ import annotations

from dataclasses import dataclass

from atlas_ray.errors import TrainingError

SHARE = 0.92
"""Of a card's memory that training plans with: the CUDA context, the allocator's gaps and NCCL take the rest."""
_LEAST, _MOST = 1024, 65_536
"""Tokens of a row: below, the card waits for the host; above, nothing is gained."""


@dataclass(frozen=True)
class Needs:
    """Bytes on one GPU."""

    fixed: float
    """Weights, gradients, optimizer."""
    per_token: float
    """Activations that a token of a row keeps for the backward pass, logits of its share of labels included."""

    def tokens(self, card: float) -> int:
        """Tokens of the longest row that fits on a card of so many bytes; 0 or less: not even the model does."""
        return int((SHARE * card - self.fixed) / self.per_token)


def row_tokens(needs: Needs, card: float, longest: int) -> int:
    """Tokens of a packed row: the largest power of two that fits, and at least the longest trajectory.

    Args:
        needs: of the model.
        card: bytes of the GPU.
        longest: tokens of the longest trajectory.

    Raises:
        TrainingError: the model does not fit, or the longest trajectory does not.
    """
    fits = needs.tokens(card)
    if fits < min(longest, _LEAST):
        missing = needs.fixed + min(longest, _LEAST) * needs.per_token - SHARE * card
        raise TrainingError(
            f"the model needs {needs.fixed / 1e9:.1f} GB for weights, gradients and optimizer, {SHARE:.0%} of this GPU "
            f"are {SHARE * card / 1e9:.1f} GB: {missing / 1e9:.1f} GB are missing; set train.lora, "
            "train.activation_checkpointing or more train.workers"
        )
    if fits < longest:
        raise TrainingError(
            f"the longest trajectory has {longest} tokens, {fits} fit on this GPU; set train.activation_checkpointing "
            f"or train.lora, or train.max_length to {fits}"
        )
    return max(longest, min(_MOST, 1 << (fits.bit_length() - 1)))
