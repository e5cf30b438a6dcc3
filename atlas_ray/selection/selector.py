"""The selector on the cluster: the stage of method `llm`, with what holds it back (`limits.py`).

Each actor keeps many questions under way at a time; every answer is in the journal before it is used.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pyarrow as pa

from atlas_ray.config import LlmSelectorConfig
from atlas_ray.errors import AtlasError, BudgetError
from atlas_ray.inference.client import Client
from atlas_ray.inference.transport import Endpoint
from atlas_ray.selection import llm
from atlas_ray.selection.graph import chunks_of, output_table, stop_table
from atlas_ray.selection.journal import Journal, JournaledClient
from atlas_ray.selection.prompt import ANSWER_SCHEMA
from atlas_ray.selection.source import read_rows
from atlas_ray.selection.summary import Calls
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection, Trajectory, trajectory_from_row

_ASK_AGAIN_S = 0.1


class LlmSelector:
    """Stage of method `llm`.

    Args:
        endpoint: where the questions go.
        identity: what names the model's content, whatever the endpoint calls it.
        config: settings of the selector.
        price: USD per million prompt and completion tokens.
        stand_in: the on-board model serves.
        slots: questions of this actor under way at a time.
        ratio: share of the steps.
        seed: of the run.
        run_dir: URL of the run directory, for trajectories and journal.
        limits: the `Limits` actor; None when nothing holds back.
    """

    def __init__(
        self, endpoint: Endpoint, identity: str, config: LlmSelectorConfig, price: tuple[float, float], stand_in: bool,
        slots: int, ratio: float, seed: int, run_dir: str, limits: Any,
    ) -> None:  # fmt: skip
        limited = config.requests_per_minute is not None or config.tokens_per_minute is not None
        client = Client(
            endpoint, timeout_s=config.timeout_s, max_retries=config.max_retries, concurrency=slots,
            pace=_pace(limits) if limited else None,
        )  # fmt: skip
        self._store = Store(run_dir)
        self._journal, self._room = Journal(self._store), client.room
        self._client = JournaledClient(
            client, self._journal, identity, sampling_of(config), ANSWER_SCHEMA, price,
            RemotePurse(limits, config.budget_usd) if config.budget_usd is not None else None,
        )  # fmt: skip
        self._identity, self._config, self._price, self._stand_in = identity, config, price, stand_in
        self._ratio, self._seed = ratio, seed
        self._preparing = asyncio.Lock()
        _collect_garbage_rarely()

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        """Select in every trajectory of the batch, all of them at once as far as there are slots."""
        read = self._read(batch) if self._store.is_local else await asyncio.to_thread(self._read, batch)
        trajectories: list[Trajectory] = []
        calls: list[Calls] = []
        tasks: list[asyncio.Task[Selection]] = []
        async with self._preparing:
            for row in read:
                await self._room.wait()
                trajectories.append(trajectory_from_row(row))
                calls.append(Calls())
                tasks.append(asyncio.create_task(self._select(trajectories[-1], calls[-1])))
                await asyncio.sleep(0)  # answers that have come go first: others wait for their places
        results = await asyncio.gather(*tasks, return_exceptions=True)
        selections = []
        for result in results:
            if isinstance(result, AtlasError):
                yield stop_table(result)
                return
            if isinstance(result, BaseException):
                raise result
            selections.append(result)
        yield output_table(trajectories, selections, calls)

    def _read(self, batch: pa.Table) -> list[dict[str, Any]]:
        self._journal.refresh()
        return [row for chunk in chunks_of(batch) for row in read_rows(self._store, chunk)]

    async def _select(self, trajectory: Trajectory, calls: Calls) -> Selection:
        return await llm.select(
            trajectory, self._ratio, self._seed, self._client.asker(calls), model=self._identity,
            max_prompt_chars=self._config.max_prompt_chars, stand_in=self._stand_in, price_per_million=self._price,
        )  # fmt: skip


def _collect_garbage_rarely() -> None:
    """Rows and questions are many small objects in no cycles, and Python would look for cycles in all of them, all the
    time: two thirds of the time that reading takes, and the event loop stands still meanwhile.
    """
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)


def sampling_of(config: LlmSelectorConfig) -> dict[str, Any]:
    """The options of a question that its answer depends on."""
    return {"temperature": config.temperature, "max_tokens": config.max_tokens}


class RemotePurse:
    """A `journal.Purse` over the `Limits` actor.

    Args:
        limits: the actor.
        budget_usd: for the error's text.
    """

    def __init__(self, limits: Any, budget_usd: float) -> None:
        self._limits, self._budget_usd = limits, budget_usd

    async def reserve(self, usd: float) -> None:
        """See `journal.Purse`."""
        while (answer := await self._limits.reserve.remote(usd)) != "granted":
            if answer == "spent":
                raise BudgetError(
                    f"select.llm.budget_usd: {await self._limits.spent.remote():.4f} of {self._budget_usd:g} USD are "
                    f"paid and the next question can cost {usd:.4f}; every answer is kept: raise the budget and run "
                    "again"
                )
            await asyncio.sleep(_ASK_AGAIN_S)  # questions under way may cost less than was reserved for them

    async def settle(self, reserved: float, paid: float) -> None:
        """See `journal.Purse`."""
        await self._limits.settle.remote(reserved, paid)


def _pace(limits: Any) -> Callable[[int], Awaitable[None]]:
    async def pace(tokens: int) -> None:
        await asyncio.sleep(await limits.pace.remote(tokens))

    return pace
