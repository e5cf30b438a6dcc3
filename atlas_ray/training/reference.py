"""The plain loss that every optimization must reproduce: one padded batch, the model's own attention, all logits.

It is what LLaMA-Factory and Hugging Face's Trainer compute. Used by the tests of exactness and as the benchmark's peer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import PreTrainedModel

from atlas_ray.training.examples import Example
from atlas_ray.training.pairs import Pair


def padded_loss(model: PreTrainedModel, examples: Sequence[Example], denominator: float) -> torch.Tensor:
    """The critical-step loss of a padded batch.

    Args:
        model: a causal language model as transformers loads it.
        examples: made with `truncate=False` to do the work that peers do; the loss is the same either way.
        denominator: sum of the weights of the optimizer step.
    """
    losses, weights = _losses(model, examples)
    return (losses * weights).sum() / denominator


def pair_loss(model: PreTrainedModel, pair: Pair, beta: float) -> torch.Tensor:
    """The loss of direct preference optimization of one pair, as two padded rows: what TRL computes.

    Args:
        model: a causal language model as transformers loads it.
        pair: whose reference is known.
        beta: of the loss.
    """
    return -logsigmoid(beta * (margin(model, pair) - pair.reference))


def margin(model: PreTrainedModel, pair: Pair) -> torch.Tensor:
    """Log-probability of a pair's chosen reply less that of the rejected one."""
    losses, weights = _losses(model, pair.sequences)
    chosen, rejected = -(losses * weights).sum(1)
    difference: torch.Tensor = chosen - rejected
    return difference


def _losses(model: PreTrainedModel, examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood of each token but the first, and its weight; shape (examples, width - 1)."""
    width = max(len(example.ids) for example in examples)
    ids, seen, weights = (torch.zeros(len(examples), width) for _ in range(3))  # filled on the CPU, then moved
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.as_tensor(example.ids)
        seen[row, : len(example.ids)] = 1
        weights[row, : len(example.ids)] = torch.as_tensor(example.weights)
    ids, seen, weights = ids.long().to(model.device), seen.long().to(model.device), weights.to(model.device)
    logits = model(input_ids=ids, attention_mask=seen if len(examples) > 1 else None, use_cache=False).logits
    labels = torch.where(weights > 0, ids, -100)[:, 1:]
    losses = cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels.flatten(), ignore_index=-100, reduction="none")
    return losses.view(labels.shape), weights[:, 1:]
