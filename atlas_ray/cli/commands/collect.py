"""Collect expert trajectories of training tasks, or import files of trajectories.

With --dry-run: print what the files of collect.source hold and what an import would keep; store nothing
(docs/data.md).
"""

from __future__ import annotations

from argparse import ArgumentParser

from atlas_ray.cli.command import Command, Request
from atlas_ray.errors import ConfigError


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print what collect.source holds; store nothing")


def work(request: Request) -> None:
    if request.options.dry_run:
        from atlas_ray.pipeline.imports import survey

        if request.config.collect.source == "expert":
            raise ConfigError("--dry-run shows what files hold; name them with collect.source")
        print("\n".join(survey(request.config.collect).lines()))
        return
    from atlas_ray.pipeline import stages

    run = request.run()
    print(f"{stages.collect(run)} trajectories in {run.store.path('trajectories')}")


COMMAND = Command(
    "collect", __doc__, ("atlas-ray collect --config quickstart --collect.style slips",), work,
    ("collect", "rollout"), arguments,
)  # fmt: skip
