"""A neighbour on the network: a namespace of its own with a cable to this machine, for tests of what it can reach."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import psutil
import pytest

_HERE, _THERE = (str(IPv4Address("198.18.0.0") + 4 * (os.getpid() % 2**15) + end) for end in (1, 2))
"""Of the block for tests of networks (RFC 2544); other addresses in every process, for two may test at once."""
_PROBE = """
import json, socket, sys
found = []
for port in json.loads(sys.argv[2]):
    with socket.socket() as probe:
        probe.settimeout(5)
        if probe.connect_ex((sys.argv[1], port)) == 0:
            found.append(port)
print(json.dumps(found))
"""


def listening(process: psutil.Process) -> set[int]:
    """The TCP ports on which a process and all below it listen."""
    family = {process.pid, *(child.pid for child in process.children(recursive=True))}
    return {
        int(each.laddr.port) for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.pid in family
    }  # fmt: skip


@contextmanager
def neighbour() -> Iterator[Callable[[Iterable[int]], list[int]]]:
    """Yields a function that says which of these ports of this machine the neighbour can connect to."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and iproute2's `ip`")
    name, here, there = (f"atlas{os.getpid()}{end}" for end in ("", "h", "t"))
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this machine makes no network namespace: {made.stderr.strip()}")

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    try:
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        ip("addr", "add", f"{_HERE}/30", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", name, "addr", "add", f"{_THERE}/30", "dev", there)
        ip("-n", name, "link", "set", there, "up")

        def reach(ports: Iterable[int]) -> list[int]:
            asked = json.dumps(sorted(ports))
            command = ["ip", "netns", "exec", name, sys.executable, "-c", _PROBE, _HERE, asked]
            return list(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))

        yield reach
    finally:
        ip("netns", "del", name)
