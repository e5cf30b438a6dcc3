"""What a run would take: without weights, without a network, for the paper's setting."""

from __future__ import annotations

import re
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

from atlas_ray.config import TrainConfig
from atlas_ray.config_files import load
from atlas_ray.errors import ConfigError, ModelError
from atlas_ray.store import Store
from atlas_ray.training import attention, lora
from atlas_ray.training.compiling import PLAIN, compile_layers
from atlas_ray.training.dry_run import _memory, activation_bytes, dry_run
from atlas_ray.training.exact import meta_model
from atlas_ray.training.examples import Example
from atlas_ray.training.log import FILE
from atlas_ray.training.loop import backward
from atlas_ray.training.loss import make_row, token_losses
from atlas_ray.training.model import Recipe, _adapt, in_bf16
from tests.conftest import ROOT
from tests.training.tiny import ALL, tiny


def test_the_papers_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = load(str(ROOT / "configs" / "paper.yaml"), {"run_dir": str(tmp_path)})
    text = dry_run(config, "a100-80gb", 2048)
    assert "8.03 B parameters, 8.03 B tuned" in text
    assert "11485 trajectories" in text
    assert "270 of 128 trajectories in 3 epochs" in text
    assert "TOO MUCH" not in text
    memory = float(re.search(r"memory +(\d+) GB on each of 4 x a100-80gb", text)[1])
    assert 36 < memory < 80  # 16 bytes a parameter over four GPUs are 32 GB
    flops = float(re.search(r"FLOPs +(\S+);", text)[1])
    tokens = 11485 * 2048 * 0.82 * 3
    assert flops == pytest.approx(6 * 8.03e9 * tokens, rel=0.15)
    assert "TOO MUCH" in dry_run(load(None, {**config.model_dump(), "train": {"workers": 1}}), "l4", 2048)


def test_a_directory_with_config_json_alone_is_enough(tmp_path: Path) -> None:
    tiny("qwen2").config.save_pretrained(tmp_path / "model")
    options = {"model": str(tmp_path / "model"), "run_dir": str(tmp_path), "collect.trajectories": {"maze": 5}}
    adapted = dry_run(load(None, {**options, "train.lora": {"rank": 4}}), "h100", 100)
    assert "model       " in adapted
    assert float(re.search(r"([\d.e-]+) B tuned", adapted)[1]) < 1e-4
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises(ModelError, match="config.json is missing"):
        dry_run(load(None, options), "h100", 100)


@pytest.mark.parametrize("name", ["no/such-model", "nothing"])
def test_an_unknown_model_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="give a directory that holds one"):
        dry_run(load(None, {"model": name}), "h100", 100)


def test_activations_are_those_that_autograd_saves() -> None:
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "vocab_size": 640}
    sizes = [
        sum(activation_bytes(meta_model(LlamaConfig(num_hidden_layers=layers, **shape)), TrainConfig(), ALL, 100, 0.1))
        for layers in (2, 3, 4)
    ]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] > 100 * (96 * 2 * 3 + 64 * 2 * 6)  # an MLP keeps three, at least
    saved = TrainConfig(activation_checkpointing=True)
    kept, _ = activation_bytes(meta_model(LlamaConfig(num_hidden_layers=4, **shape)), saved, ALL, 100, 0.1)
    assert kept < sizes[2] / 2
    assert torch.get_default_device().type == "cpu"


def test_its_time_is_what_the_runs_own_steps_on_such_a_gpu_reached(tmp_path: Path) -> None:
    model = tiny("llama").config
    model.save_pretrained(tmp_path / "model")
    options = {"model": str(tmp_path / "model"), "run_dir": str(tmp_path), "collect.trajectories": {"maze": 500}}
    config, store = load(None, options | {"train.activation_checkpointing": True}), Store(str(tmp_path))

    def line() -> str:
        return next(line for line in dry_run(config, "h100", 2048).splitlines() if line.startswith("time"))

    assert "at 40% of 989 TFLOP/s a GPU (an assumption" in line()

    def reached(share: float, peak: float) -> dict[str, float]:
        return {"flops": share * peak * 2, "seconds": 2.0, "mfu": share}

    store.append([reached(0.9, 2e11) for _ in range(50)], *FILE)  # on a CPU
    store.append([reached(0.2, 989e12) for _ in range(9)], *FILE)
    assert "an assumption" in line()
    store.append([reached(0.2, 2 * 989e12)], *FILE)  # on two
    assert "at 20% of 989 TFLOP/s a GPU (reached)" in line()


