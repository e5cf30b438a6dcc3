"""Fine-tune on the critical steps of each of train.selections, after a warm-up where the config asks for one."""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray import stages
from atlas_ray.job import run_job


def train(run: stages.Run) -> None:
    stages.warm_up(run)
    stages.train(run, run.config.train.selections)
    print(f"checkpoints in {run.store.path('checkpoints')}")


run_job(__doc__ or "", train)
