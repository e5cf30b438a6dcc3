"""Free ports of this machine, for programs that are started with one."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

_FROM = 20_000
"""Ray's workers have the ports below by default."""


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens, below those that the system hands out: another program would get one of these.

    Raises:
        OSError: there are no more.
    """
    above = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(_FROM, max(above, _FROM + 10_000))
    found: list[int] = []
    with ExitStack() as stack:
        for port in random.sample(candidates, len(candidates)):  # another process draws others
            if len(found) == count:
                return found
            free = stack.enter_context(socket.socket())
            with suppress(OSError):  # somebody has it
                free.bind(("127.0.0.1", port))
                found.append(port)
    raise OSError(f"no {count} free ports from {_FROM} to {candidates.stop}")
