"""Collect expert trajectories of training tasks, or import AgentTraj-L files (collect.source)."""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray.cli.job import run_job
from atlas_ray.pipeline import stages
from atlas_ray.pipeline.run import Run


def collect(run: Run) -> None:
    trajectories = stages.collect(run)
    print(f"{len(trajectories)} trajectories in {run.store.path('trajectories')}")


run_job(__doc__ or "", collect)
