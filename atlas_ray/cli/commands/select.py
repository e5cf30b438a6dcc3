"""Find the critical steps of the collected trajectories.

Every selection that is named, asked for or trained on is made. `compare` sets all selections of the run beside each
other; --dry-run tells what a selector model would cost.
"""

from __future__ import annotations

from argparse import ArgumentParser

from atlas_ray.cli.command import Command, Request


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=["select", "compare"], default="select", help="[select]")
    parser.add_argument("--dry-run", action="store_true", help="print what method llm would cost; ask nothing")


def work(request: Request) -> None:
    from atlas_ray.pipeline import selections, stages

    options = request.options
    run = request.run(ray=options.action == "select" and not options.dry_run)
    if options.dry_run:
        print(selections.estimate_selectors(run))
    elif options.action == "compare":
        text, plot = selections.compare_selections(run)
        print(f"{text}\nplot {plot}")
    else:
        stages.warm_up(run)
        stages.select(run, stages.wanted_selections(run.config, alone=True))
        print(f"selections in {run.store.path('selections')}")


COMMAND = Command(
    "select", __doc__,
    ("atlas-ray select --config quickstart --select.methods perplexity random", "atlas-ray select compare"),
    work, ("select", "engine", "rollout"), arguments,
)  # fmt: skip
