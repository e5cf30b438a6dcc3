"""Evaluate each of evaluate.models in evaluate.environments.

Prints the table of results with intervals, and how the models compare.
"""

from __future__ import annotations

from atlas_ray.cli.command import Command, Request


def work(request: Request) -> None:
    from rich.console import Console

    from atlas_ray.pipeline import stages
    from atlas_ray.report import model_comparisons, result_table
    from atlas_ray.report.tables import to_markdown, to_terminal

    run = request.run()
    results, cards = stages.evaluate_models(run), stages.result_cards(run)
    table, compared = result_table(run.store, results, cards), model_comparisons(run.store, results, cards)
    text = to_markdown(table) + "".join(f"\n- {line}" for line in compared) + "\n"
    path = run.store.write_text(text, "evaluation.md")
    Console(width=110).print(to_terminal(table))
    print("\n".join([*compared, f"table          {path}"]))


COMMAND = Command(
    "evaluate", __doc__, ("atlas-ray evaluate --config recipes/evaluate-endpoint --evaluate.tasks 20",), work,
    ("evaluate", "engine", "rollout"),
)  # fmt: skip
