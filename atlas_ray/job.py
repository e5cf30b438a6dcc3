"""What every script in `jobs/` shares: options, Ray, and one line for an error that the user can mend (exit code 2)."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

import ray

from atlas_ray.config import parse_args
from atlas_ray.errors import AtlasError, ClusterError
from atlas_ray.stages import Run, open_run

_TIMEOUT_S = 5.0


def run_job(description: str, body: Callable[[Run], None]) -> None:
    """Parse the command line, connect to Ray, claim the run directory and call `body`.

    Exits with code 2 and one line on any `AtlasError`, wherever in the cluster it was raised.
    """
    try:
        config = parse_args(description)
        connect()
        body(open_run(config))
    except AtlasError as error:
        _stop(error)
    except ray.exceptions.RayError as error:
        cause = _atlas_cause(error)
        if cause is None:
            raise
        _stop(cause)


def connect() -> None:
    """Join the cluster of `RAY_ADDRESS` (or the one this job runs in); without one, start Ray on this machine.

    Raises:
        ClusterError: the address does not answer.
    """
    address = os.environ.get("RAY_ADDRESS")
    if address and address not in ("auto", "local"):
        check_address(address)
    ray.init(log_to_driver=False, logging_level="warning")
    ray.data.DataContext.get_current().enable_progress_bars = False  # our own lines read well in job logs too


def check_address(address: str) -> None:
    """Raise ClusterError unless something listens at a Ray address (`host:port`, `ray://...` or `http://...`)."""
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        socket.create_connection((parts.hostname or "", parts.port or 10001), _TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"RAY_ADDRESS={address}: nothing answers there ({error}); start the cluster, correct the address, or unset "
            "RAY_ADDRESS to start Ray on this machine"
        ) from error


def _atlas_cause(error: BaseException | None) -> AtlasError | None:
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, AtlasError):
            return error
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None


def _stop(error: AtlasError) -> None:
    sys.stdout.flush()
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    sys.exit(2)


