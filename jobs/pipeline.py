"""The whole pipeline: collect -> (warm-up) -> select -> train -> evaluate -> report; what is current is skipped.

With --plan: print every unit of work and whether it is current, and do nothing.
"""

import sys
from argparse import Namespace

del sys.path[0]  # this folder: its select.py is not the standard library's

from rich.console import Console

from atlas_ray.cli.job import run_job_with
from atlas_ray.cli.options import parser_for
from atlas_ray.pipeline import stages
from atlas_ray.pipeline.run import Run
from atlas_ray.report import result_table
from atlas_ray.report.tables import to_terminal
from atlas_ray.roster import tuned_selections


def pipeline(run: Run, options: Namespace) -> None:
    if options.plan:
        for stage, name, key in stages.plan(run):
            print(f"{stage:<14}{name:<32}{'current' if run.store.is_current(stage, name, key) else 'to do'}")
        return
    stages.collect(run)
    stages.warm_up(run)
    stages.select(run, stages.wanted_selections(run.config))
    stages.train(run, tuned_selections(run.config))
    results = stages.evaluate_models(run)
    report = stages.report(run)
    Console(width=110).print(to_terminal(result_table(run.store, results, stages.result_cards(run))))
    print(f"run directory  {run.store.url}\nreport         {report[1]}")


parser = parser_for(__doc__ or "")
parser.add_argument("--plan", action="store_true", help="print what is current and what is to do; do nothing")
run_job_with(parser, pipeline, needs_ray=lambda options: not options.plan)
