"""Check the critical steps: verify.model from scratch against from right after each critical step (paper 4.6)."""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray.cli.job import run_job
from atlas_ray.pipeline import stages
from atlas_ray.pipeline.run import Run
from atlas_ray.report import verification_table
from atlas_ray.report.tables import to_markdown


def verify(run: Run) -> None:
    print(to_markdown(verification_table(stages.verify(run))), end="")


run_job(__doc__ or "", verify)
