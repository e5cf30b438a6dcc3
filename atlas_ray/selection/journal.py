"""What a selector answered before, by the content of the question: no answer is paid for twice.

Every answer is a JSON line under `select/journal/` of the run directory, written before the answer is used. Every
process appends to a file of its own: one file per answer would cost more than the request. The key is made from the
model, the conversation and the sampling, but not from the endpoint, so answers survive a killed run, another selection
that asks the same, and a move of the server.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from math import fsum
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from pydantic import TypeAdapter

from atlas_ray import ray_metrics
from atlas_ray.hashing import content_hash
from atlas_ray.inference.client import Client
from atlas_ray.inference.cost import cost_usd, estimated_tokens
from atlas_ray.inference.types import CallError, Reply
from atlas_ray.selection.prompt import Ask, Question
from atlas_ray.selection.summary import Calls
from atlas_ray.store import Store

_Result = TypeVar("_Result")
_FOLDER = ("select", "journal")
_REPLY = TypeAdapter(Reply)
_PERHAPS_PAID = frozenset({"timeout", "malformed", "too_large"})
"""Kinds of failures after which the endpoint may still charge for an answer."""


class AnswerJournal:
    """Answers kept in a run directory, those of other processes as of the last `refresh`.

    Args:
        store: the run directory.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._file = f"{uuid.uuid4().hex}.jsonl"
        self._fresh: dict[str, Reply] = {}
        """Kept by this process since the last refresh."""
        self._spans: dict[str, tuple[str, int, int]] = {}
        """Of every other answer: its file, and the first and last byte of its line."""
        self._read_to: dict[str, int] = {}
        self._unwritten: list[dict[str, Any]] = []
        self._writing = asyncio.Lock()
        self._refreshing = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Learn of the answers that other processes have kept since."""
        with self._refreshing:
            for name in self._store.names(*_FOLDER):
                for row, begin, end in self._store.journal_from(self._read_to.get(name, 0), *_FOLDER, name):
                    self._spans[row["key"]] = (name, begin, end)
                    self._read_to[name] = end
                    self._fresh.pop(row["key"], None)

    def has(self, key: str) -> bool:
        """Whether there is an answer under `key`."""
        return key in self._fresh or key in self._spans

    async def read(self, key: str) -> Reply | None:
        """The answer kept under `key`, or None."""
        reply, span = self._fresh.get(key), self._spans.get(key)
        if reply is not None or span is None:
            return reply
        name, begin, end = span
        row = await self._off_loop(self._store.journal_row, begin, end, *_FOLDER, name)
        return _REPLY.validate_python(row["reply"])

    async def write(self, key: str, reply: Reply, cost_usd: float) -> None:
        """Keep an answer and what was paid for it. Answers that come during a write are written together after it.

        Raises:
            StoreError: the disk is full.
        """
        row = {"key": key, "reply": _REPLY.dump_python(reply, mode="json"), "cost_usd": cost_usd}
        self._fresh[key] = reply
        self._unwritten.append(row)
        async with self._writing:
            if not any(row is waiting for waiting in self._unwritten):
                return  # written together with another answer
            rows, self._unwritten = self._unwritten, []
            try:
                await self._off_loop(self._store.append, rows, *_FOLDER, self._file)
            except BaseException:
                self._unwritten = rows + self._unwritten  # every waiting call tries, and raises the error itself
                raise

    async def write_cost(self, cost_usd: float) -> None:
        """Count what a question may have cost that has no answer to keep.

        Raises:
            StoreError: the disk is full.
        """
        await self._off_loop(self._store.append, [{"key": "", "cost_usd": cost_usd}], *_FOLDER, self._file)

    def spent_usd(self) -> float:
        """The price of all answers in the journal."""
        files = self._store.names(*_FOLDER)
        return fsum(row["cost_usd"] for name in files for row in self._store.journal(*_FOLDER, name))

    async def _off_loop(self, work: Callable[..., _Result], *given: Any) -> _Result:
        """Call `work` in a thread if the store is remote; a local file takes less time than a thread."""
        return work(*given) if self._store.is_local else await asyncio.to_thread(work, *given)


class BudgetGuard(Protocol):
    """Grants money for questions; `limits.RemoteBudgetGuard` asks the cluster's `Limits` for it."""

    async def reserve(self, usd: float) -> None:
        """Wait until so much may be spent.

        Raises:
            BudgetError: the budget will never allow it.
        """
        ...

    async def settle(self, reserved: float, paid: float) -> None:
        """Return a reservation and count what was paid."""
        ...


