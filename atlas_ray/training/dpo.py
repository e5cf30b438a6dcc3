"""Direct preference optimization: the loss of a row of pairs, each with its history computed once.

For a pair with the replies w and l to the history x (Rafailov et al., arXiv 2305.18290, equation 7):

    margin = log p(w | x) - log p(l | x)
    loss = -log sigmoid(beta (margin - reference))

`reference` is the margin under the model that training starts from. An optimizer step's loss is the mean over its
pairs. A pair's two sequences are documents of one row, so where rows may be trees their history stands there once;
pairs of one trajectory share theirs too. The loss needs nothing but the labels' log-probabilities, so everything that
leaves work out for the critical-step loss (`exact.py`) leaves it out here, with the same reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.nn.functional import softplus

from atlas_ray.errors import ModelError
from atlas_ray.training import loss
from atlas_ray.training.job import ExactOptimizations
from atlas_ray.training.loss import Row, token_losses
from atlas_ray.training.model import Network
from atlas_ray.training.pairs import Pair


@dataclass(frozen=True)
class PairRow(Row):
    """Pairs in a row. A label that several sequences share is one label, and counts for each of them."""

    names: tuple[str, ...]
    """Of the pairs."""
    reference: torch.Tensor
    """The start model's margin of each pair, shape (pairs,)."""
    beta: float
    label_of: torch.Tensor
    """Which label each term of the margins is of, shape (terms,)."""
    pair_of: torch.Tensor
    """Which pair each term is of, shape (terms,)."""
    factors: torch.Tensor
    """What a term's negative log-likelihood is multiplied by: the label's weight, negative for a chosen reply; shape
    (terms,)."""

    def margins(self, losses: torch.Tensor) -> torch.Tensor:
        """Log-probability of each pair's chosen reply less that of the rejected one, shape (pairs,)."""
        return torch.zeros_like(self.reference).index_add(0, self.pair_of, self.factors * losses[self.label_of])

    def total(self, losses: torch.Tensor) -> torch.Tensor:
        """Sum of the pairs' losses."""
        return softplus(-self.beta * (self.margins(losses) - self.reference)).sum()

    def preferred(self, losses: torch.Tensor) -> torch.Tensor:
        """Number of pairs whose chosen reply has gained on the rejected one since training began."""
        return (self.margins(losses) > self.reference).sum()


def make_row(pairs: Sequence[Pair], device: torch.device | str = "cpu", *, share: bool, beta: float) -> PairRow:
    """Lay pairs in a row; `share` stores common histories once."""
    sides = [side for pair in pairs for side in pair.sequences]
    row = loss.make_row(sides, device, share=share)
    label_of, side_of = row.owners
    weights = np.concatenate([side.weights[np.flatnonzero(side.weights)] for side in sides])
    signs = np.where(side_of % 2 == 0, -1.0, 1.0)

    def tensor(values: object, dtype: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(values, dtype=dtype, device=device)

    return PairRow(
        **vars(row),
        names=tuple(pair.name for pair in pairs),
        reference=tensor([pair.reference for pair in pairs], torch.float32),
        beta=beta,
        label_of=tensor(label_of, torch.long),
        pair_of=tensor(side_of // 2, torch.long),
        factors=tensor(signs * weights, torch.float32),
    )


def row_maker(beta: float) -> partial[PairRow]:
    """`make_row` with a beta, as `loop.rows_of` takes it."""
    return partial(make_row, beta=beta)


def start_margins(network: Network, rows: Sequence[Row]) -> dict[str, float]:
    """The margins of the pairs in these rows under the network as it is, by their names.

    Dropout is off, as in the equation. Every rank calls this with the same number of rows.
    """
    network.model.eval()
    margins: dict[str, float] = {}
    with torch.no_grad():
        for row in rows:
            losses = token_losses(network, row)
            if isinstance(row, PairRow):  # else it only keeps the ranks in step
                margins |= zip(row.names, row.margins(losses).tolist(), strict=True)
    network.model.train()
    return margins


def check(optimizations: ExactOptimizations, reasons: dict[str, str]) -> None:
    """Refuse a model whose rows cannot hold two sequences.

    Raises:
        ModelError: they cannot, with the reason.
    """
    if not optimizations.pack:
        why = reasons.get("pack", "train.exact.pack is off")
        raise ModelError(f"train.objective=dpo needs rows that hold both replies of a pair: {why}; use sft")
