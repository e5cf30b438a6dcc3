"""Environments with a process of their own (a JVM, a Z-machine): how many of them one server may have.

Such a process takes tens to hundreds of megabytes (`EnvironmentCard.process_mib`), so a server has as many as its
memory holds, however many slots and sessions it has: slots wait for one another, sessions are refused, and an
environment that is idle goes to whoever needs its like. Pure logic without Ray; environments that live in the server's
own process are the slots' business.
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

    def borrow(self, holder: Hashable, place: str, env: TextEnv) -> TextEnv:
        """As `take`, but waits until there is room."""
        with self._returned:
            while (found := self.take(holder, place, env)) is None:
                self._returned.wait()
        return found

    def take(self, holder: Hashable, place: str, env: TextEnv) -> TextEnv | None:
        """`env`, whose process has not been started, or an idle one of the same place; None while there is no room.

        Args:
            holder: who has it from now on; one at a time each.
            place: the environment's name and options.
        """
        with self._returned:
            alike = next((i for i, (of, _) in enumerate(self._idle) if of == place), None)
            if alike is not None:
                env = self._idle.pop(alike)[1]
            else:
                while self._idle and not self._has_room(env):
                    self._idle.pop(0)[1].close()  # the one that has been idle longest
                if self._lent and not self._has_room(env):
                    return None
            self._lent[holder] = place, env
            return env

    def give_back(self, holder: Hashable, *, keep: bool) -> None:
        """End the holder's loan, if there is one still; an environment that is not to be kept is closed."""
        with self._returned:
            place, env = self._lent.pop(holder, ("", None))
            if env is None:
                return
            if keep:
                self._idle.append((place, env))
            else:
                env.close()
            self._returned.notify_all()

    def close_idle(self) -> None:
        """End the processes that nobody uses."""
        with self._returned:
            while self._idle:
                self._idle.pop()[1].close()

    def _has_room(self, env: TextEnv) -> bool:
        started = [it for _, it in (*self._lent.values(), *self._idle)]
        needed = sum(it.card.process_mib for it in [*started, env]) * 2**20
        return self._own() + needed <= self._memory
