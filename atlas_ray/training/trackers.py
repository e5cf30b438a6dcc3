"""The trackers that metrics can go to: MLflow, TensorBoard, trackio and wandb.

Each is opened for a `track.TrackedRun` and continues the run that has its key. What is sent is in `track.py`; where a
service is and who may write there come from its own environment variables. Of the process nothing is sent: neither its
command line nor its output, its environment or its code.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping

from atlas_ray.errors import TrainingError
from atlas_ray.training.track import TrackedRun, Tracker

_KEY = "atlas.key"


class Mlflow:
    """At `MLFLOW_TRACKING_URI`; the run is found by a tag."""

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient

        self._client = client = MlflowClient()
        known = client.get_experiment_by_name(run.project)
        experiment = known.experiment_id if known else client.create_experiment(run.project)
        found = client.search_runs([experiment], f"tags.`{_KEY}` = '{run.key}'", max_results=1)
        if found:
            self._id = found[0].info.run_id
            client.update_run(self._id, status="RUNNING")
        else:
            self._id = client.create_run(experiment, run_name=run.name, tags={_KEY: run.key}).info.run_id
            for name, value in run.parameters.items():
                client.log_param(self._id, name, value)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


class TensorBoard:
    """Event files in `metrics/tensorboard/` of the run directory, a folder for each training."""

    def __init__(self, run: TrackedRun) -> None:
        from tensorboardX import SummaryWriter

        if run.folder is None:
            raise TrainingError("it writes files beside the run, whose directory is on no disk")
        folder = posixpath.join(run.folder, "tensorboard", f"{run.name}-{run.key[:8]}")
        self._writer = SummaryWriter(
            folder, purge_step=run.start + 1 if run.start else None, filename_suffix=f".{run.start}"
        )
        if not run.start:
            self._writer.add_text("parameters", "\n".join(f"    {n}: {v}" for n, v in sorted(run.parameters.items())))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Trackio:
    """Where trackio keeps its data (`TRACKIO_DIR`); the run is found by its name."""

    def __init__(self, run: TrackedRun) -> None:
        import trackio

        self._run = trackio.init(
            project=run.project, name=f"{run.name}-{run.key[:8]}", config=dict(run.parameters), resume="allow",
            embed=False, auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class Wandb:
    """Where wandb's variables say (`WANDB_API_KEY`, `WANDB_MODE=offline`); the run's id is its key."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, disable_job_creation=True,
            save_code=False, x_disable_meta=True, x_disable_machine_info=True, x_disable_stats=True,
            x_save_requirements=False,
        )  # fmt: skip
        self._run = wandb.init(
            project=run.project, name=run.name, id=run.key[:16], resume="allow", config=dict(run.parameters),
            dir=run.folder, settings=settings,
        )  # fmt: skip

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: dict[str, Callable[[TrackedRun], Tracker]] = {
    "mlflow": Mlflow, "tensorboard": TensorBoard, "trackio": Trackio, "wandb": Wandb,
}  # fmt: skip
