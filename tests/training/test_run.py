"""Training on Ray: the same weights on one worker or two, after a killed worker and after a killed driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from atlas_ray.config import PipelineConfig, load
from atlas_ray.errors import ClusterError, ConfigError
from atlas_ray.store import Store
from atlas_ray.training.run import train
from tests.tokenizers import tokenizer
from tests.training.tiny import trajectory

pytestmark = pytest.mark.usefixtures("ray_cluster")

TRAJECTORIES = [trajectory(number, 2 + number % 3) for number in range(7)]
STEPS: dict[str, tuple[int, ...]] = {one.trajectory_id: (one.n_steps - 1,) for one in TRAJECTORIES}
EPOCHS, TOTAL = 6, 18


def config(run_dir: Path, workers: int) -> PipelineConfig:
    options = {
        "epochs": EPOCHS, "batch_size": 3, "learning_rate": 1e-3, "workers": workers, "threads": 1,
        "checkpoint_every": 2, "pack_tokens": 300,
    }  # fmt: skip
    return load(None, {"run_dir": str(run_dir), "seed": 5, "train": options})


def run(run_dir: Path, base: str, workers: int) -> dict[str, torch.Tensor]:
    chosen = config(run_dir, workers)
    path = train(chosen, Store(chosen.run_dir), name="llm", base=base, trajectories=TRAJECTORIES, steps=STEPS)
    return load_file(Path(path, "model.safetensors"))


def journal(run_dir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run_dir / "metrics" / "train.jsonl").read_text().splitlines()]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def alike(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Equal but for the order in which gradients were added up."""
    return all((first[name] - second[name]).norm() <= 1e-6 * first[name].norm() + 1e-6 for name in first)


def state_of(run_dir: Path, step: int) -> Path:
    return run_dir / "checkpoints" / "llm" / "training_state" / f"step-{step:06d}" / ".metadata"


@pytest.fixture(scope="module")
def one(llama: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """Directory and weights of an undisturbed run on one worker."""
    run_dir = tmp_path_factory.mktemp("one")
    return run_dir, run(run_dir, llama, workers=1)


@pytest.fixture(scope="module")
def two(llama: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """The same on two."""
    run_dir = tmp_path_factory.mktemp("two")
    return run_dir, run(run_dir, llama, workers=2)


def test_output_is_a_model_directory_and_a_journal(one: tuple[Path, dict[str, torch.Tensor]], llama: str) -> None:
    run_dir, weights = one
    path = run_dir / "checkpoints" / "llm"
    base, tuned = (AutoModelForCausalLM.from_pretrained(place) for place in (llama, path))
    assert type(tuned) is type(base)
    assert "lm_head.weight" not in weights  # tied, stored once
    assert tuned.config.dtype == base.config.dtype
    assert not torch.equal(tuned.lm_head.weight, base.lm_head.weight)
    assert AutoTokenizer.from_pretrained(path).chat_template == tokenizer("chatml").chat_template
    assert json.loads((path / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    rows = journal(run_dir)
    assert [row["step"] for row in rows] == list(range(1, TOTAL + 1))
    assert {row["epoch"] for row in rows} == set(range(EPOCHS))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert all(0 < row["mfu"] < 1.5 and row["memory_gib"] > 0 and row["labelled_tokens"] for row in rows)
    assert all(
        set(row["skipped"]) == {"truncate", "prefix_tree", "sparse_last_layer", "head_at_labels"} for row in rows
    )
    assert all(row["skipped"]["head_at_labels"] > 0 and row["skipped"]["sparse_last_layer"] > 0 for row in rows)
    assert sorted(child.name for child in path.iterdir() if child.name.startswith(".")) == []


def test_two_workers_learn_what_one_does(
    one: tuple[Path, dict[str, torch.Tensor]], two: tuple[Path, dict[str, torch.Tensor]]
) -> None:
    losses = [[row["loss"] for row in journal(run_dir)] for run_dir, _ in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert alike(one[1], two[1])


def test_a_killed_worker_costs_nothing(two: tuple[Path, dict[str, torch.Tensor]], llama: str, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        while not state_of(tmp_path, 4).exists():
            time.sleep(0.01)
        workers = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in "".join(p.cmdline()[:1])]
        os.kill(workers[-1].pid, signal.SIGKILL)
        killed.append(workers[-1].pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    weights = run(tmp_path, llama, workers=2)
    assert killed
    assert same(weights, two[1])
    assert [row["step"] for row in journal(tmp_path)] == list(range(1, TOTAL + 1))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_driver_costs_nothing(
    workers: int, one: tuple[Path, dict[str, torch.Tensor]], llama: str, tmp_path: Path, ray_cluster: str
) -> None:
    code = (
        "import sys, ray; from pathlib import Path; from tests.training import test_run; "
        "ray.init(address=sys.argv[1]); test_run.run(Path(sys.argv[2]), sys.argv[3], workers=int(sys.argv[4]))"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code, ray_cluster, str(tmp_path), llama, str(workers)],
        env=dict(os.environ, PYTHONPATH="."),
    )
    while not state_of(tmp_path, 6).exists():
        assert driver.poll() is None
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    assert not (tmp_path / "checkpoints" / "llm" / "config.json").exists()
    # What a run leaves that was killed while it wrote: a state that is not whole.
    state_of(tmp_path, 999).parent.mkdir()
    (state_of(tmp_path, 999).parent / "__0_0.distcp").write_bytes(b"torn")
    weights = run(tmp_path, llama, workers=1)  # on the same number of workers, and on another one
    assert same(weights, one[1]) if workers == 1 else alike(weights, one[1])
    assert [row["step"] for row in journal(tmp_path)] == list(range(1, TOTAL + 1))


def test_a_finished_run_is_not_repeated_and_another_one_replaces_it(
    one: tuple[Path, dict[str, torch.Tensor]], llama: str
) -> None:
    run_dir, weights = one
    before = (run_dir / "checkpoints" / "llm" / "model.safetensors").stat().st_mtime_ns
    assert same(run(run_dir, llama, workers=2), weights)  # the number of workers is not content
    assert (run_dir / "checkpoints" / "llm" / "model.safetensors").stat().st_mtime_ns == before


def test_a_cluster_that_is_too_small_is_refused(llama: str, tmp_path: Path) -> None:
    chosen = load(None, {"run_dir": str(tmp_path), "train.workers": 500})
    with pytest.raises(ClusterError, match=r"train.workers=500"):
        train(chosen, Store(chosen.run_dir), name="llm", base=llama, trajectories=TRAJECTORIES, steps=STEPS)


def test_warmup_options() -> None:
    chosen = load(None, {"train.warmup": {"epochs": 7, "batch_size": 2}, "train.max_length": 99})
    options = chosen.train.for_warmup()
    assert (options.epochs, options.batch_size, options.learning_rate, options.max_length) == (7, 2, 1e-4, 99)
    with pytest.raises(ConfigError, match=r"train\.warmup"):
        load(None).train.for_warmup()
