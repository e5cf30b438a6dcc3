"""Write report.md and report.html from what the run directory holds."""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray.cli.job import run_job
from atlas_ray.pipeline import stages
from atlas_ray.pipeline.run import Run


def report(run: Run) -> None:
    print("\n".join(stages.report(run)))


run_job(__doc__ or "", report)
