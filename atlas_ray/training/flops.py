"""Floating-point operations of training on a row, from counts of tokens alone. No torch.

A matrix product of (a, b) and (b, c) counts 2abc; element-wise operations are left out. Attention counts the
(query, key) pairs that a causal mask leaves. The backward pass costs twice the forward pass; with frozen weights, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Counts:
    """Tokens and pairs of tokens in one row, or in several; counts can be added."""

    tokens: int = 0
    """Tokens that the model reads."""
    pairs: int = 0
    """(query, key) pairs of one layer: the sum over the tokens of their number in the trajectory, from 1."""
    predictors: int = 0
    """Positions that predict a label."""
    predictor_pairs: int = 0
    """`pairs` of the predictors alone."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(self.values, other.values)))

    @property
    def values(self) -> tuple[int, int, int, int]:
        """All four, in order."""
        return self.tokens, self.pairs, self.predictors, self.predictor_pairs


def document(tokens: int) -> Counts:
    """Counts of a trajectory where every position predicts a label."""
    pairs = tokens * (tokens + 1) // 2
    return Counts(tokens, pairs, tokens, pairs)


@dataclass(frozen=True)
class Shape:
    """The numbers of an architecture that determine the work."""

    layers: int
    layer_weights: int
    """Weights of one layer's linear maps that a token passes through; of experts, the active ones."""
    key_value_weights: int
    """Weights of one layer's key and value projections."""
    attention_width: int
    """Query heads x head dimension."""
    head_weights: int
    """Weights of the language-model head."""
    frozen: bool = False
    """Weights get no gradient: only adapters are tuned."""

    def step(self, counts: Counts, *, head_at_labels: bool, sparse_last_layer: bool) -> float:
        """FLOPs of forward and backward."""
        backward = 1.0 if self.frozen else 2.0
        sparse = counts.predictors if sparse_last_layer else counts.tokens
        linear = (self.layers - 1) * self.layer_weights * counts.tokens
        linear += self.key_value_weights * counts.tokens + (self.layer_weights - self.key_value_weights) * sparse
        linear += self.head_weights * (counts.predictors if head_at_labels else counts.tokens)
        pairs = (self.layers - 1) * counts.pairs + (counts.predictor_pairs if sparse_last_layer else counts.pairs)
        # Attention has two products, the scores and their use; the backward pass has two for each, none for weights.
        return 2.0 * linear * (1 + backward) + 4.0 * self.attention_width * pairs * 3


def skipped(shape: Shape, whole: Counts, cut: Counts, read: Counts, *, head: bool, last: bool) -> dict[str, float]:
    """The share of the plain work that each optimization leaves out; the shares add up to all that is left out.

    Args:
        shape: of the model.
        whole: the trajectories in full.
        cut: the trajectories up to their last labels, none of them sharing tokens.
        read: the rows that the model read.
        head: whether logits are computed at labels alone.
        last: whether the last layer is computed at predictors alone.
    """
    dense = {"head_at_labels": False, "sparse_last_layer": False}
    work = [
        shape.step(whole, **dense),
        shape.step(cut, **dense),
        shape.step(read, **dense),
        shape.step(read, head_at_labels=False, sparse_last_layer=last),
        shape.step(read, head_at_labels=head, sparse_last_layer=last),
    ]
    names = ("truncate", "prefix_tree", "sparse_last_layer", "head_at_labels")
    return {name: (before - after) / work[0] for name, before, after in zip(names, work, work[1:])}


def shape_of(model: Any) -> Shape:
    """The shape of a transformers model (its tensors may be on the meta device), experts counted as far as active."""
    config = model.config
    layers = config.num_hidden_layers
    head = model.get_output_embeddings()
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    key_value_heads = getattr(config, "num_key_value_heads", None) or heads
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    active = (getattr(config, "num_experts_per_tok", None) or 1) / experts if experts else 1.0
    ignored = {id(head.weight), id(model.get_input_embeddings().weight)}
    weights = sum(
        weight.numel() * (active if "expert" in name else 1.0)
        for name, weight in model.named_parameters()
        if weight.dim() >= 2 and id(weight) not in ignored
    )
    return Shape(
        layers=layers,
        layer_weights=round(weights / layers),
        key_value_weights=2 * config.hidden_size * key_value_heads * head_dim,
        attention_width=heads * head_dim,
        head_weights=head.weight.numel(),
        frozen=not all(weight.requires_grad for weight in model.parameters()),
    )
