"""MLflow: one clear error where the package is missing; else one run per training, continued after a kill."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from atlas_ray.config_files import load
from atlas_ray.errors import TrainingError
from atlas_ray.training.track import tracker

ROW = {"checkpoint": "llm", "step": 3, "loss": 0.5, "mfu": 0.2, "skipped": {"truncate": 0.25}}


def test_nothing_is_tracked_by_default() -> None:
    assert tracker(load(None), "llm", "key", {}) is None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrainingError, match=r"track\.mlflow_uri=file:/tmp/x: .*pip install 'atlas-ray\[track\]'"):
        tracker(load(None, {"track.mlflow_uri": "file:/tmp/x"}), "llm", "key", {})


def test_rows_arrive_and_a_second_start_continues_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra `track` is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    config = load(None, {"track.mlflow_uri": (tmp_path / "mlruns").as_uri()})
    for step in (3, 4):
        log = tracker(config, "llm", "key", {"epochs": 3})
        assert log is not None
        log({**ROW, "step": step})
    client = mlflow.MlflowClient(tracking_uri=config.track.mlflow_uri)
    [run] = client.search_runs([client.get_experiment_by_name("atlas-ray").experiment_id])
    assert run.data.params == {"epochs": "3"}
    assert run.data.metrics == {"loss": 0.5, "mfu": 0.2, "skipped_truncate": 0.25}
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [3, 4]
