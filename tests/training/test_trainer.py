"""Training on Ray: the same weights on one worker or two, and whatever is killed: a node, a worker, the driver."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import ray
import torch
from ray.util.placement_group import placement_group, remove_placement_group
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from atlas_ray.config import PipelineConfig, TrainConfig
from atlas_ray.config_files import load
from atlas_ray.errors import ClusterError, ConfigError, TrainingError
from atlas_ray.models import ON_BOARD
from atlas_ray.roster import RosterEntry
from atlas_ray.store import Store
from atlas_ray.training import checkpoint
from atlas_ray.training.examples import prepare
from atlas_ray.training.trainer import _key, _worker_base, train, with_budget
from tests.tokenizers import tokenizer
from tests.training.tiny import Labels, trajectory

pytestmark = pytest.mark.usefixtures("ray_cluster")

TRAJECTORIES = [trajectory(number, 2 + number % 3) for number in range(7)]
LABELS = {one.trajectory_id: {one.n_steps - 1: 0.5 + 0.5 * (one.n_steps % 2)} for one in TRAJECTORIES}
EPOCHS, TOTAL = 10, 30
FRAGILE = {"max_failures": 0, "workers": 2, "threads": 2}
"""Ends with the first loss, and takes the whole cluster: what is left behind keeps the next training out."""


def config(run_dir: Path, workers: int) -> PipelineConfig:
    options = {
        "epochs": EPOCHS, "batch_size": 3, "learning_rate": 1e-3, "workers": workers, "threads": 1, "dtype": "float32",
        "checkpoint_every": 2, "pack_tokens": 300,
    }  # fmt: skip
    return load(None, {"run_dir": str(run_dir), "train": options})


def run(run_dir: Path, base: str, workers: int) -> dict[str, torch.Tensor]:
    chosen = config(run_dir, workers)
    return load_file(Path(tune(chosen, base), "model.safetensors"))


def tune(chosen: PipelineConfig, base: str, seed: int = 5) -> str:
    chosen = chosen.model_copy(update={"model": base})
    return train(
        chosen, Store(chosen.run_dir), name="llm", start=RosterEntry("base", "base", "tiny", directory=base),
        trajectories=TRAJECTORIES, labels=LABELS, options=chosen.train.for_tuning(), seed=seed,
    )  # fmt: skip


def log_rows(run_dir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run_dir / "metrics" / "train.jsonl").read_text().splitlines()]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def alike(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Equal but for the order in which gradients were added up."""
    return all((first[name] - second[name]).norm() <= 1e-6 * first[name].norm() + 1e-6 for name in first)


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


