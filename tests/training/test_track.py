"""Trackers: the same names everywhere, one run per training that goes on after a kill, and one line where one is not
to be had. Those whose packages are extras are tried where these are installed."""

from __future__ import annotations

import json
import sqlite3
import struct
import sys
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest
from tensorboardX.proto.event_pb2 import Event

from atlas_ray.config import TrackConfig
from atlas_ray.config_files import load
from atlas_ray.errors import TrainingError
from atlas_ray.store import Store
from atlas_ray.training import trackers
from atlas_ray.training.track import tracking

ROW = {"checkpoint": "llm", "step": 3, "loss": 0.5, "mfu": 0.125, "skipped": {"truncate": 0.25}}
VALUES = {"loss": 0.5, "mfu": 0.125, "skipped_truncate": 0.25}


def train(folder: Path, tracker: str, *steps: int, start: int = 0, key: str = "0123456789abcdef0123") -> None:
    """What the trainer does with a tracker, without training."""
    config = load(None, {"track.to": [tracker], "track.project": "tests"})
    with tracking(config, Store(str(folder / "mine")), "llm", key, {"epochs": 3}, start) as log:
        assert log is not None
        for step in steps:
            log({**ROW, "step": step})


def test_nothing_is_tracked_by_default(tmp_path: Path) -> None:
    with tracking(load(None), Store(str(tmp_path)), "llm", "key", {}, 0) as log:
        assert log is None


def test_every_tracker_of_the_configuration_is_there() -> None:
    (names,) = {get_args(each) for each in get_args(TrackConfig.model_fields["to"].annotation) if each is not Ellipsis}
    assert sorted(trackers.TRACKERS) == sorted(names)


@pytest.mark.parametrize("name", ["mlflow", "trackio", "wandb"])
def test_a_missing_package_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TrainingError, match=rf"track\.to: {name}: .*pip install 'atlas-ray\[{name}\]'"):
        train(tmp_path, name, 1)


def test_one_that_fails_is_given_up_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full:
        def __init__(self, run: object) -> None:
            self.rows = 0

        def log(self, values: object, step: int) -> None:
            raise OSError("no room\non the disk")

        def close(self) -> None:
            raise AssertionError("it was given up")

    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Full)
    config = load(None, {"track.to": ["mlflow", "tensorboard"]})
    with tracking(config, Store(str(tmp_path)), "llm", "key", {}, 0) as log:
        assert log is not None
        log(ROW)
        log(ROW)
    assert capsys.readouterr().out.count("train llm: mlflow fails (no room on the disk); no more rows are sent") == 1
    assert [(name, step) for name, step, _ in events(tmp_path)] == [(name, 3) for name in VALUES] * 2


def events(folder: Path) -> list[tuple[str, int, float]]:
    """Name, step and value of the scalars in all event files: records of length, checksum, bytes, checksum."""
    found = []
    for file in sorted(folder.rglob("*tfevents*")):
        data, place = file.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack("<Q", data[place : place + 8])
            event = Event.FromString(data[place + 12 : place + 12 + length])
            place += 16 + length
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value if v.HasField("simple_value")]
    return found


def test_tensorboard_shows_a_training_that_went_on_as_one(tmp_path: Path) -> None:
    train(tmp_path, "tensorboard", 1, 2)
    train(tmp_path, "tensorboard", 3, start=2)
    assert events(tmp_path) == [(name, step, value) for step in (1, 2, 3) for name, value in VALUES.items()]
    (folder,) = (tmp_path / "mine/metrics/tensorboard").iterdir()
    assert folder.name == "mine-llm-01234567"
    with pytest.raises(TrainingError, match="track.to: tensorboard: it writes files beside the run"):  # noqa: SIM117
        with tracking(load(None, {"track.to": ["tensorboard"]}), Store("memory://run"), "llm", "key", {}, 0):
            pass


def test_mlflow_rows_arrive_and_a_second_start_continues_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    train(tmp_path, "mlflow", 3)
    train(tmp_path, "mlflow", 4, start=3)
    client = mlflow.MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert run.info.run_name == "mine-llm"
    assert run.data.params == {"epochs": "3"}
    assert run.data.metrics == VALUES
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [3, 4]


def test_wandb_offline_keeps_rows_under_one_id_and_nothing_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the extra `wandb` is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 2 + "canary00")
    train(tmp_path, "wandb", 3)
    train(tmp_path, "wandb", 4, start=3)
    runs = [path for path in (tmp_path / "mine").rglob("*.wandb") if path.is_file()]
    assert {path.name for path in runs} == {"run-0123456789abcdef.wandb"}
    written = b"".join(path.read_bytes() for path in runs)  # what is sent; logs beside them stay here
    assert all(name.encode() in written for name in VALUES)
    assert b"canary00" not in written
    assert b"pytest" not in written  # neither the command line nor a path


def test_trackio_keeps_rows_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)  # it reads the variable when it is imported
    pytest.importorskip("trackio", reason="the extra `trackio` is not installed")
    train(tmp_path, "trackio", 3)
    train(tmp_path, "trackio", 4, start=3)
    with closing(sqlite3.connect(tmp_path / "trackio/tests.db")) as data:
        rows = data.execute("SELECT run_id, run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    assert [(name, step, json.loads(values)) for _, name, step, values in rows] == [
        ("mine-llm-01234567", step, VALUES) for step in (3, 4)
    ]
    assert len({row[0] for row in rows}) == 1
