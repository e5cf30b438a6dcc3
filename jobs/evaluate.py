"""Evaluate each of evaluate.models in evaluate.environments; print the table, and how the models compare."""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from rich.console import Console

from atlas_ray import stages
from atlas_ray.evaluation.table import markdown, terminal
from atlas_ray.job import run_job
from atlas_ray.run import Run


def evaluate(run: Run) -> None:
    results, cards = stages.evaluate_models(run), stages.result_cards(run)
    compared = stages.comparisons(run)
    text = markdown(results, cards) + "".join(f"\n- {line}" for line in compared) + "\n"
    table = run.store.write_text(text, "evaluation.md")
    Console(width=110).print(terminal(results, cards))
    print("\n".join([*compared, f"table          {table}"]))


run_job(__doc__ or "", evaluate)
