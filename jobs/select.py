"""Find the critical steps of the collected trajectories by each of select.methods; `compare` sets all selections of the
run beside each other, `--dry-run` tells what the selector would cost."""

import sys
from argparse import Namespace

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray import stages
from atlas_ray.job import run_job_with
from atlas_ray.options import parser_for
from atlas_ray.run import Run


def select(run: Run, options: Namespace) -> None:
    if options.dry_run:
        print(stages.estimate_selector(run))
    elif options.action == "compare":
        text, plot = stages.compare_selections(run)
        print(f"{text}\nplot {plot}")
    else:
        stages.warm_up(run)
        stages.select(run, run.config.select.methods)
        print(f"selections in {run.store.path('selections')}")


parser = parser_for(__doc__ or "")
parser.add_argument("action", nargs="?", choices=["select", "compare"], default="select", help="[select]")
parser.add_argument("--dry-run", action="store_true", help="print calls, tokens and cost of method llm; ask nothing")
run_job_with(parser, select, needs_ray=lambda options: options.action == "select" and not options.dry_run)
