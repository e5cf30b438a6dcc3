"""States to resume from, and the exported directory, on a local disk and on another file system."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from atlas_ray.store import Store
from atlas_ray.training import checkpoint
from atlas_ray.training.export import export
from tests.tokenizers import tokenizer
from tests.training.tiny import save, tiny


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run") if request.param == "disk" else f"memory://{tmp_path.name}")


def trained(steps: int) -> tuple[PreTrainedModel, torch.optim.AdamW]:
    model = tiny("llama")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for step in range(steps):
        model(input_ids=torch.arange(10)[None] + step, labels=torch.arange(10)[None]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


@pytest.mark.parametrize("beside", [False, True])
def test_state_goes_on_bit_by_bit_and_a_torn_one_is_ignored(store: Store, beside: bool) -> None:
    model, optimizer = trained(2)
    saver = checkpoint.Saver(store, "llm", model, optimizer, beside=beside)
    assert [saver.save(2), saver.save(4), saver.finish()] == ([[], [2], [4]] if beside else [[2], [4], []])
    assert checkpoint.latest(store, "llm") == 4
    store.fs.rm(store.path(*checkpoint.folder("llm"), "step-000004", ".metadata"))
    assert checkpoint.latest(store, "llm") == 2
    checkpoint.clean(store, "llm", keep=2)
    assert [name for name in store.names(*checkpoint.folder("llm")) if "step" in name] == ["step-000002"]

    other, other_optimizer = trained(0)
    checkpoint.load(store, "llm", 2, other, other_optimizer)
    for first, second in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(first, second)
        for key, value in optimizer.state[first].items():
            assert torch.equal(value, other_optimizer.state[second][key]), key


def test_export_replaces_an_older_one(store: Store, tmp_path: Path) -> None:
    base = save(tiny("llama").to(torch.bfloat16), tmp_path / "base")
    store.write_text("old", "checkpoints", "llm", "model-00001-of-00002.safetensors")
    store.write_text("{}", "checkpoints", "llm", "config.json")
    store.write_text("{}", *checkpoint.folder("llm"), "run.json")
    model, _ = trained(1)
    export(store, "llm", model, tokenizer("chatml"), base, write=True)
    names = store.names("checkpoints", "llm")
    assert {"config.json", "model.safetensors", "tokenizer.json", checkpoint.STATE} <= set(names)
    assert not [name for name in names if name.startswith((".", "model-"))]
    local = tmp_path / "local"
    store.fs.get(store.path("checkpoints", "llm"), str(local), recursive=True)
    assert json.loads((local / "config.json").read_text())["dtype"] == "bfloat16"  # as the base model
    loaded = AutoModelForCausalLM.from_pretrained(local)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight.to(torch.bfloat16))
    assert AutoTokenizer.from_pretrained(local).chat_template
