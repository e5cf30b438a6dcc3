"""Evaluate each of evaluate.models in evaluate.environments; print the table, and how the models compare."""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from rich.console import Console

from atlas_ray.cli.job import run_job
from atlas_ray.pipeline import stages
from atlas_ray.pipeline.run import Run
from atlas_ray.report import model_comparisons, result_table
from atlas_ray.report.tables import to_markdown, to_terminal


def evaluate(run: Run) -> None:
    results, cards = stages.evaluate_models(run), stages.result_cards(run)
    table, compared = result_table(run.store, results, cards), model_comparisons(run.store, results, cards)
    text = to_markdown(table) + "".join(f"\n- {line}" for line in compared) + "\n"
    path = run.store.write_text(text, "evaluation.md")
    Console(width=110).print(to_terminal(table))
    print("\n".join([*compared, f"table          {path}"]))


run_job(__doc__ or "", evaluate)
