"""Causal attention inside each document of a packed row, as attention implementations of transformers.

A dense mask would cost the square of the row's length and switch the causal kernel off. Three kernels take the
documents' borders instead. `sdpa` computes segment by segment: with our own blocks on one CPU core, with PyTorch's
kernel on several cores and on GPUs. `flex` is flex_attention with a block mask, for GPUs (it has no backward pass on
CPUs). `flash` is FlashAttention's varlen kernel through transformers, for documents that share no beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from atlas_ray.errors import ModelError
from atlas_ray.training import block_attention
from atlas_ray.training.prefix_tree import Layout

NAMES = {"sdpa": "atlas_sdpa", "flex": "atlas_flex", "flash": "flash_attention_2"}
"""Name of each kernel for `attn_implementation`."""

_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

_BLOCK = 128
"""Queries, and keys, of a block of flex_attention."""


def register() -> None:
    """Make our own implementations known to transformers, in this process."""
    for kernel, function in (("sdpa", attend), ("flex", flex)):
        apart = torch.compiler.disable(function)  # type: ignore[no-untyped-call]  # see compiling.py
        # No mask function is registered: transformers then makes no mask. With one it would look for packed documents
        # in the position ids, and so wait for the GPU in every row.
        AttentionInterface.register(NAMES[kernel], apart)


def moved(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host's on a device; the copy to a GPU does not wait for what the GPU has to do before it."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


@lru_cache(maxsize=64)
def inputs(kernel: str, layout: Layout, device: torch.device) -> dict[str, Any]:
    """Arguments of the model's forward pass for one row, besides ids and positions; made once for a row."""
    given: dict[str, Any] = {"layout": layout}
    if kernel == "flex":
        given["block_mask"] = block_mask(layout, device)
    elif kernel == "flash":
        lengths = torch.tensor([0, *(segment.length for segment in layout.segments)])
        borders = moved(lengths.cumsum(0, dtype=torch.int32), device)
        longest = max(segment.length for segment in layout.segments)
        given |= {"cu_seq_lens_q": borders, "cu_seq_lens_k": borders, "max_length_q": longest, "max_length_k": longest}
    return given


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention per segment; a segment attends to its ancestors too.

    Args:
        module: the attention layer.
        query: shape (1, heads, tokens, head_dim).
        key: shape (1, key-value heads, tokens, head_dim).
        value: as `key`.
        attention_mask: must be None: the layout says which tokens are visible.
        layout: of the row.
        scaling: of the scores.
        dropout: of the attention weights.

    Returns:
        Shape (1, tokens, heads, head_dim), and no weights.

    Raises:
        ModelError: the layer brings a mask of its own.
    """
    if attention_mask is not None:
        raise ModelError(
            f"{type(module).__name__} makes a mask of its own, which attention per trajectory leaves out; set "
            "train.exact.pack and train.exact.sparse_last_layer to false"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    queries, keys, values = (by_segment(states, layout) for states in (query, key, value))
    outputs = [
        _causal(own, on_path(keys, layout, number), on_path(values, layout, number), scale, dropout)
        for number, own in enumerate(queries)
    ]
    return torch.cat(outputs, dim=1), None


def by_segment(states: torch.Tensor, layout: Layout) -> Sequence[torch.Tensor]:
    """A row's states, shape (1, heads, tokens, head_dim), cut into its segments.

    Splitting costs one concatenation in the backward pass; slicing would cost a row of zeros for each segment.
    """
    return torch.split(states, [segment.length for segment in layout.segments], dim=2)


def on_path(states: Sequence[torch.Tensor], layout: Layout, number: int) -> torch.Tensor:
    """States of `by_segment` of all tokens from the root to the end of a segment, in order."""
    above = layout.segments[number].ancestors
    return torch.cat([states[at] for at in (*above, number)], dim=2) if above else states[number]


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, dropout: float) -> torch.Tensor:
    """Causal attention of the queries of the last keys, shape (1, queries, heads, head_dim)."""
    queries, keys = query.shape[2], key.shape[2]
    if block_attention.suits(query) and not dropout:
        return block_attention.attend(query, key, value, block_attention.causal(queries, keys), scale)
    sees = None
    if keys > queries:
        sees = torch.ones(queries, keys, dtype=torch.bool, device=key.device).tril(keys - queries)
    return sdpa(query, key, value, scale, sees, dropout).contiguous()


def sdpa(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    sees: torch.Tensor | None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Attention by PyTorch's kernel, shape (1, queries, heads, head_dim).

    cuDNN's kernel is not used on GPUs: it builds a plan for every new pair of lengths (PyTorch's pull 155958), and
    trajectories hardly ever have the same lengths. The other fused kernels take no grouped heads under a mask.

    Args:
        query: as in `attend`.
        key: as in `attend`.
        value: as in `attend`.
        scale: of the scores.
        sees: whether each query attends to each key, shape (queries, keys); None: causal, with as many keys as
            queries.
        dropout: of the attention weights.
    """
    grouped = query.shape[1] != key.shape[1]
    if grouped and sees is not None and query.is_cuda:
        key, value = (states.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for states in (key, value))
        grouped = False
    with sdpa_kernel(_KERNELS) if query.is_cuda else nullcontext():
        mixed = scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=sees,
            dropout_p=dropout,
            is_causal=sees is None,
            scale=scale,
            enable_gqa=grouped,
        )
    return mixed.transpose(1, 2)


def flex(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    block_mask: Any,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """As `attend`, by flex_attention."""
    kernel = compiled() if query.is_cuda else flex_attention
    output = kernel(
        query, key, value, block_mask=block_mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1],
        kernel_options={"FORCE_USE_FLEX_ATTENTION": True},  # the one for short inputs does not compile for all of them
    )  # fmt: skip
    return output.transpose(1, 2).contiguous(), None


def block_mask(layout: Layout, device: torch.device) -> BlockMask:
    """The blocks of keys that each block of queries attends to, in part or in full, as flex_attention wants them.

    They are read off the layout, block by block; PyTorch's `create_block_mask` would try every pair of tokens.
    """
    until = layout.visible_until
    starts = np.arange(0, layout.tokens, _BLOCK)
    queries, earlier = starts[:, None], starts[None] < starts[:, None]
    # A key is visible up to `until`: a later block of queries attends to some of a block's keys if its first query lies
    # before the largest `until`, and to all of them if its last query lies before the smallest.
    some = earlier & (queries < np.maximum.reduceat(until, starts)[None])
    full = earlier & (queries + _BLOCK <= np.minimum.reduceat(until, starts)[None])
    part = (some & ~full) | np.eye(len(starts), dtype=bool)
    ends = moved(torch.as_tensor(until), device)

    def visible(_batch: torch.Tensor, _head: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return (k <= q) & (q < ends[k])

    def ordered(blocks: NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
        order = np.argsort(~blocks, axis=1, kind="stable")  # blocks that are attended to come first
        both = (torch.as_tensor(of, dtype=torch.int32) for of in (blocks.sum(1), order))
        numbers, indices = (moved(of, device) for of in both)
        return numbers[None, None], indices[None, None]

    return BlockMask.from_kv_blocks(
        *ordered(part), *ordered(full), BLOCK_SIZE=_BLOCK, mask_mod=visible, seq_lengths=(layout.tokens, layout.tokens)
    )


@lru_cache(maxsize=1)
def compiled(backend: Any = "inductor") -> Any:
    """flex_attention as one function for rows of all sizes and layouts."""
    return torch.compile(flex_attention, backend=backend, dynamic=True)
