"""What every script in `jobs/` shares: options, Ray, and one line for an error that the user can mend (exit code 2)."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import NoReturn

import ray

from atlas_ray.cli.options import parse_args_with, parser_for
from atlas_ray.cluster import check_address, connect
from atlas_ray.errors import AtlasError
from atlas_ray.pipeline.run import Run, open_run


def run_job(description: str, body: Callable[[Run], None]) -> None:
    """Parse the command line, connect to Ray, claim the run directory and call `body`; errors as `guarded`."""
    run_job_with(parser_for(description), lambda run, _: body(run))


def run_job_with(
    parser: ArgumentParser,
    body: Callable[[Run, Namespace], None],
    needs_ray: Callable[[Namespace], bool] = lambda _: True,
) -> None:
    """As `run_job`, for a parser (from `options.parser_for`) with options of its own, which `body` gets too."""

    def work() -> None:
        config, options = parse_args_with(parser)
        if needs_ray(options):
            check_address(os.environ.get("RAY_ADDRESS"))  # before anything is written
        run = open_run(config)
        if needs_ray(options):
            connect()
        body(run, options)

    guarded(work)


def guarded(work: Callable[[], None]) -> None:
    """Call `work`; exits with code 2 and one line on any `AtlasError`, wherever in the cluster it was raised."""
    try:
        work()
    except AtlasError as error:
        _stop(error)
    except ray.exceptions.RayError as error:
        cause = _atlas_cause(error)
        if cause is None:
            raise
        _stop(cause)


def _atlas_cause(error: BaseException | None) -> AtlasError | None:
    """The error of ours behind an error of Ray's."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, AtlasError):
            return error
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None


def _stop(error: AtlasError) -> NoReturn:
    sys.stdout.flush()
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    sys.exit(2)
