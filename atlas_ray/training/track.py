"""Sends training's metrics to MLflow, when `track.mlflow_uri` is set; by the driver, which holds the credentials.

A training that resumes after a kill continues its MLflow run, which is found by the key of the training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atlas_ray.config import PipelineConfig
from atlas_ray.errors import TrainingError
from atlas_ray.progress import say

_EXPERIMENT = "atlas-ray"
_KEY = "atlas.key"


def tracker(
    config: PipelineConfig, name: str, key: str, parameters: dict[str, Any]
) -> Callable[[dict[str, Any]], None] | None:
    """A function that sends a row of the training log to MLflow; None when no tracking URI is configured.

    Args:
        config: `track` and `run_dir` count here.
        name: of the checkpoint.
        key: hash of what determines its weights.
        parameters: logged once.

    Raises:
        TrainingError: the package mlflow is missing, or the server does not answer.
    """
    uri = config.track.mlflow_uri
    if uri is None:
        return None
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise TrainingError(
            f"track.mlflow_uri={uri}: the package mlflow is missing ({error}); pip install 'atlas-ray[track]', or "
            "leave the option out"
        ) from error
    client = MlflowClient(tracking_uri=uri)
    try:
        known = client.get_experiment_by_name(_EXPERIMENT)
        experiment = known.experiment_id if known else client.create_experiment(_EXPERIMENT)
        found = client.search_runs([experiment], f"tags.`{_KEY}` = '{key}'", max_results=1)
        if found:
            run_id = found[0].info.run_id
        else:
            tags = {_KEY: key, "run_dir": config.run_dir}
            run_id = client.create_run(experiment, run_name=name, tags=tags).info.run_id
            for parameter, value in parameters.items():
                client.log_param(run_id, parameter, value)
    except MlflowException as error:
        raise TrainingError(
            f"track.mlflow_uri={uri}: {' '.join(str(error).split())}; correct it or leave it out"
        ) from error
    lost = False

    def log(row: dict[str, Any]) -> None:
        nonlocal lost
        values = {
            metric: value for metric, value in row.items() if isinstance(value, (int, float)) and metric != "step"
        }
        values |= {f"skipped_{switch}": share for switch, share in row["skipped"].items()}
        if not lost:
            try:
                for metric, value in values.items():
                    client.log_metric(run_id, metric, value, step=row["step"])
            except MlflowException as error:  # training goes on: metrics/train.jsonl has the rows
                lost = True
                say(f"  train {name}: MLflow refuses ({' '.join(str(error).split())}); no more rows are sent")

    return log
