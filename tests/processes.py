"""Processes of the test's own Ray cluster, for tests that kill some; other clusters on the machine are left alone."""

from __future__ import annotations

import os

import psutil


def environment_servers() -> list[int]:
    """Process ids of the living environment servers of this process's cluster."""
    found = []
    for process in psutil.process_iter(["cmdline", "ppid", "status"]):
        line = (process.info["cmdline"] or [""])[0]
        if line.startswith("ray::") and "EnvironmentServer" in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            raylet = psutil.Process(process.info["ppid"])
            if psutil.Process(os.getpid()) in raylet.parents() or raylet.ppid() == os.getpid():
                found.append(process.pid)
    return sorted(found)
