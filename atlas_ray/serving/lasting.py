"""Work that outlasts the request that asked for it.

When a client breaks off, its request is cancelled, and with it whatever it awaits: a clean-up in a `finally` is itself
cancelled, and Ray cancels the actors' calls that the request has made. What must come to its end runs in a task of the
service's own, for which the request only waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVar

from fastapi import HTTPException

T = TypeVar("T")
Work = Coroutine[Any, Any, T]


class Lasting:
    """The tasks that are under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def do(self, work: Work[T], undo: Callable[[T], Work[Any]] | None = None) -> T:
        """The result of the work, which is done to its end even if nobody waits for it any more.

        Args:
            work: what to do.
            undo: what to do with the result where nobody has waited for it.
        """
        task = self._begin(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if undo is not None:
                self._begin(_undone(task, undo))
            raise

    def _begin(self, work: Work[T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work, context=Context())  # in the request's own, Ray would count it to the request
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _undone(task: asyncio.Task[T], undo: Callable[[T], Work[Any]]) -> None:
    with suppress(HTTPException):  # it was refused, or what it was done to is gone: there is nothing to undo
        await undo(await task)