class Live(TorchDispatchMode):
    """The most bytes that tensors made meanwhile held at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._held: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {_storage(one) for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor) and (key := _storage(made)) not in self._held | before:
                size = made.untyped_storage().nbytes()
                self._held.add(key)
                self.now += size
                weakref.finalize(made.untyped_storage(), self._gone, key, size)
        self.most = max(self.most, self.now)
        return result

    def _gone(self, key: int, size: int) -> None:
        self._held.discard(key)
        self.now -= size


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@pytest.mark.parametrize(
    "options",
    [TrainConfig(compile=False, **more) for more in ({}, {"lora": {"rank": 4}}, {"activation_checkpointing": True})],
    ids=["all weights", "adapters", "checkpointing"],
)
def test_its_memory_is_that_of_a_step_in_bf16(options: TrainConfig) -> None:
    """On a CPU, with PyTorch's fused attention, to which come weights, gradients and Adam's moments."""
    config = LlamaConfig(
        vocab_size=1024, hidden_size=128, intermediate_size=352, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    torch.set_num_threads(2)  # the kernel of one thread is another; the fixture `_one_thread` sets it back
    attention.register()
    held, passes = _estimate(config, options)
    model = LlamaForCausalLM(config)
    model.set_attn_implementation(attention.NAMES["sdpa"])
    network = in_bf16(_adapt(model, Recipe("", ALL, "sdpa", options)))
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
    weights = np.r_[np.zeros(462, np.float32), np.ones(51, np.float32)]
    row = make_row([Example("t", np.arange(513, dtype=np.int32), weights, 513)])
    with Live() as live:
        backward(network, [row], 1.0, 1)
    assert held == sum(weight.numel() * (16 if weight.requires_grad else 2) for weight in model.parameters())
    assert held + live.most == pytest.approx(held + passes, rel=0.05)


def _estimate(config: LlamaConfig, options: TrainConfig) -> tuple[float, float]:
    """What is there between steps, and what a row of 512 tokens adds."""
    model = meta_model(config)
    if options.lora is not None:
        lora.add(model, options.lora)
    memory = _memory(model, options, *activation_bytes(model, options, ALL, 512, 51 / 512))
    held = [size for name, size in memory.items() if "fp32" in name or "frozen" in name]
    return sum(held), sum(memory.values()) - sum(held)


def test_compiled_layers_keep_as_much_as_it_says() -> None:
    """By the partition into forward and backward that inductor takes, too."""
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=224, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    torch.set_num_threads(2)
    torch._dynamo.reset()
    attention.register()
    said, _ = activation_bytes(meta_model(config), TrainConfig(), ALL, 512, 12 / 512)
    eager, _ = activation_bytes(meta_model(config), TrainConfig(compile=False), ALL, 512, 12 / 512)
    assert said < 0.8 * eager
    model = LlamaForCausalLM(config)
    model.set_attn_implementation(attention.NAMES["sdpa"])
    network = in_bf16(_adapt(model, Recipe("", ALL, "sdpa", TrainConfig())))
    compile_layers(model, PLAIN, "aot_eager_decomp_partition")
    weights = np.r_[np.zeros(501, np.float32), np.ones(12, np.float32)]
    row = make_row([Example("t", np.arange(513, dtype=np.int32) % 64, weights, 513)])
    kept: dict[int, torch.UntypedStorage] = {}
    own = {_storage(weight) for weight in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor.untyped_storage()
        return tensor

    backward(network, [row], 1.0, 1)  # compiles
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_losses(network, row)
    in_bf16_too = sum(2 * weight.numel() for weight in model.parameters() if weight.dim() > 1)
    measured = sum(storage.nbytes() for storage in kept.values()) - in_bf16_too
    assert measured == pytest.approx(said, rel=0.1)
    torch._dynamo.reset()


def test_the_job_prints_it_without_ray(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "jobs/train.py",
        "--config",
        "configs/paper.yaml",
        "--dry-run",
        "--run_dir",
        str(tmp_path),
    ]
    ran = subprocess.run(
        command, env={"PYTHONPATH": ".", "HF_HUB_OFFLINE": "1"}, cwd=ROOT, text=True, capture_output=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "hours at 40% of 312 TFLOP/s" in ran.stdout
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="--gpu abacus: not known; take one of a100-40gb"):
        dry_run(load(None), "abacus", 100)
