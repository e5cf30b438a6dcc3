"""States to resume from, and the exported directory, on a local disk and on another file system."""

from __future__ import annotations

import json
import os
import pickle
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from atlas_ray.errors import StoreError, TrainingError
from atlas_ray.store import Store
from atlas_ray.training import checkpoint
from atlas_ray.training.export import export
from tests.conftest import STORAGE, run_dir_on
from tests.tokenizers import tokenizer
from tests.training.tiny import save, tiny


@pytest.fixture(params=STORAGE)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(run_dir_on(request.param, request, tmp_path))


def trained(steps: int) -> tuple[PreTrainedModel, torch.optim.AdamW]:
    model = tiny("llama")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for step in range(steps):
        model(input_ids=torch.arange(10)[None] + step, labels=torch.arange(10)[None]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


@pytest.mark.parametrize("in_background", [False, True])
def test_state_goes_on_bit_by_bit_and_a_torn_one_is_ignored(store: Store, in_background: bool) -> None:
    model, optimizer = trained(2)
    saver = checkpoint.Saver(store, "llm", model, optimizer, in_background=in_background)
    assert [saver.save(2), saver.save(4), saver.finish()] == ([[], [2], [4]] if in_background else [[2], [4], []])
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


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("place", ["metadata", "value"])
def test_a_state_that_would_run_code_is_refused_and_runs_none(store: Store, tmp_path: Path, place: str) -> None:
    model, optimizer = trained(1)
    harm = Malicious(tmp_path / "ran")
    metadata = store.path(*checkpoint.folder("llm"), "step-000001", ".metadata")
    if place == "value":
        optimizer.param_groups[0]["weight_decay"] = harm
    checkpoint.Saver(store, "llm", model, optimizer, in_background=False).save(1)
    if place == "metadata":
        store.fs.pipe_file(metadata, pickle.dumps({"state": pickle.loads(store.fs.cat_file(metadata)), "harm": harm}))
    with pytest.raises(TrainingError, match=r"was not written by atlas-ray, or was changed .*; delete .*state"):
        checkpoint.load(store, "llm", 1, *trained(0))
    assert not harm.path.exists()


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


@pytest.mark.parametrize("in_background", [False, True])
def test_a_full_disk_leaves_the_state_before_valid(tmp_path: Path, in_background: bool) -> None:
    store = Store(str(tmp_path / "run"))
    model, optimizer = trained(1)
    saver = checkpoint.Saver(store, "llm", model, optimizer, in_background=in_background)
    saver.save(1)
    saver.finish()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # the kernel refuses to write on, as on a full disk
    try:
        with pytest.raises(CheckpointException, match="File too large|iostream|unexpected pos"):  # noqa: PT012
            saver.save(2)
            saver.finish()  # one of the two raises: the one that waits for the disk
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.latest(store, "llm") == 1
    other, moments = trained(0)
    checkpoint.load(store, "llm", 1, other, moments)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_an_export_to_a_full_disk_is_refused_in_one_line(tmp_path: Path) -> None:
    base = save(tiny("llama"), tmp_path / "base")
    store = Store(str(tmp_path / "run"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot write .*checkpoints/llm: .*free space and run again"):
            export(store, "llm", trained(1)[0], tokenizer("chatml"), base, write=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not store.exists("checkpoints", "llm", "config.json")
