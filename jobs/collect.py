"""Collect expert trajectories of training tasks, or import files of trajectories (collect.source; docs/data.md).

With --dry-run: print what the files hold and what an import would keep; store nothing.
"""

import sys
from argparse import Namespace

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray.cli.job import guarded, run_job_with
from atlas_ray.cli.options import parse_args_with, parser_for
from atlas_ray.errors import ConfigError
from atlas_ray.pipeline import stages
from atlas_ray.pipeline.run import Run


def collect(run: Run, _: Namespace) -> None:
    print(f"{stages.collect(run)} trajectories in {run.store.path('trajectories')}")


def show() -> None:
    from atlas_ray.pipeline.imports import survey

    config, _ = parse_args_with(parser)
    if config.collect.source == "expert":
        raise ConfigError("--dry-run shows what files hold; name them with collect.source")
    print("\n".join(survey(config.collect).lines()))


parser = parser_for(__doc__ or "")
parser.add_argument("--dry-run", action="store_true", help="print what the files of collect.source hold; store nothing")
if "--dry-run" in sys.argv:
    guarded(show)
else:
    run_job_with(parser, collect)
