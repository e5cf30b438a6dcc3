"""Limits how many environments with a process of their own (a JVM, a Z-machine) one server has.

Such a process takes tens to hundreds of megabytes (`EnvironmentCard.process_mib`). A server has as many of them as its
memory holds, whatever its number of slots and sessions: slots wait for one another, sessions are refused, and an idle
environment is lent to the next task with the same name and options. Pure logic without Ray; environments that live in
the server's own process are kept by its slots (`server.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

import psutil

from atlas_ray.environments.contract import TextEnv


def own_memory() -> int:
    """Bytes that this process holds, without its children."""
    return int(psutil.Process().memory_info().rss)


class Isolated:
    """Lends environments with a process of their own, within a memory budget; at least one at a time.

    Args:
        memory_gib: of the server's process and its children together.
        own: bytes that the server's own process holds now.
    """

    def __init__(self, memory_gib: float, own: Callable[[], int] = own_memory) -> None:
        self._memory, self._own = memory_gib * 2**30, own
        self._lent: dict[Hashable, tuple[str, TextEnv]] = {}
        self._idle: list[tuple[str, TextEnv]] = []
        self._returned = threading.Condition()

    def borrow(self, holder: Hashable, key: str, env: TextEnv) -> TextEnv:
        """As `take`, but waits until there is room."""
        with self._returned:
            while (found := self.take(holder, key, env)) is None:
                self._returned.wait()
        return found

    def take(self, holder: Hashable, key: str, env: TextEnv) -> TextEnv | None:
        """`env`, whose process has not been started, or an idle one with the same key; None while there is no room.

        Args:
            holder: who gets it; a holder has one at a time.
            key: the environment's name and options.
        """
        with self._returned:
            alike = next((i for i, (of, _) in enumerate(self._idle) if of == key), None)
            if alike is not None:
                env = self._idle.pop(alike)[1]
            else:
                while self._idle and not self._has_room(env):
                    self._idle.pop(0)[1].close()  # the one that has been idle longest
                if self._lent and not self._has_room(env):
                    return None
            self._lent[holder] = key, env
            return env

    def give_back(self, holder: Hashable, *, keep: bool) -> None:
        """End the holder's loan, if there is one still; an environment that is not to be kept is closed."""
        with self._returned:
            key, env = self._lent.pop(holder, ("", None))
            if env is None:
                return
            if keep:
                self._idle.append((key, env))
            else:
                env.close()
            self._returned.notify_all()

    def close_idle(self) -> None:
        """End the processes of idle environments."""
        with self._returned:
            while self._idle:
                self._idle.pop()[1].close()

    def _has_room(self, env: TextEnv) -> bool:
        started = [it for _, it in (*self._lent.values(), *self._idle)]
        needed = sum(it.card.process_mib for it in [*started, env]) * 2**20
        return self._own() + needed <= self._memory
