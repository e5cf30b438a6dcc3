"""What a run would take: without weights, without a network, for the paper's setting."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from atlas_ray.config import TrainConfig
from atlas_ray.config_files import load
from atlas_ray.errors import ConfigError, ModelError
from atlas_ray.training.dry_run import activation_bytes, dry_run
from atlas_ray.training.exact import meta_model
from tests.conftest import ROOT
from tests.training.tiny import tiny


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
        activation_bytes(meta_model(LlamaConfig(num_hidden_layers=layers, **shape)), TrainConfig(), 100, 10)
        for layers in (2, 3, 4)
    ]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] > 100 * (96 * 2 * 3 + 64 * 2 * 6)  # an MLP keeps three, at least
    saved = TrainConfig(activation_checkpointing=True)
    kept = activation_bytes(meta_model(LlamaConfig(num_hidden_layers=4, **shape)), saved, 100, 10)
    assert kept < sizes[2] / 2
    assert torch.get_default_device().type == "cpu"


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
