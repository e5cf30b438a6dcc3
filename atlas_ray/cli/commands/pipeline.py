"""The whole pipeline: collect -> (warm-up) -> select -> train -> evaluate -> report.

What is current is skipped. With --plan: print every unit of work and whether it is current, and do nothing.
"""

from __future__ import annotations

from argparse import ArgumentParser

from atlas_ray.cli.command import Command, Request


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--plan", action="store_true", help="print what is current and what is to do; do nothing")


def work(request: Request) -> None:
    from rich.console import Console

    from atlas_ray.pipeline import stages
    from atlas_ray.report import result_table
    from atlas_ray.report.tables import to_terminal
    from atlas_ray.roster import tuned_selections

    run = request.run(ray=not request.options.plan)
    if request.options.plan:
        for stage, name, key in stages.plan(run):
            if stage == "verification":  # that is what `atlas-ray verify` does
                continue
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


COMMAND = Command(
    "pipeline", __doc__,
    ("atlas-ray pipeline --config quickstart", "atlas-ray pipeline --config paper --run_dir runs/paper --plan"),
    work, ("collect", "select", "train", "evaluate", "engine", "rollout", "track"), arguments,
)  # fmt: skip
