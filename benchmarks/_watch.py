"""Peak memory of a process and of all below it, while a block of a benchmark runs."""

from __future__ import annotations

import threading

import psutil


class Watch:
    """Peak memory of a process and of it with all below it, shared pages left out, in MiB.

    Args:
        pid: of the process.
    """

    def __init__(self, pid: int) -> None:
        self.driver_mib = self.cluster_mib = 0.0
        self._root = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.25):
            below = [_private_mib(process) for process in self._root.children(recursive=True)]
            own = _private_mib(self._root)
            self.driver_mib = max(self.driver_mib, own)
            self.cluster_mib = max(self.cluster_mib, own + sum(below))


def _private_mib(process: psutil.Process) -> float:
    try:
        memory = process.memory_info()
    except psutil.NoSuchProcess:
        return 0.0
    return float(memory.rss - memory.shared) / (1 << 20)
