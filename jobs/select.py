"""Find the critical steps of the collected trajectories by each of select.methods."""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray import stages
from atlas_ray.job import run_job


def select(run: stages.Run) -> None:
    stages.warm_up(run)
    stages.select(run, run.config.select.methods)
    print(f"selections in {run.store.path('selections')}")


run_job(__doc__ or "", select)
