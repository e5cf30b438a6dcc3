"""Preferences on Ray Train: the start model's margins are computed once, and a killed run ends like any other."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from atlas_ray.config import PipelineConfig
from atlas_ray.config_files import load
from atlas_ray.roster import RosterEntry
from atlas_ray.store import Store
from atlas_ray.training import checkpoint
from atlas_ray.training.trainer import train
from tests.training.test_dpo import PREFERENCES
from tests.training.test_trainer import alike, log_rows, training_workers

pytestmark = pytest.mark.usefixtures("ray_cluster")

EPOCHS, TOTAL = 10, 20


def config(run_dir: Path, base: str, workers: int) -> PipelineConfig:
    options = {
        "objective": "dpo", "epochs": EPOCHS, "batch_size": 3, "learning_rate": 1e-3, "workers": workers, "threads": 1,
        "dtype": "float32", "checkpoint_every": 2, "pack_tokens": 200,
    }  # fmt: skip
    return load(None, {"run_dir": str(run_dir), "model": base, "train": options})


def run(run_dir: Path, base: str, workers: int) -> dict[str, torch.Tensor]:
    chosen = config(run_dir, base, workers)
    path = train(
        chosen, Store(str(run_dir)), name="value.dpo", trajectories=(), labels={}, options=chosen.train.for_tuning(),
        start=RosterEntry("base", "base", "tiny", directory=base), seed=5, preferences=PREFERENCES,
    )  # fmt: skip
    return load_file(Path(path, "model.safetensors"))


def test_a_killed_run_goes_on_with_the_margins_that_it_began_with(llama: str, tmp_path: Path) -> None:
    undisturbed = run(tmp_path / "one", llama, workers=1)
    rows = log_rows(tmp_path / "one")
    assert [row["step"] for row in rows] == list(range(1, TOTAL + 1))
    assert rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # log 2: nothing has been learned
    assert rows[-1]["loss"] < 0.2
    assert (rows[0]["preferred"], rows[-1]["preferred"]) == (pytest.approx(0.5, abs=0.5), 1.0)
    assert all(row["skipped"]["prefix_tree"] > 0.2 for row in rows)

    run_dir = tmp_path / "two"
    found: list[dict[str, torch.Tensor]] = []
    thread = threading.Thread(target=lambda: found.append(run(run_dir, llama, workers=2)))
    thread.start()
    store = Store(str(run_dir))
    while checkpoint.latest(store, "value.dpo") == 0:
        assert thread.is_alive()
        thread.join(0.01)
    for worker in training_workers(psutil.Process()):
        worker.kill()
    margins = store.read_json(*checkpoint.folder("value.dpo"), "reference.json")
    thread.join()
    assert alike(found[0], undisturbed)
    assert [row["step"] for row in log_rows(run_dir)] == list(range(1, TOTAL + 1))
    assert len(margins) == len(PREFERENCES)
    assert store.read_json(*checkpoint.folder("value.dpo"), "reference.json") == margins
    first = json.loads((tmp_path / "one/checkpoints/value.dpo/training_state/reference.json").read_text())
    assert margins == pytest.approx(first, rel=1e-5)
