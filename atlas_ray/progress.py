"""Progress lines for a terminal, `ray job logs` and the dashboard: one every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable


def say(text: str) -> None:
    """Print a line and flush it."""
    print(text, flush=True)


class Progress:
    """Counts finished units and prints a line every `every_s` seconds at most, and one at the end.

    Args:
        label: the task, as in `evaluate llm`.
        total: number of units.
        unit: name of the units, in the plural.
        done: units that an earlier run finished.
        every_s: seconds between lines.
    """

    def __init__(self, label: str, total: int, unit: str, *, done: int = 0, every_s: float = 5.0) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._before, self._every_s = done, every_s
        self._start = self._shown = time.monotonic()

    def add(self, count: int = 1, detail: Callable[[], str] | None = None) -> None:
        """Count finished units; when a line is due, `detail()` is appended to it."""
        self.done += count
        now = time.monotonic()
        if now - self._shown >= self._every_s or self.done >= self.total:
            self._shown = now
            rate = (self.done - self._before) / max(now - self._start, 1e-9)
            left = f", {(self.total - self.done) / rate:.0f} s left" if rate and self.done < self.total else ""
            took = f", {now - self._start:.0f} s" if self.done >= self.total else ""
            more = f", {detail()}" if detail else ""
            say(f"  {self.label}: {self.done}/{self.total} {self.unit}{left}{took}{more}")
