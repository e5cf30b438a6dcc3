"""Import trajectories of yours: files of AgentTraj-L, AgentGym, chat messages and others.

The same as `collect` with collect.source. A bad row is named and counted, the others are read (docs/data.md).
"""

from __future__ import annotations

from argparse import ArgumentParser

from atlas_ray.cli.command import Command, Request
from atlas_ray.cli.commands import collect


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", help="a file, a folder or a glob in quotes")
    collect.arguments(parser)


def work(request: Request) -> None:
    collect.work(Request(request.options, request.overrides | {"collect.source": request.options.source}))


COMMAND = Command(
    "import", __doc__,
    ("atlas-ray import 'data/AgentTraj-L/*.json' --dry-run",
     "atlas-ray import my.jsonl --run_dir runs/mine --collect.environments '{os: my_shell}'"),
    work, ("collect",), arguments,
)  # fmt: skip
