"""The critical-step loss of a packed row: head and cross-entropy at the labelled positions alone.

loss = sum over labels of weight x NLL / sum of weights, both over the whole optimizer step, all rows and all ranks
(DESIGN.md, decision 6). With weight 1 that is the mean over labelled tokens; with weight 1 / (tokens of its step) the
mean over critical steps. The denominator is known before the step, so rows may be cut and ordered in any way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from atlas_ray.training.examples import Example
from atlas_ray.training.model import Network


@dataclass(frozen=True)
class Row:
    """Documents that stand end to end in one forward and backward pass."""

    ids: torch.Tensor
    """What the model reads, shape (1, tokens)."""
    position_ids: torch.Tensor
    """Restart with each document, shape (1, tokens)."""
    lengths: tuple[int, ...]
    """Tokens of each document."""
    predictors: torch.Tensor
    """Positions that predict a label, shape (labels,): the position before it, so always in its own document."""
    targets: torch.Tensor
    """Label ids, shape (labels,)."""
    weights: torch.Tensor
    """Weight of each label, shape (labels,)."""
    documents: torch.Tensor
    """Which document each label is of, shape (labels,)."""
    trajectory_ids: tuple[str, ...]


def make_row(examples: Sequence[Example], device: torch.device | str = "cpu") -> Row:
    """Pack examples end to end."""
    lengths = [example.length for example in examples]
    starts = np.cumsum([0, *lengths[:-1]])
    # A label at position t of its document is predicted from t - 1.
    labels = [np.flatnonzero(example.weights) for example in examples]
    predictors = [start + label - 1 for start, label in zip(starts, labels)]

    def tensor(parts: Sequence[np.ndarray], dtype: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(np.concatenate(parts), dtype=dtype, device=device)

    return Row(
        ids=tensor([example.ids[:-1] for example in examples], torch.long)[None],
        position_ids=tensor([np.arange(length) for length in lengths], torch.long)[None],
        lengths=tuple(lengths),
        predictors=tensor(predictors, torch.long),
        targets=tensor([example.ids[label] for example, label in zip(examples, labels)], torch.long),
        weights=tensor([example.weights[label] for example, label in zip(examples, labels)], torch.float32),
        documents=tensor([np.full(len(label), index) for index, label in enumerate(labels)], torch.long),
        trajectory_ids=tuple(example.trajectory_id for example in examples),
    )


def empty_row(device: torch.device | str = "cpu") -> Row:
    """One token with a label of weight 0: its gradient is zero, but its pass runs the same collectives as any other."""
    nothing = make_row([Example("", np.zeros(2, np.int32), np.array([0, 1], np.float32), 0)], device)
    return replace(nothing, weights=torch.zeros_like(nothing.weights))


def token_losses(network: Network, row: Row) -> torch.Tensor:
    """Negative log-likelihood of each label in nats, fp32, shape (labels,)."""
    # A sparse last layer puts out the predicting positions alone; otherwise they are picked before the head.
    logits = network.model(
        input_ids=row.ids,
        position_ids=row.position_ids,
        use_cache=False,
        logits_to_keep=0 if network.sparse else row.predictors,
        **({"document_lengths": row.lengths} if network.packed else {}),
        **({"predictors": row.predictors} if network.sparse else {}),
    ).logits[0]
    return cross_entropy(logits.float(), row.targets, reduction="none")


def non_finite(losses: torch.Tensor, row: Row) -> list[str]:
    """Trajectories of a row that have a label whose loss is not finite."""
    bad: list[int] = row.documents[~torch.isfinite(losses)].tolist()
    return [row.trajectory_ids[document] for document in sorted(set(bad))]
