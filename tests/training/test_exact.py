"""Switches: on where exact, off with a reason where not, refused when demanded there; and the work that they save."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, GPT2Config, PretrainedConfig

from atlas_ray.config import TrainConfig
from atlas_ray.errors import ModelError
from atlas_ray.training.exact import decide, meta_model, truncation
from atlas_ray.training.flops import Counts, document, shape_of, skipped
from atlas_ray.training.job import ExactOptimizations
from tests.training.tiny import ALL, tiny


def small(kind: str, **changes: object) -> PretrainedConfig:
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 640}  # fmt: skip
    return AutoConfig.for_model(kind, **{**shape, **changes})


NO_PACK = ExactOptimizations(True, True, False, False, False)
CASES = {
    "llama": (small("llama"), "sdpa", ALL, {}),
    "qwen3": (small("qwen3"), "sdpa", ALL, {}),
    "flash": (small("llama"), "flash", dataclasses.replace(ALL, prefix_tree=False),
              {"prefix_tree": "train.attention=flex"}),
    "window": (small("mistral", sliding_window=64), "sdpa", NO_PACK, {"pack": "window of 64 tokens is shorter"}),
    "wide window": (small("mistral", sliding_window=500), "sdpa", ALL, {}),
    "dropout": (small("llama", attention_dropout=0.1), "sdpa", dataclasses.replace(NO_PACK, truncate=False),
                {"truncate": "attention_dropout of 0.1", "sparse_last_layer": "draws by position"}),
    "gpt2": (GPT2Config(n_embd=64, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0), "sdpa",
             dataclasses.replace(ALL, sparse_last_layer=False), {"sparse_last_layer": "has no list of layers"}),
    "state": (small("llama", layer_types=["linear_attention", "full_attention"]), "sdpa", NO_PACK,
              {"pack": "linear_attention carry a state"}),
    "convolution": (small("recurrent_gemma", num_hidden_layers=1, lru_width=64), "sdpa", NO_PACK,
                    {"pack": "conv_1d reads across trajectories"}),
    "sinks": (small("gpt_oss", num_local_experts=2, sliding_window=500), "sdpa", NO_PACK, {"pack": "attention sinks"}),
    "gemma": (small("gemma2", sliding_window=4096), "sdpa", NO_PACK, {"pack": "caps attention logits"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_skips_are_on_where_they_are_exact(case: str) -> None:
    config, kernel, expected, why = CASES[case]
    model = meta_model(config)
    optimizations, reasons = decide(model, TrainConfig(), kernel, longest=400)
    assert optimizations == expected
    assert truncation(model, TrainConfig()) == expected.truncate
    assert set(reasons) == {name for name, on in dataclasses.asdict(expected).items() if not on}
    for switch, reason in why.items():
        assert reason in reasons[switch]
        with pytest.raises(ModelError, match=rf"train\.exact\.{switch}: not exact .*{reason}"):
            decide(model, TrainConfig(exact={switch: True}), kernel, longest=400)


def test_a_switch_that_is_off_takes_those_with_it_that_need_it() -> None:
    model = tiny("llama")
    optimizations, reasons = decide(model, TrainConfig(exact={"head_at_labels": False}), "sdpa", longest=400)
    assert optimizations == dataclasses.replace(ALL, head_at_labels=False, sparse_last_layer=False)
    assert set(reasons) == {"sparse_last_layer"}
    optimizations, reasons = decide(model, TrainConfig(exact={"pack": False}), "sdpa", longest=400)
    assert optimizations == dataclasses.replace(ALL, pack=False, prefix_tree=False)


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_flops_are_those_that_torch_counts(family: str) -> None:
    model = tiny(family, attn_implementation="eager")
    tokens = 100
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.arange(tokens)[None], use_cache=False).logits.sum().backward()
    # Eager attention computes all pairs, not only those that the mask leaves.
    counts = dataclasses.replace(document(tokens), pairs=tokens**2)
    needed = shape_of(model).step(counts, head_at_labels=False, sparse_last_layer=False)
    assert needed == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_skipped_shares_add_up() -> None:
    shape = shape_of(tiny("llama"))
    whole, cut, read = document(100), document(80), Counts(60, 2000, 10, 500)
    shares = skipped(shape, whole, cut, read, head=True, last=True)
    plain = shape.step(whole, head_at_labels=False, sparse_last_layer=False)
    done = shape.step(read, head_at_labels=True, sparse_last_layer=True)
    assert sum(shares.values()) == pytest.approx(1 - done / plain)
    assert all(share > 0 for share in shares.values())
    assert sum(skipped(shape, whole, whole, whole, head=False, last=False).values()) == 0
