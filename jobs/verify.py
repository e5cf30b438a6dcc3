"""Check the critical steps: verify.model from scratch against from right after each critical step (paper 4.6)."""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray import stages
from atlas_ray.job import run_job
from atlas_ray.run import Run


def verify(run: Run) -> None:
    from atlas_ray.evaluation.verify import markdown

    print(markdown(stages.verify(run)), end="")


run_job(__doc__ or "", verify)