def test_output_is_a_model_directory_and_a_log(one: tuple[Path, dict[str, torch.Tensor]], llama: str) -> None:
    run_dir, weights = one
    path = run_dir / "checkpoints" / "llm"
    base, tuned = (AutoModelForCausalLM.from_pretrained(folder) for folder in (llama, path))
    assert type(tuned) is type(base)
    assert "lm_head.weight" not in weights  # tied, stored once
    assert tuned.config.dtype == base.config.dtype
    assert not torch.equal(tuned.lm_head.weight, base.lm_head.weight)
    assert AutoTokenizer.from_pretrained(path).chat_template == tokenizer("chatml").chat_template
    assert json.loads((path / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    rows = log_rows(run_dir)
    assert [row["step"] for row in rows] == list(range(1, TOTAL + 1))
    assert {row["epoch"] for row in rows} == set(range(EPOCHS))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert all(0 < row["mfu"] < 1 and row["memory_gib"] > 0 and row["labelled_tokens"] for row in rows)
    assert all(
        set(row["skipped"]) == {"truncate", "prefix_tree", "sparse_last_layer", "head_at_labels"} for row in rows
    )
    assert all(row["skipped"]["head_at_labels"] > 0 and row["skipped"]["sparse_last_layer"] > 0 for row in rows)
    assert sorted(child.name for child in path.iterdir() if child.name.startswith(".")) == []


def test_two_workers_learn_what_one_does(
    one: tuple[Path, dict[str, torch.Tensor]], two: tuple[Path, dict[str, torch.Tensor]]
) -> None:
    losses = [[row["loss"] for row in log_rows(run_dir)] for run_dir, _ in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert alike(one[1], two[1])


def actors(parent: psutil.Process, name: str) -> list[psutil.Process]:
    found = []
    for process in parent.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie is one too
            if name in "".join(process.cmdline()[:1]):
                found.append(process)
    return found


def training_workers(parent: psutil.Process) -> list[psutil.Process]:
    return actors(parent, "RayTrainWorker")


def controllers() -> list[psutil.Process]:
    return actors(psutil.Process(), "TrainController")


@contextmanager
def crowded_head() -> Iterator[None]:
    """One CPU is left on the cluster's own node: two workers go to the other one, when there is one."""
    crowd = placement_group([{"CPU": 3}])
    ray.get(crowd.ready())
    yield
    remove_placement_group(crowd)


@contextmanager
def node_beside(address: str) -> Iterator[psutil.Process]:
    """A node of 2 CPUs, killed with everything on it at the end; yields the process that started it."""
    ray_command = str(Path(sys.executable).with_name("ray"))
    node = subprocess.Popen(
        [ray_command, "start", f"--address={address}", "--num-cpus=2", "--object-store-memory=100000000", "--block"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield psutil.Process(node.pid)
    finally:
        for process in [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        node.wait()


def test_a_killed_node_worker_controller_and_driver_cost_nothing(
    two: tuple[Path, dict[str, torch.Tensor]],
    llama: str,
    tmp_path: Path,
    ray_cluster: str,
) -> None:
    run_dir = tmp_path / "run"
    state = run_dir.joinpath("checkpoints", *checkpoint.folder("llm")[1:])
    code = (
        "import sys, ray; from pathlib import Path; from tests.training import test_trainer; "
        "ray.init(address=sys.argv[1]); test_trainer.run(Path(sys.argv[2]), sys.argv[3], workers=2)"
    )

    def wait_for(condition: Callable[[], bool]) -> None:
        while not condition():
            assert driver.poll() is None
            time.sleep(0.01)

    def newest() -> int:
        return checkpoint.latest(Store(str(run_dir)), "llm")

    with crowded_head():
        driver = subprocess.Popen(
            [sys.executable, "-c", code, ray_cluster, str(run_dir), llama], env=dict(os.environ, PYTHONPATH=".")
        )
        wait_for((state / "run.json").exists)  # the driver belongs to the node that stays
        with node_beside(ray_cluster) as node:
            wait_for(lambda: newest() > 0)
            assert len(training_workers(node)) == 2
    done = newest()
    wait_for(lambda: newest() > done)  # it goes on, on what is left
    workers = training_workers(psutil.Process())
    assert len(workers) == 2
    workers[-1].kill()
    done = newest()
    wait_for(lambda: newest() > done + 2)
    for controller in controllers():  # that of an earlier try may still be ending
        controller.kill()
    done = newest()
    wait_for(lambda: newest() > done + 2)
    driver.kill()
    driver.wait()
    assert not (run_dir / "checkpoints" / "llm" / "config.json").exists()
    # What a run leaves that was killed while it wrote: a state that is not whole.
    (state / "step-000999").mkdir()
    (state / "step-000999" / "__0_0.distcp").write_bytes(b"torn")
    assert same(run(run_dir, llama, workers=2), two[1])
    assert [row["step"] for row in log_rows(run_dir)] == list(range(1, TOTAL + 1))


def test_what_is_lost_more_often_than_allowed_ends_with_a_line_and_the_same_call_goes_on(
    one: tuple[Path, dict[str, torch.Tensor]], llama: str, tmp_path: Path
) -> None:
    chosen = config(tmp_path, workers=1)
    strict = chosen.model_copy(update={"train": chosen.train.model_copy(update=FRAGILE)})

    ended = threading.Event()

    def kill() -> None:
        while not checkpoint.latest(Store(chosen.run_dir), "llm") and not ended.wait(0.01):
            pass
        for controller in controllers():
            controller.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TrainingError) as failure:
        tune(strict, llama)
    ended.set()
    killer.join()
    assert str(failure.value).startswith("checkpoint llm: ")
    assert str(failure.value).endswith("; run the same command again: it goes on where it was")
    assert checkpoint.latest(Store(chosen.run_dir), "llm") > 0, failure.value
    assert alike(load_file(Path(tune(chosen, llama), "model.safetensors")), one[1])  # on another number of workers
    assert [row["step"] for row in log_rows(tmp_path)] == list(range(1, TOTAL + 1))


def test_a_finished_run_is_not_repeated_and_another_seed_replaces_it(
    one: tuple[Path, dict[str, torch.Tensor]], llama: str, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(one[0], run_dir)
    before = (run_dir / "checkpoints" / "llm" / "model.safetensors").stat().st_mtime_ns
    assert same(run(run_dir, llama, workers=2), one[1])  # the number of workers is not content
    assert (run_dir / "checkpoints" / "llm" / "model.safetensors").stat().st_mtime_ns == before
    tune(config(run_dir, workers=1), llama, seed=6)
    assert not alike(load_file(run_dir / "checkpoints" / "llm" / "model.safetensors"), one[1])
    rows = log_rows(run_dir)
    assert [row["step"] for row in rows] == list(range(1, TOTAL + 1))
    assert rows[0]["loss"] != log_rows(one[0])[0]["loss"]  # other trajectories came first


def test_a_training_for_the_labels_of_all_steps_ends_when_it_has_seen_them(llama: str, tmp_path: Path) -> None:
    chosen = config(tmp_path, workers=1)
    options = chosen.train.model_copy(update={"labelled_tokens": "all", "epochs": 2})
    start = RosterEntry("base", "base", "tiny", directory=llama)
    every = {one.trajectory_id: dict.fromkeys(range(one.n_steps), 1.0) for one in TRAJECTORIES}
    wanted = 2 * prepare(TRAJECTORIES, every, tokenizer("chatml"), options)[1].labelled_tokens
    resolved = with_budget(chosen, options, start, TRAJECTORIES)
    assert resolved.labelled_tokens == wanted
    assert resolved.model_copy(update={"labelled_tokens": "all"}) == options
    with pytest.raises(TrainingError, match="give a number"):
        tune(chosen.model_copy(update={"train": options}), llama)
    tune(chosen.model_copy(update={"train": resolved}), llama)
    seen = [row["labelled_tokens"] for row in log_rows(tmp_path)]
    assert sum(seen[:-1]) < wanted <= sum(seen)
    assert log_rows(tmp_path)[-1]["epoch"] > 1  # one step of several is learned, so it takes more epochs than two


def test_what_changes_the_weights_changes_the_key() -> None:
    options = config(Path("run"), workers=1).train.for_tuning()
    start = RosterEntry("base", "base", "tiny", directory="/models/tiny")

    def key(start: RosterEntry = start, labels: Labels = LABELS, options: TrainConfig = options, seed: int = 5) -> str:
        return _key(start, prepare(TRAJECTORIES, labels, tokenizer("chatml"), options)[0], options, seed)

    first = TRAJECTORIES[0]
    reweighted = LABELS | {first.trajectory_id: {first.n_steps - 1: 0.25}}
    keys = [
        key(), key(seed=6), key(start=dataclasses.replace(start, key="other")), key(labels=reweighted),
        key(options=options.model_copy(update={"epochs": 9})),
        key(options=options.model_copy(update={"labelled_tokens": 900})),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    moved = dataclasses.replace(start, directory="/elsewhere/tiny")
    assert key(start=moved, options=options.model_copy(update={"workers": 2, "pack_tokens": 99})) == key()


def test_a_named_base_model_is_resolved_by_each_worker(llama: str) -> None:
    named, given = load(None), load(None, {"model": llama})
    base = RosterEntry("base", "base", "key", directory="/here")
    assert _worker_base(named, base, "/here") == ON_BOARD
    assert _worker_base(named, dataclasses.replace(base, name="warmup", kind="warmup"), "/here") == "/here"
    assert _worker_base(given, base, llama) == llama


def test_a_model_without_weights_is_no_start(tmp_path: Path) -> None:
    chosen = config(tmp_path, workers=1)
    with pytest.raises(TrainingError, match="checkpoint llm: 'expert' has no weights to start from"):
        train(
            chosen, Store(chosen.run_dir), name="llm", start=RosterEntry("expert", "policy", "expert"),
            trajectories=TRAJECTORIES, labels=LABELS, options=chosen.train, seed=0,
        )  # fmt: skip


def test_a_cluster_that_is_too_small_is_refused(llama: str, tmp_path: Path) -> None:
    chosen = load(None, {"run_dir": str(tmp_path), "train.workers": 500})
    with pytest.raises(ClusterError, match=r"train.workers=500"):
        tune(chosen, llama)


def test_warmup_options() -> None:
    chosen = load(None, {"train.warmup": {"epochs": 7, "batch_size": 2}, "train.max_length": 99})
    options = chosen.train.for_warmup()
    assert (options.epochs, options.batch_size, options.learning_rate, options.max_length) == (7, 2, 1e-4, 99)
    with pytest.raises(ConfigError, match=r"train\.warmup"):
        load(None).train.for_warmup()
