"""Exact attention on one CPU core: a block of queries at a time, over the keys that some query of the block attends to.

PyTorch's CPU kernel splits long rows to suit its threads, computes all of a dense mask, and multiplies the query heads
one by one. Here the query heads that share a key head are one matrix product, and keys that no query of a block attends
to are never computed. Short trajectories keep their attention weights for the backward pass; long ones compute them
again, so memory grows with the number of tokens, not with its square. Left out: GPUs, dropout, bf16, and several
threads, which would wait for each other most of the time because the products are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

SIZE = 48
"""Queries of a block, the best as measured: more compute hidden keys, fewer make the matrix products too small."""

KEPT = 2048
"""Keys up to which attention weights are kept: 9 heads then hold 72 MiB in a layer, and four times that at 4,096."""


def suits(states: torch.Tensor) -> bool:
    """Whether blocks are the faster way here."""
    return states.is_cpu and torch.get_num_threads() == 1


@dataclass(frozen=True)
class Block:
    """Queries that are computed together."""

    start: int
    end: int
    """Half-open range of queries."""
    keys: int
    """They attend to none but the first `keys` keys."""
    hidden_from: int
    """All of them attend to every key before this one."""
    hidden: torch.Tensor
    """Keys from `hidden_from` on that a query does not attend to, shape (end - start, keys - hidden_from)."""


@lru_cache(maxsize=64)
def causal(queries: int, keys: int) -> tuple[Block, ...]:
    """Blocks of causal attention, where the queries are those of the last keys."""
    return at(torch.arange(keys - queries, keys))


def at(positions: torch.Tensor) -> tuple[Block, ...]:
    """Blocks of causal attention, where a query attends to the keys up to its position; the positions ascend."""
    blocks = []
    for number, part in enumerate(torch.split(positions, SIZE)):
        start, first, last = number * SIZE, int(part[0]), int(part[-1])
        hidden = torch.arange(first + 1, last + 1) > part[:, None]
        blocks.append(Block(start, start + len(part), last + 1, first + 1, hidden))
    return tuple(blocks)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Sequence[Block], scale: float
) -> torch.Tensor:
    """Attention, block by block.

    Args:
        query: shape (1, query heads, queries, head_dim).
        key: shape (1, key heads, keys, head_dim); each serves the same number of query heads.
        value: shape (1, key heads, keys, width).
        blocks: of all queries, in order.
        scale: of the scores.

    Returns:
        Shape (1, queries, query heads, width).
    """
    output: torch.Tensor = _Blocks.apply(query, key, value, blocks, scale)  # type: ignore[no-untyped-call]
    return output


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Sequence[Block], scale: float
    ) -> torch.Tensor:
        _, heads, queries, dim = query.shape
        groups, width = key.shape[1], value.shape[-1]
        grouped = query.reshape(groups, heads // groups, queries, dim)
        output = query.new_empty(queries, groups, heads // groups, width)
        kept = []
        for block in blocks:
            weights = _weights(grouped, key, block, scale)
            mixed = torch.bmm(weights, value[0, :, : block.keys])
            output[block.start : block.end] = _heads_of_rows(mixed, block).permute(2, 0, 1, 3)
            if key.shape[2] <= KEPT:
                kept.append(weights)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.blocks, ctx.scale = blocks, scale
        return output.view(1, queries, heads, width)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        query, key, value, *kept = ctx.saved_tensors
        _, heads, queries, dim = query.shape
        groups = key.shape[1]
        grouped = query.reshape(groups, heads // groups, queries, dim)
        incoming = gradient.reshape(queries, groups, heads // groups, value.shape[-1]).permute(1, 2, 0, 3)
        of_query = query.new_empty(groups, heads // groups, queries, dim)
        of_key, of_value = torch.zeros_like(key[0]), torch.zeros_like(value[0])
        for number, block in enumerate(ctx.blocks):
            seen = slice(0, block.keys)
            weights = kept[number] if kept else _weights(grouped, key, block, ctx.scale)
            above = _rows_of_block(incoming, block)
            of_value[:, seen].baddbmm_(weights.transpose(1, 2), above)
            of_weights = torch.bmm(above, value[0, :, seen].transpose(1, 2))
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_query[:, :, block.start : block.end] = _heads_of_rows(torch.bmm(of_scores, key[0, :, seen]), block)
            of_key[:, seen].baddbmm_(of_scores.transpose(1, 2), _rows_of_block(grouped, block), alpha=ctx.scale)
        return of_query.view(query.shape).mul_(ctx.scale), of_key[None], of_value[None], None, None


def _weights(grouped: torch.Tensor, key: torch.Tensor, block: Block, scale: float) -> torch.Tensor:
    """Attention weights, shape (key heads, query heads of each x queries of the block, keys)."""
    scores = torch.bmm(_rows_of_block(grouped, block).mul(scale), key[0, :, : block.keys].transpose(1, 2))
    _heads_of_rows(scores, block)[..., block.hidden_from :].masked_fill_(block.hidden, -torch.inf)
    return torch.softmax(scores, -1)


def _rows_of_block(grouped: torch.Tensor, block: Block) -> torch.Tensor:
    """From (key heads, query heads of each, queries, width) to the block's (key heads, rows, width)."""
    return grouped[:, :, block.start : block.end].flatten(1, 2)


def _heads_of_rows(rows: torch.Tensor, block: Block) -> torch.Tensor:
    """From (key heads, rows, width) to (key heads, query heads of each, queries of the block, width)."""
    return rows.view(len(rows), -1, block.end - block.start, rows.shape[-1])
