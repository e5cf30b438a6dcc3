"""Evaluate each of evaluate.models in evaluate.environments and print the table."""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from rich.console import Console

from atlas_ray import stages
from atlas_ray.evaluation.table import terminal
from atlas_ray.job import run_job


def evaluate(run: stages.Run) -> None:
    results = stages.evaluate_models(run)
    Console(width=110).print(terminal(results, stages.result_cards(run)))


run_job(__doc__ or "", evaluate)
