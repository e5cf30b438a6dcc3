"""Find the critical steps of the collected trajectories: every selection that is named, asked for or trained on.

`compare` sets all selections of the run beside each other, `--dry-run` tells what a selector model would cost.
"""

import sys
from argparse import Namespace

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray.cli.job import run_job_with
from atlas_ray.cli.options import parser_for
from atlas_ray.pipeline import selections, stages
from atlas_ray.pipeline.run import Run


def select(run: Run, options: Namespace) -> None:
    if options.dry_run:
        print(selections.estimate_selectors(run))
    elif options.action == "compare":
        text, plot = selections.compare_selections(run)
        print(f"{text}\nplot {plot}")
    else:
        stages.warm_up(run)
        stages.select(run, stages.wanted_selections(run.config, alone=True))
        print(f"selections in {run.store.path('selections')}")


parser = parser_for(__doc__ or "")
parser.add_argument("action", nargs="?", choices=["select", "compare"], default="select", help="[select]")
parser.add_argument("--dry-run", action="store_true", help="print calls, tokens and cost of method llm; ask nothing")
run_job_with(parser, select, needs_ray=lambda options: options.action == "select" and not options.dry_run)
