"""Processes of the test's own Ray cluster, for tests that kill some; other clusters on the machine are left alone."""

from __future__ import annotations

import os

import psutil


def workers(title: str = "") -> list[psutil.Process]:
    """Living workers of this process's cluster whose title has this text; idle ones are left out."""
    found = []
    for process in psutil.process_iter(["cmdline", "ppid", "status"]):
        line = (process.info["cmdline"] or [""])[0]
        is_working = line.startswith("ray::") and not line.startswith("ray::IDLE") and title in line
        if is_working and process.info["status"] != psutil.STATUS_ZOMBIE:
            raylet = psutil.Process(process.info["ppid"])
            if psutil.Process(os.getpid()) in raylet.parents() or raylet.ppid() == os.getpid():
                found.append(process)
    return found


def environment_servers() -> list[int]:
    """Process ids of the living environment servers of this process's cluster."""
    return sorted(process.pid for process in workers("EnvironmentServer"))
