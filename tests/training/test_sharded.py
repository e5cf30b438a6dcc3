"""Two ranks with a shard each: the weights that rank 0 read, and the gradient that one rank computes alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

from atlas_ray.config import TrainConfig
from atlas_ray.errors import ModelError, StoreError
from atlas_ray.training.examples import Example, prepare
from atlas_ray.training.loop import backward, count, figures_of_step, on_rank_0, rows_of
from atlas_ray.training.model import Network, Recipe, load, load_sharded
from tests.tokenizers import tokenizer
from tests.training.tiny import ALL, save, tiny, trajectory

RECIPES = [
    TrainConfig(dtype="float32"),
    TrainConfig(dtype="float32", lora={"rank": 4}, activation_checkpointing=True),
    TrainConfig(dtype="bfloat16"),
]
CPU = torch.device("cpu")


def examples() -> list[Example]:
    trajectories = [trajectory(number, 3) for number in range(5)]
    labels = {one.trajectory_id: {1: 1 / (1 + number)} for number, one in enumerate(trajectories)}
    return prepare(trajectories, labels, tokenizer("chatml"), TrainConfig())[0]


def no_space() -> None:
    raise StoreError("no space")


def rank_of_two(rank: int, store: str, path: str, broken: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    batch = examples()
    denominator = sum(example.total_weight for example in batch)
    # Processors of two kinds under `auto`, one of which has no bf16: all compute in fp32.
    differing = TrainConfig(dtype="float32" if rank else "bfloat16")
    for options, near in [*zip(RECIPES, (1e-5, 1e-5, 0.1), strict=True), (differing, 1e-5)]:
        recipe = Recipe(path, ALL, "sdpa", options)
        sharded = load_sharded(recipe, CPU, rank, 2)
        alone: Network = load(recipe)
        for (name, part), whole in zip(sharded.model.named_parameters(), alone.model.parameters(), strict=True):
            assert torch.equal(part.full_tensor(), whole), name
        for mine, buffer in zip(sharded.model.buffers(), alone.model.buffers(), strict=True):
            assert torch.equal(mine, buffer)
        mine, all_rows = rows_of(batch, rank, 2, 300, ALL, CPU), rows_of(batch, 0, 1, 300, ALL, CPU)
        result = backward(sharded, mine, denominator, 2)
        expected = backward(alone, all_rows, denominator, 1)
        counted = torch.tensor(count(mine).values, dtype=torch.float64)
        loss, _, *counts, norm = figures_of_step(result, torch.tensor(2.5), counted)
        assert (counts, norm) == ([float(each) for each in count(all_rows).values], 2.5)
        assert loss == pytest.approx(expected.loss, rel=near)
        for (name, part), whole in zip(sharded.model.named_parameters(), alone.model.parameters(), strict=True):
            if whole.grad is not None and whole.grad.norm() > 0:
                assert (part.grad.full_tensor() - whole.grad).norm() < near * whole.grad.norm(), name
    with pytest.raises(ModelError, match="not finite"):  # on the rank that did not read it too
        load_sharded(Recipe(broken, ALL, "sdpa", RECIPES[0]), CPU, rank, 2)
    # A full disk on the rank that writes stops both; neither waits for the other.
    assert on_rank_0(no_space if rank == 0 else None) == ("no space" if rank == 0 else "rank 0 could not write")
    assert on_rank_0(print if rank == 0 else None) is None
    dist.destroy_process_group()


def test_two_ranks_compute_what_one_does(tmp_path: Path) -> None:
    path = save(tiny("llama"), tmp_path / "llama")  # its head is tied to the embedding
    model = tiny("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    broken = save(model, tmp_path / "broken")
    multiprocessing.spawn(rank_of_two, (str(tmp_path / "store"), path, broken), nprocs=2)
