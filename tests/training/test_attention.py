"""Our blocks on CPUs against attention written out, forward and backward; and what GPUs use instead."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask

from atlas_ray.training import attention, block_attention
from atlas_ray.training.block_attention import SIZE, at, attend
from atlas_ray.training.prefix_tree import MIN_SHARED, lay_out

SCALE = 0.3
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@pytest.fixture(autouse=True, params=[0, block_attention.KEPT], ids=["anew", "kept"])
def probabilities(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed anew in the backward pass, as those of long trajectories, or kept."""
    monkeypatch.setattr(block_attention, "KEPT", request.param)


def tensors(queries: int, keys: int, key_heads: int) -> list[torch.Tensor]:
    torch.manual_seed(queries)
    shapes = ((4, queries), (key_heads, keys), (key_heads, keys))
    return [torch.randn(1, heads, length, 8, dtype=torch.float64, requires_grad=True) for heads, length in shapes]


def written_out(sees: torch.Tensor) -> Attention:
    def compute(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        key, value = (states.repeat_interleave(query.shape[1] // key.shape[1], 1) for states in (key, value))
        scores = (SCALE * query @ key.transpose(2, 3)).masked_fill(~sees, -torch.inf)
        return (scores.softmax(-1) @ value).transpose(1, 2)

    return compute


def agree(compute: Attention, expected: Attention, inputs: list[torch.Tensor]) -> None:
    torch.manual_seed(0)
    outputs = [compute(*inputs), expected(*inputs)]
    weight = torch.randn_like(outputs[0])
    gradients = [torch.autograd.grad((output * weight).sum(), inputs) for output in outputs]
    assert torch.allclose(*outputs, atol=1e-10)
    for mine, theirs in zip(*gradients, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-10)


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (SIZE, SIZE), (2 * SIZE + 5, 2 * SIZE + 5), (SIZE + 1, 150)])
def test_queries_behind_their_ancestors(queries: int, keys: int, key_heads: int) -> None:
    sees = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    inputs = tensors(queries, keys, key_heads)
    agree(lambda q, k, v: attention._causal(q, k, v, SCALE, 0.0), written_out(sees), inputs)
    torch.set_num_threads(2)  # then PyTorch's kernel computes, as on GPUs
    agree(lambda q, k, v: attention._causal(q, k, v, SCALE, 0.0), written_out(sees), inputs)


def test_queries_at_some_positions() -> None:
    torch.manual_seed(0)
    queries, keys = 2 * SIZE + 3, 300
    positions = torch.randperm(keys)[:queries].sort().values
    sees = torch.arange(keys) <= positions[:, None]
    blocks = at(positions)
    assert sum(block.keys for block in blocks) < len(blocks) * keys  # what none of them sees is not computed
    agree(lambda q, k, v: attend(q, k, v, blocks, SCALE), written_out(sees), tensors(queries, keys, 2))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 150), min_size=1, max_size=4), min_size=1, max_size=6), st.booleans())
def test_flex_sees_the_blocks_that_pytorch_would_find_pair_by_pair(lengths: list[list[int]], share: bool) -> None:
    # Two pieces of different documents are alike where all before them are and they are as long: trees of all shapes.
    documents = [np.concatenate([np.full(MIN_SHARED + n, n, np.int32) for n in pieces]) for pieces in lengths]
    layout = lay_out(documents, share=share).layout
    until = torch.as_tensor(layout.visible_until)
    found = attention.block_mask(layout, torch.device("cpu"))
    tried = create_block_mask(
        lambda _b, _h, q, k: (k <= q) & (q < until[k]), None, None, layout.tokens, layout.tokens, device="cpu"
    )
    for numbers, indices in (("kv_num_blocks", "kv_indices"), ("full_kv_num_blocks", "full_kv_indices")):
        counts = getattr(tried, numbers)[0, 0]
        assert torch.equal(getattr(found, numbers)[0, 0], counts), numbers
        for row, count in enumerate(counts):
            mine, theirs = (getattr(mask, indices)[0, 0, row, :count] for mask in (found, tried))
            assert torch.equal(mine, theirs), indices
