"""The parts of the loop that need no Ray: the learning rate, the log, a loss that is not finite."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from atlas_ray.config import TrainConfig
from atlas_ray.store import Store
from atlas_ray.training.examples import Example, prepare
from atlas_ray.training.log import FILE, Speed, TrainingLog
from atlas_ray.training.loop import backward, learning_rate, not_finite, rows_of
from atlas_ray.training.model import Recipe, load
from tests.tokenizers import tokenizer
from tests.training.tiny import ALL, save, tiny, trajectory


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_learning_rate(schedule: str) -> None:
    options = TrainConfig(learning_rate=1.0, warmup_ratio=0.1, schedule=schedule)
    rates = [learning_rate(step, 40, options) for step in range(40)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    expected = {"cosine": 0.5 * (1 + math.cos(math.pi * 18 / 36)), "linear": 0.5, "constant": 1.0}
    assert rates[22] == pytest.approx(expected[schedule])
    assert min(rates) > 0
    assert learning_rate(0, 1, TrainConfig(learning_rate=1.0)) == 1.0


def test_rows_of_steps_that_are_repeated_are_deleted(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.append([{"checkpoint": "warmup", "step": 9}, *({"checkpoint": "llm", "step": s} for s in (1, 2, 3))], *FILE)
    log = TrainingLog(store, "llm")
    log.drop_after(2)
    weights = np.array([0, 1, 1, 0, 1], np.float32)
    speed = Speed(seconds=2.0, flops=1e9, peak=1e9, memory_gib=0.5, skipped={"truncate": 0.5})
    log.log(3, 0, [Example("t", np.arange(5, dtype=np.int32), weights, 8)], 0.5, 1.5, 1e-4, speed)
    rows = list(store.journal(*FILE))
    assert [(row["checkpoint"], row["step"]) for row in rows] == [("warmup", 9), ("llm", 1), ("llm", 2), ("llm", 3)]
    assert rows[-1] == {
        "checkpoint": "llm", "step": 3, "epoch": 0, "loss": 0.5, "labelled_tokens": 3, "tokens": 4,
        "grad_norm": 1.5, "learning_rate": 1e-4, "tokens_per_second": 2.0, "labelled_tokens_per_second": 1.5,
        "flops": 1e9, "mfu": 0.5, "memory_gib": 0.5, "skipped": {"truncate": 0.5}, "seconds": 2.0,
    }  # fmt: skip


def test_a_loss_that_is_not_finite_names_its_trajectories(tmp_path: Path) -> None:
    trajectories = [trajectory(number, 2) for number in range(5)]
    labels = {one.trajectory_id: {1: 1.0} for one in trajectories}
    examples, _ = prepare(trajectories, labels, tokenizer("chatml"), TrainConfig())
    read = [set(one.ids[:-1].tolist()) for one in examples]
    token = min(set.union(*read) - set.intersection(*read))  # some examples read it
    broken = [one.trajectory_id for one, tokens in zip(examples, read, strict=True) if token in tokens]
    path = save(tiny("mistral"), tmp_path)  # the head is not tied to the embedding
    network = load(Recipe(path, ALL, "sdpa", TrainConfig()))
    with torch.no_grad():
        network.model.get_input_embeddings().weight[token] = torch.nan
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        result = backward(network, rows_of(examples, 0, 1, 300, ALL, torch.device("cpu")), 1.0, 1)
        assert sorted(result.broken) == broken
        message = not_finite(3, result.loss, 1.0, result, examples)
    finally:
        dist.destroy_process_group()
    assert message.startswith("step 4: loss nan")
    assert f"trajectories {', '.join(broken)};" in message
