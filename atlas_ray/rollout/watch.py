"""Finds engines that no longer answer and has their processes killed, so that Ray starts them again.

A frozen process breaks no connection: without this, calls to it would wait until the deadlines of their episodes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from atlas_ray.progress import say
from atlas_ray.rollout.process import ActorProcess, kill_process, this_process

PROBE_AFTER = 10
"""Ticks between the health checks of an engine."""
MOST_SILENT = 40
"""Ticks without an answer after which an engine is killed. Ticks: a driver that was frozen itself waits anew."""
_TICK_S = 1.0


class Watch:
    """Checks engines on a thread until it is stopped.

    Args:
        engines: their handles.
    """

    def __init__(self, engines: Sequence[Any]) -> None:
        self._engines = [_Engine(handle) for handle in engines]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the checks."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_TICK_S):
            for engine in self._engines:
                engine.check()


class _Engine:
    """What is known of one engine."""

    def __init__(self, handle: Any) -> None:
        self._handle, self._probe, self._ticks = handle, None, 0
        self._process: ActorProcess | None = None
        """None until it has answered: one that starts may be silent for long."""

    def check(self) -> None:
        """Ask it, or take its answer; kill its process when there is none."""
        self._ticks += 1
        if self._probe is None:
            if self._process is None or self._ticks >= PROBE_AFTER:
                self._probe, self._ticks = self._handle.__ray_call__.remote(_process_of), 0
        elif ray.wait([self._probe], timeout=0)[0]:
            try:
                self._process = ray.get(self._probe)
            except RayError:  # it died, and Ray starts it again
                self._process = None
            self._probe = None
        elif self._process is not None and self._ticks >= MOST_SILENT:
            say(f"  an engine did not answer for {MOST_SILENT * _TICK_S:g} s and is started again")
            kill_process(self._process)
            self._process = None


def _process_of(_: Any) -> ActorProcess:
    return this_process()
