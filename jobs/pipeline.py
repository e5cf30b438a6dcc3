"""The whole road: collect -> (warm-up) -> select -> train -> evaluate -> report; what is current is skipped."""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from rich.console import Console

from atlas_ray import stages
from atlas_ray.evaluation.table import terminal
from atlas_ray.job import run_job
from atlas_ray.run import Run


def pipeline(run: Run) -> None:
    selections = stages.wanted_selections(run.config)
    stages.collect(run)
    stages.warm_up(run)
    stages.select(run, [*run.config.select.methods, *selections])
    stages.train(run, selections)
    results = stages.evaluate_models(run)
    report = stages.report(run)
    Console(width=110).print(terminal(results, stages.result_cards(run)))
    print(f"run directory  {run.store.url}\nreport         {report[1]}")


run_job(__doc__ or "", pipeline)
