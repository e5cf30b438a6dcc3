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
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from atlas_ray.training import attention
from atlas_ray.training.examples import Example
from atlas_ray.training.model import Network
from atlas_ray.training.prefix_tree import Layout, lay_out


@dataclass(frozen=True)
class Row:
    """Documents that stand in one forward and backward pass, end to end or as trees."""

    ids: torch.Tensor
    """What the model reads, shape (1, tokens)."""
    position_ids: torch.Tensor
    """Place of each token in its document, shape (1, tokens)."""
    layout: Layout
    predictors: torch.Tensor
    """Positions that predict a label, ascending and distinct, shape (predictors,): the label's predecessor in its
    document."""
    predictors_per_tree: list[int]
    """How many of them each tree of the layout holds, in order."""
    predicted_from: torch.Tensor | None
    """Which predictor each label has, shape (labels,); None when each has its own."""
    targets: torch.Tensor
    """Label ids, shape (labels,); a label that documents share is there once, with the sum of its weights."""
    weights: torch.Tensor
    """Weight of each label, shape (labels,)."""
    owners: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Which label (first) is of which document (second), one entry for each label of each document."""
    trajectory_ids: tuple[str, ...]


def make_row(examples: Sequence[Example], device: torch.device | str = "cpu", *, share: bool = False) -> Row:
    """Lay examples in a row; `share` lets those with a common beginning share its tokens."""
    tree = lay_out([example.ids[:-1] for example in examples], share=share)
    # A label at position t of its document is predicted from t - 1.
    labels = [np.flatnonzero(example.weights) for example in examples]
    predictor = np.concatenate([places[label - 1] for places, label in zip(tree.places, labels)])
    target = np.concatenate([example.ids[label] for example, label in zip(examples, labels)])
    weight = np.concatenate([example.weights[label] for example, label in zip(examples, labels)])
    document = np.repeat(np.arange(len(examples)), [len(label) for label in labels])
    distinct, label_of = np.unique(np.stack([predictor, target]), axis=1, return_inverse=True)
    predictors, predicted_from = np.unique(distinct[0], return_inverse=True)
    per_tree = np.diff(np.searchsorted(predictors, [end for _, end in tree.layout.trees]), prepend=0)

    def tensor(values: NDArray[np.generic], dtype: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(values, dtype=dtype, device=device)

    return Row(
        ids=tensor(tree.ids, torch.long)[None],
        position_ids=tensor(tree.position_ids, torch.long)[None],
        layout=tree.layout,
        predictors=tensor(predictors, torch.long),
        predictors_per_tree=per_tree.tolist(),
        predicted_from=None if len(predictors) == distinct.shape[1] else tensor(predicted_from, torch.long),
        targets=tensor(distinct[1], torch.long),
        weights=tensor(np.bincount(label_of, weight), torch.float32),
        owners=(label_of, document),
        trajectory_ids=tuple(example.trajectory_id for example in examples),
    )


def empty_row(device: torch.device | str = "cpu") -> Row:
    """One token with a label of weight 0: its gradient is zero, but its pass runs the same collectives as any other."""
    nothing = make_row([Example("", np.zeros(2, np.int32), np.array([0, 1], np.float32), 0)], device)
    return replace(nothing, weights=torch.zeros_like(nothing.weights))


def token_losses(network: Network, row: Row) -> torch.Tensor:
    """Negative log-likelihood of each label in nats, fp32, shape (labels,)."""
    skips = network.skips
    # A sparse last layer puts out the predicting positions alone; otherwise they are picked before the head.
    pick_before = skips.head_at_labels and not skips.sparse_last_layer
    sparse = {"predictors": row.predictors, "predictors_per_tree": row.predictors_per_tree}
    logits = network.model(
        input_ids=row.ids,
        position_ids=row.position_ids,
        use_cache=False,
        **({"logits_to_keep": row.predictors} if pick_before else {}),
        **(attention.inputs(network.kernel, row.layout, row.ids.device) if skips.documents else {}),
        **(sparse if skips.sparse_last_layer else {}),
    ).logits[0]
    if not skips.head_at_labels:
        logits = logits[row.predictors]
    if row.predicted_from is not None:
        logits = logits[row.predicted_from]
    return cross_entropy(logits.float(), row.targets, reduction="none")


def non_finite(losses: torch.Tensor, row: Row) -> list[str]:
    """Trajectories of a row that have a label whose loss is not finite."""
    label_of, document = row.owners
    bad = ~torch.isfinite(losses).cpu().numpy()
    return [row.trajectory_ids[number] for number in np.unique(document[bad[label_of]])]
