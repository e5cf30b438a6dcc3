"""Joining a Ray cluster: that of `RAY_ADDRESS`, the one that a job runs in, or a new one on this machine."""

from __future__ import annotations

import logging
import os
import socket
from urllib.parse import urlsplit

import ray

from atlas_ray.errors import ClusterError

_TIMEOUT_S = 5.0
_CLIENT_PORT = 10001
LEAN_SERVE = {"RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "1"}
"""Environment variables for a Ray that is started here. Serve's controller polls once a second instead of ten times,
which would take a fifth of a core."""


def connect() -> None:
    """Join the cluster of `RAY_ADDRESS` (or the one this job runs in); without one, start Ray on this machine.

    Raises:
        ClusterError: Ray refuses.
    """
    os.environ.update(LEAN_SERVE | os.environ)
    try:
        ray.init(log_to_driver=False, logging_level="warning")
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # our progress lines replace its own
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
