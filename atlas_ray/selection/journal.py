"""What a selector answered before, by content: no answer is paid for twice.

A JSON line an answer under `select/journal/` of the run directory, written before the answer is used; every process
appends to a file of its own, because a file an answer would take longer to create than the call to make. The key knows
model, conversation and sampling but no endpoint, so that an answer survives another ratio of another method, a killed
run, and a move of the server.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from math import fsum
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from atlas_ray import ray_metrics
from atlas_ray.inference.client import CallError, Client, Reply
from atlas_ray.inference.cost import cost_usd, estimated_tokens
from atlas_ray.selection.llm import Ask
from atlas_ray.selection.prompt import Question
from atlas_ray.selection.summary import Calls
from atlas_ray.store import Store, content_hash

_Result = TypeVar("_Result")
_FOLDER = ("select", "journal")


class Journal:
    """Answers kept in a run directory, those of other processes as of the last `refresh`.

    Args:
        store: the run directory.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._file = f"{uuid.uuid4().hex}.jsonl"
        self._fresh: dict[str, Reply] = {}
        """Kept by this process since the last refresh."""
        self._places: dict[str, tuple[str, int, int]] = {}
        """Of every other answer: its file, and the bytes it takes there."""
        self._read_to: dict[str, int] = {}
        self._owed: list[dict[str, Any]] = []
        self._writing = asyncio.Lock()
        self._refreshing = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Learn of the answers that other processes have kept since."""
        with self._refreshing:
            for name in self._store.names(*_FOLDER):
                for row, begin, end in self._store.journal_from(self._read_to.get(name, 0), *_FOLDER, name):
                    self._places[row["key"]] = (name, begin, end)
                    self._read_to[name] = end
                    self._fresh.pop(row["key"], None)

    def has(self, key: str) -> bool:
        """Whether there is an answer under `key`."""
        return key in self._fresh or key in self._places

    async def read(self, key: str) -> Reply | None:
        """The answer kept under `key`, or None."""
        reply, place = self._fresh.get(key), self._places.get(key)
        if reply is not None or place is None:
            return reply
        name, begin, end = place
        row = await self._without_waiting(self._store.journal_row, begin, end, *_FOLDER, name)
        return Reply(**row["reply"])

    async def write(self, key: str, reply: Reply, cost_usd: float) -> None:
        """Keep an answer, and what was paid for it; those that come while others are being written go together.

        Raises:
            StoreError: the disk is full.
        """
        row = {"key": key, "reply": vars(reply), "cost_usd": cost_usd}
        self._fresh[key] = reply
        self._owed.append(row)
        async with self._writing:
            if not any(row is owed for owed in self._owed):
                return  # it went with another
            rows, self._owed = self._owed, []
            try:
                await self._without_waiting(self._store.append, rows, *_FOLDER, self._file)
            except BaseException:
                self._owed = rows + self._owed  # each of them is told
                raise

    def spent_usd(self) -> float:
        """What all answers that are kept were paid with."""
        files = self._store.names(*_FOLDER)
        return fsum(row["cost_usd"] for name in files for row in self._store.journal(*_FOLDER, name))

    async def _without_waiting(self, work: Callable[..., _Result], *given: Any) -> _Result:
        """`work` in a thread where the store is far away; a local file takes less than a thread."""
        return work(*given) if self._store.is_local else await asyncio.to_thread(work, *given)


class Purse(Protocol):
    """Grants money for questions; see `limits.Limits`."""

    async def reserve(self, usd: float) -> None:
        """Wait until so much may be spent.

        Raises:
            BudgetError: it never may.
        """
        ...

    async def settle(self, reserved: float, paid: float) -> None:
        """Give back what was reserved and count what was paid."""
        ...


class JournaledClient:
    """A client that looks into the journal first and writes each new answer there before returning it.

    Args:
        client: of the endpoint.
        journal: shared by every process of the run.
        identity: what names the model's content, whatever the endpoint calls it.
        sampling: `temperature` and `max_tokens`.
        schema: JSON schema of the answer, for endpoints that can be held to one.
        price: USD per million prompt and completion tokens.
        purse: grants every question; None where there is no budget.
    """

    def __init__(
        self, client: Client, journal: Journal, identity: str, sampling: dict[str, Any], schema: dict[str, Any] | None,
        price: tuple[float, float], purse: Purse | None,
    ) -> None:  # fmt: skip
        self._client, self._journal, self._identity = client, journal, identity
        self._sampling, self._schema, self._price, self._purse = sampling, schema, price, purse
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def asker(self, calls: Calls) -> Ask:
        """An `Ask` that counts into `calls`."""

        async def ask(question: Question) -> Reply:
            return await self._ask(question, calls)

        return ask

    async def _ask(self, question: Question, calls: Calls) -> Reply:
        key = question_key(self._identity, question, self._sampling)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # the same question twice at a time is asked once
            kept = await self._journal.read(key)
            if kept is not None:
                calls.hits += 1
                ray_metrics.SELECTION_CALLS.add(1, model=self._identity, outcome="journal")
                return kept
            most = cost_usd(estimated_tokens(question.messages), self._sampling["max_tokens"], self._price)
            if self._purse is not None:
                await self._purse.reserve(most)
            paid = 0.0
            calls.made += 1
            try:
                reply = await self._client.complete(
                    question.messages, schema=self._schema, regex=question.regex,
                    without_schema=question.without_schema, **self._sampling,
                )  # fmt: skip
                paid = cost_usd(reply.prompt_tokens, reply.completion_tokens, self._price)
                await self._journal.write(key, reply, paid)
            except CallError as error:
                calls.retries += error.retries
                ray_metrics.SELECTION_CALLS.add(1, model=self._identity, outcome="failed")
                raise
            finally:
                if self._purse is not None:
                    await self._purse.settle(most, paid)
        calls.retries += reply.retries
        calls.latencies_s.append(reply.latency_s)
        calls.paid_usd += paid
        ray_metrics.SELECTION_CALLS.add(1, model=self._identity, outcome="answered")
        ray_metrics.SELECTION_TOKENS.add(reply.prompt_tokens + reply.completion_tokens, model=self._identity)
        ray_metrics.COST_USD.add(paid, model=self._identity)
        return reply


def question_key(identity: str, question: Question, sampling: dict[str, Any]) -> str:
    """Under which the answer to a question is kept: the same whichever form an endpoint makes it take."""
    return content_hash(
        {"model": identity, "messages": question.messages, "sampling": sampling | {"regex": question.regex}}
    )
