"""The benchmark of a GPU, as far as a CPU runs it: its plan, and the steps that it measures, on a tiny model."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from atlas_ray.config import LoraConfig, TrainConfig
from benchmarks import _training, gpu
from tests.training.tiny import tiny

CPU = torch.device("cpu")


def test_the_plan_names_every_claim_and_takes_ten_minutes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--plan"])
    gpu.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["engine", "scoring", "training", "peers", "quickstart"]
    assert sum(float(re.search(r"([\d.]+) min", line)[1]) for line in lines) <= 10
    assert "left out: no_such_package not installed" in gpu.Claim(gpu.peers, 1, ("no_such_package",)).line("peers")


@pytest.mark.skipif(torch.version.cuda is not None, reason="a GPU is measured")
def test_without_a_gpu_it_says_so_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "training"])
    gpu.main()
    assert capsys.readouterr().out == "no GPU: this PyTorch was built for CPUs\n"


@pytest.mark.parametrize("options", [TrainConfig(), TrainConfig(lora=LoraConfig(rank=4))], ids=["all", "adapters"])
def test_the_steps_that_it_measures(options: TrainConfig) -> None:
    network = gpu.trained(tiny("llama"), options, CPU)
    before = [weight.detach().clone() for weight in network.model.parameters()]
    drawn = gpu.batches(network, 4, trajectories=3, tokens=60)
    tokens, flop = gpu.steps(network, drawn, 128, CPU)
    assert tokens > 0
    assert flop > tokens
    moved = [not torch.equal(a, b) for a, b in zip(before, network.model.parameters(), strict=True)]
    assert any(moved)
    expected = gpu.estimate(network.model.config, options, drawn, 128)
    held = sum(weight.numel() * (16 if weight.requires_grad else 2) for weight in network.model.parameters())
    assert held < expected < 20 * held


def test_the_best_switches_of_trl_follow_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (True, False):
        monkeypatch.setattr(_training, "find_spec", lambda _, there=there: object() if there else None)
        found = _training.best_switches()
        assert found["padding_free"] == found["use_liger_kernel"] == there
        assert (found["model_init_kwargs"]["attn_implementation"] == "flash_attention_2") == there