class JournaledClient:
    """A client that looks into the journal first and writes each new answer there before returning it.

    An answer whose cost is not known counts as what was reserved for it.

    Args:
        client: of the endpoint.
        journal: shared by every process of the run.
        identity: names the model, whatever the endpoint calls it.
        sampling: `temperature` and `max_tokens`.
        schema: JSON schema of the answer, for endpoints that can be held to one.
        price: USD per million prompt and completion tokens.
        guard: grants every question; None where there is no budget.
    """

    def __init__(
        self, client: Client, journal: AnswerJournal, identity: str, sampling: dict[str, Any],
        schema: dict[str, Any] | None, price: tuple[float, float], guard: BudgetGuard | None,
    ) -> None:  # fmt: skip
        self._client, self._journal, self._identity = client, journal, identity
        self._sampling, self._schema, self._price, self._guard = sampling, schema, price, guard
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def asker(self, calls: Calls) -> Ask:
        """An `Ask` that counts into `calls`."""

        async def ask(question: Question) -> Reply:
            return await self._ask(question, calls)

        return ask

    async def _ask(self, question: Question, calls: Calls) -> Reply:
        key = question_key(self._identity, question, self._sampling)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # two equal questions at the same time are asked once
            kept = await self._journal.read(key)
            if kept is not None:
                calls.hits += 1
                ray_metrics.SELECTION_CALLS.add(1, model=self._identity, outcome="journal")
                return kept
            most = cost_usd(estimated_tokens(question.messages), self._sampling["max_tokens"], self._price)
            if self._guard is not None:
                await self._guard.reserve(most)
            paid = 0.0
            calls.made += 1
            try:
                reply = await self._client.complete(
                    question.messages, schema=self._schema, regex=question.regex,
                    without_schema=question.without_schema, **self._sampling,
                )  # fmt: skip
                if not reply.usage_known:
                    reply = replace(
                        reply,
                        prompt_tokens=estimated_tokens(question.messages),
                        completion_tokens=self._sampling["max_tokens"],
                    )
                paid = cost_usd(reply.prompt_tokens, reply.completion_tokens, self._price)
                await self._journal.write(key, reply, paid)
            except CallError as error:
                calls.retries += error.retries
                if self._guard is not None and error.kind in _PERHAPS_PAID:
                    paid = most
                    await self._journal.write_cost(paid)
                ray_metrics.SELECTION_CALLS.add(1, model=self._identity, outcome="failed")
                raise
            finally:
                if self._guard is not None:
                    await self._guard.settle(most, paid)
        calls.retries += reply.retries
        calls.latencies_s.append(reply.latency_s)
        calls.paid_usd += paid
        ray_metrics.SELECTION_CALLS.add(1, model=self._identity, outcome="answered")
        ray_metrics.SELECTION_TOKENS.add(reply.prompt_tokens + reply.completion_tokens, model=self._identity)
        ray_metrics.COST_USD.add(paid, model=self._identity)
        return reply


def question_key(identity: str, question: Question, sampling: dict[str, Any]) -> str:
    """The key of an answer in the journal; the same whether the endpoint takes a JSON schema or not."""
    return content_hash(
        {"model": identity, "messages": question.messages, "sampling": sampling | {"regex": question.regex}}
    )
