"""Joining a Ray cluster: that of `RAY_ADDRESS`, the one that a job runs in, or a new one on this machine.

Also which of Ray's errors say that a process, a node or an object was lost, so that the same command goes on. What is
survived without a new command is decided where the work is (`rollout/driver.py`, `training/trainer.py`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import ray
from ray import exceptions as failures

from atlas_ray.errors import ClusterError

_TIMEOUT_S = 5.0
_CLIENT_PORT = 10001
LEAN_SERVE = {"RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "1"}
"""Environment variables for a Ray that is started here. Serve's controller polls once a second instead of ten times,
which would take a fifth of a core."""
GO_ON = "run the same command again: it goes on where it was"
"""What helps after a loss, as the end of an error's line."""
_LOSSES = (
    failures.ActorPlacementGroupRemoved, failures.GetTimeoutError, failures.LocalRayletDiedError,
    failures.NodeDiedError, failures.ObjectLostError, failures.OutOfMemoryError, failures.RayActorError,
    failures.RpcError, failures.TaskPlacementGroupRemoved, failures.WorkerCrashedError,
)  # fmt: skip
"""Errors of Ray's that say nothing about the work itself; the same work can succeed on what is left."""


def connect() -> None:
    """Join the cluster of `RAY_ADDRESS` (or the one this job runs in); without one, start Ray on this machine.

    Raises:
        ClusterError: Ray refuses.
    """
    os.environ.update(LEAN_SERVE | os.environ)
    try:
        ray.init(log_to_driver=False, logging_level="warning")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"Ray cannot be joined or started: {str(error).strip().splitlines()[0]}") from error


def check_address(address: str | None) -> None:
    """Refuse a Ray address (`host:port`, `ray://host:port` or `http://host:port`) where nothing listens.

    Raises:
        ClusterError: nothing answers within five seconds.
    """
    if not address or address in ("auto", "local"):
        return
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        socket.create_connection((parts.hostname or "", parts.port or _CLIENT_PORT), _TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"RAY_ADDRESS={address}: nothing answers there ({error}); start the cluster, correct the address, or unset "
            "RAY_ADDRESS to start Ray on this machine"
        ) from error


def behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it was raised from, on other processes of the cluster too; the outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__


def loss_behind(error: BaseException) -> ClusterError | None:
    """The line for an error whose origin is that Ray lost something; None when its origin is another.

    An actor that raised while it was made is no loss: it would raise again.
    """
    for each in behind(error):
        if isinstance(each, _LOSSES) and not getattr(each, "actor_init_failed", False):
            return ClusterError(f"Ray lost a process, a node or an object ({said(each)}); {GO_ON}")
        if not isinstance(each, failures.RayError):
            return None  # an error of the work's own
    return None


def said(error: BaseException, most: int = 300) -> str:
    """Name and text of an error on one line, cut after `most` characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:most]
