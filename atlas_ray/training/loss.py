"""The critical-step loss of a packed row: head and cross-entropy at the predicting positions alone.

loss = sum over labels of weight x NLL / sum of weights, both over the whole optimizer step: all rows, all ranks
(docs/architecture.md, decision 6). With all weights 1 it is the mean over labelled tokens; with 1 / (tokens of the
step) the mean over critical steps. A selection's weights multiply these. The denominator is known before the step, so
the trajectories may be cut into rows in any way.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from atlas_ray.training import attention
from atlas_ray.training.examples import Example
from atlas_ray.training.last_layer import Predicting
from atlas_ray.training.model import Network
from atlas_ray.training.prefix_tree import Layout, Segment, lay_out


@dataclass(frozen=True)
class Row:
    """The trajectories of one forward and backward pass, end to end or as trees."""

    ids: torch.Tensor
    """Token ids that the model reads, shape (1, tokens)."""
    position_ids: torch.Tensor
    """Index of each token in its trajectory, shape (1, tokens)."""
    layout: Layout
    predictors: torch.Tensor
    """Positions that predict a label, ascending and distinct, shape (predictors,). A label is predicted from the token
    before it in its trajectory."""
    predictors_per_segment: list[int]
    """How many of them each segment of the layout holds, in order."""
    predicted_from: torch.Tensor | None
    """Index of each label's predictor, shape (labels,); None when no two labels have the same one."""
    targets: torch.Tensor
    """Label ids, shape (labels,); a label that trajectories share is there once, with the sum of its weights."""
    weights: torch.Tensor
    """Weight of each label, shape (labels,)."""
    owners: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Pairs of label and trajectory, as two arrays of indices: one pair for each label of each trajectory."""
    trajectory_ids: tuple[str, ...]

    def moved(self, device: torch.device) -> Self:
        """The row with its tensors on a device; does not wait for what the device computes."""
        there: dict[str, Any] = {
            name: attention.moved(value, device)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return replace(self, **there)

    def total(self, losses: torch.Tensor) -> torch.Tensor:
        """This row's loss before it is divided by the optimizer step's denominator.

        Args:
            losses: of `token_losses`.
        """
        return (losses * self.weights).sum()

    def preferred(self, losses: torch.Tensor) -> torch.Tensor:
        """Number of pairs whose better reply has gained since training began; there are none in such a row."""
        return losses.new_zeros((), dtype=torch.long)


def make_row(examples: Sequence[Example], device: torch.device | str = "cpu", *, share: bool = False) -> Row:
    """Lay examples in a row; `share` stores the common beginning of several examples once."""
    tree = lay_out([example.ids[:-1] for example in examples], share=share)
    # A label at position t of its document is predicted from t - 1.
    labels = [np.flatnonzero(example.weights) for example in examples]
    predictor = np.concatenate([positions[label - 1] for positions, label in zip(tree.positions, labels)])
    target = np.concatenate([example.ids[label] for example, label in zip(examples, labels)])
    weight = np.concatenate([example.weights[label] for example, label in zip(examples, labels)])
    document = np.repeat(np.arange(len(examples)), [len(label) for label in labels])
    distinct, label_of = np.unique(np.stack([predictor, target]), axis=1, return_inverse=True)
    predictors, predicted_from = np.unique(distinct[0], return_inverse=True)
    ends = [segment.start + segment.length for segment in tree.layout.segments]
    per_segment = np.diff(np.searchsorted(predictors, ends), prepend=0)

    def tensor(values: NDArray[np.generic], dtype: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(values, dtype=dtype, device=device)

    return Row(
        ids=tensor(tree.ids, torch.long)[None],
        position_ids=tensor(tree.position_ids, torch.long)[None],
        layout=tree.layout,
        predictors=tensor(predictors, torch.long),
        predictors_per_segment=per_segment.tolist(),
        predicted_from=None if len(predictors) == distinct.shape[1] else tensor(predicted_from, torch.long),
        targets=tensor(distinct[1], torch.long),
        weights=tensor(np.bincount(label_of, weight), torch.float32),
        owners=(label_of, document),
        trajectory_ids=tuple(example.trajectory_id for example in examples),
    )


def empty_row(device: torch.device | str = "cpu") -> Row:
    """One token with a label of weight 0: its gradient is zero, and its pass runs the same collectives as any other."""
    row = make_row([Example("", np.zeros(2, np.int32), np.array([0, 1], np.float32), 0)], device)
    return replace(row, weights=torch.zeros_like(row.weights))


def padded(row: Row, tokens: int) -> Row:
    """The row with so many tokens: behind its own stands a document without a label, which no other attends to."""
    own = row.layout.tokens
    if tokens == own:
        return row
    layout = Layout((*row.layout.segments, Segment(own, tokens - own, ())))

    def behind(values: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
        return torch.cat([values, more.to(values)], dim=-1)

    places = torch.arange(tokens - own)[None]
    return replace(
        row,
        ids=behind(row.ids, torch.zeros_like(places)),
        position_ids=behind(row.position_ids, places),
        layout=layout,
        predictors_per_segment=[*row.predictors_per_segment, 0],
    )


def attention_inputs(network: Network, row: Row) -> dict[str, Any]:
    """What attention takes of a row; made once a row, so also ahead of its forward pass."""
    return attention.inputs(network.kernel, row.layout, row.ids.device)


def token_losses(network: Network, row: Row) -> torch.Tensor:
    """Negative log-likelihood of each label in nats, fp32, shape (labels,)."""
    optimizations = network.optimizations
    # A sparse last layer returns the predicting positions alone; otherwise they are picked before the head.
    pick_before = optimizations.head_at_labels and not optimizations.sparse_last_layer
    sparse = {"predicting": Predicting(row.predictors, row.predictors_per_segment)}
    with torch.autocast(row.ids.device.type, torch.bfloat16) if network.mixed else nullcontext():
        logits = network.model(
            input_ids=row.ids,
            position_ids=row.position_ids,
            use_cache=False,
            **({"logits_to_keep": row.predictors} if pick_before else {}),
            **(attention_inputs(network, row) if optimizations.attends_per_document else {}),
            **(sparse if optimizations.sparse_last_layer else {}),
        ).logits[0]
    if not optimizations.head_at_labels:
        logits = logits[row.predictors]
    if row.predicted_from is not None:
        logits = logits[row.predicted_from]
    return cross_entropy(logits.float(), row.targets, reduction="none")


def non_finite(losses: torch.Tensor, row: Row) -> list[str]:
    """Trajectories of a row that have a label whose loss is not finite."""
    label_of, document = row.owners
    bad = ~torch.isfinite(losses).cpu().numpy()
    return [row.trajectory_ids[number] for number in np.unique(document[bad[label_of]])]
