"""Work that outlasts its request, on an event loop alone; at the service it is tried in `test_leaving.py`."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import HTTPException

from atlas_ray.serving.lasting import Lasting


async def left(work, undo=None):
    """Ask for work and be cancelled before it is done; returns when it is."""
    gate, done, lasting = asyncio.Event(), asyncio.Event(), Lasting()

    async def behind_the_gate():
        await gate.wait()
        try:
            return await work()
        finally:
            done.set()

    request = asyncio.create_task(lasting.do(behind_the_gate(), undo))
    while not request.cancelled():
        await asyncio.sleep(0)
        request.cancel()
    gate.set()
    await done.wait()


def test_a_request_that_waits_has_the_result_and_nothing_is_undone():
    async def work():
        return 3

    assert asyncio.run(Lasting().do(work(), undo=lambda _: pytest.fail("undone"))) == 3


def test_work_whose_request_was_cancelled_is_done_and_then_undone():
    async def once():
        undone = asyncio.Future()

        async def work():
            return 3

        async def undo(result):
            undone.set_result(result)

        await left(work, undo)
        return await asyncio.wait_for(undone, 60)

    assert asyncio.run(once()) == 3


def test_what_was_refused_is_not_undone():
    complaints = []

    async def once():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

        async def work():
            raise HTTPException(409, "no")

        await left(work, lambda _: pytest.fail("undone"))
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    asyncio.run(once())
    assert not complaints
