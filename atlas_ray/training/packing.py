"""Which trajectories an optimizer step holds, and how they are dealt to ranks and packed into rows. Pure functions.

The order is a function of (seed, epoch, step) alone, so a killed run resumes with the same data on any number of
workers. A row is one forward and backward pass; its documents (trajectories) lie end to end, without padding.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Sequence
from functools import lru_cache

_PADDING, _SMALLEST = 0.03, 256
"""Share of a row that may be padding, and tokens of the smallest padded row: two blocks of flex_attention, because a
size of 1 is compiled apart from all others."""


def steps_per_epoch(documents: int, batch_size: int) -> int:
    """Optimizer steps of an epoch, which holds every document once; the last step may hold fewer documents."""
    return math.ceil(documents / batch_size)


def total_steps(
    labelled: Sequence[int], *, batch_size: int, seed: int, epochs: int, labelled_tokens: int | None = None
) -> int:
    """Optimizer steps of a training: whole epochs, or as many as it takes to reach a number of labelled tokens.

    Args:
        labelled: labelled tokens of each document, all > 0.
        batch_size: documents per step.
        seed: of the training.
        epochs: counts where `labelled_tokens` is None.
        labelled_tokens: training ends with the step that reaches so many.
    """
    per_epoch = steps_per_epoch(len(labelled), batch_size)
    if labelled_tokens is None:
        return epochs * per_epoch
    whole, left = divmod(labelled_tokens, sum(labelled))
    step = whole * per_epoch
    while left > 0:
        left -= sum(labelled[d] for d in batch(step, documents=len(labelled), batch_size=batch_size, seed=seed))
        step += 1
    return step


def batch(step: int, *, documents: int, batch_size: int, seed: int) -> list[int]:
    """The documents of an optimizer step.

    Args:
        step: number of the optimizer step, from 0, counted over all epochs.
        documents: number of documents.
        batch_size: documents per step.
        seed: of the training.
    """
    epoch, within = divmod(step, steps_per_epoch(documents, batch_size))
    return list(_order(seed, epoch, documents)[within * batch_size : (within + 1) * batch_size])


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, documents: int) -> tuple[int, ...]:
    order = list(range(documents))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return tuple(order)


def plan(lengths: Sequence[int], *, ranks: int, capacity: int) -> list[list[list[int]]]:
    """Deal documents to ranks and rows: `plan(...)[rank][row]` lists documents, as indices into `lengths`.

    Documents are dealt to ranks, longest first, each to the rank with the fewest tokens, so that two ranks differ by
    one document at most; each rank packs its own by best fit, longest first.

    Args:
        lengths: tokens of each document, all > 0.
        ranks: number of ranks that share the step.
        capacity: tokens of a row; a longer document has a row of its own.
    """
    longest_first = sorted(range(len(lengths)), key=lambda document: (-lengths[document], document))
    dealt: list[list[int]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for document in longest_first:
        rank = min(range(ranks), key=lambda candidate: (load[candidate], candidate))
        dealt[rank].append(document)
        load[rank] += lengths[document]
    return [_best_fit(documents, lengths, capacity) for documents in dealt]


def size(tokens: int, *, capacity: int) -> int:
    """Tokens of the row that a row of so many is padded to where rows shall have few sizes.

    Padding is at most 3 % of the tokens, but a row below 256 gets 256; it takes no row beyond its capacity. Between a
    number and its double there are at most 68 sizes.

    Args:
        tokens: of the row.
        capacity: as for `plan`; a longer row holds one document.
    """
    step = 1 << max(0, int(tokens * _PADDING).bit_length() - 1)
    padded = max(_SMALLEST, -(-tokens // step) * step)
    return padded if tokens > capacity else min(padded, capacity)


def _best_fit(documents: Sequence[int], lengths: Sequence[int], capacity: int) -> list[list[int]]:
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (tokens left, row), ascending
    for document in documents:
        at = bisect.bisect_left(free, (lengths[document], -1))
        if at < len(free):
            left, row = free.pop(at)
        else:
            left, row = capacity, len(rows)
            rows.append([])
        rows[row].append(document)
        if left > lengths[document]:
            bisect.insort(free, (left - lengths[document], row))
    return rows
