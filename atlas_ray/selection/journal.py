"""What a selector answered before, by content: no answer is paid for twice.

One small JSON file an answer under `select/journal/` of the run directory, written atomically before the answer is
used. The key knows model, conversation and sampling but no endpoint, so that an answer survives another ratio of
another method, a killed run, and a move of the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from weakref import WeakValueDictionary

from atlas_ray.inference.client import CallError, Client, Reply
from atlas_ray.selection.llm import Ask
from atlas_ray.selection.prompt import ChatMessage
from atlas_ray.selection.summary import Calls
from atlas_ray.store import Store, content_hash


class Journal:
    """Answers kept in a run directory."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, key: str) -> Reply | None:
        """The answer kept under `key`, or None."""
        place = self._place(key)
        return Reply(**self._store.read_json(*place)["reply"]) if self._store.exists(*place) else None

    def write(self, key: str, reply: Reply) -> None:
        """Keep an answer."""
        self._store.write_json({"reply": asdict(reply)}, *self._place(key))

    @staticmethod
    def _place(key: str) -> tuple[str, ...]:
        return ("select", "journal", key[:2], f"{key}.json")


class JournaledClient:
    """A client that looks into the journal first and writes each new answer there before returning it.

    Args:
        client: of the endpoint.
        journal: shared by every process of the run.
        identity: what names the model's content, whatever the endpoint calls it.
        sampling: `temperature` and `max_tokens`.
        schema: JSON schema of the answer, for endpoints that can be held to one.
    """

    def __init__(
        self, client: Client, journal: Journal, identity: str, sampling: dict[str, Any], schema: dict[str, Any] | None
    ) -> None:
        self._client, self._journal, self._identity = client, journal, identity
        self._sampling, self._schema = sampling, schema
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def asker(self, calls: Calls) -> Ask:
        """An `Ask` that counts into `calls`."""

        async def ask(messages: Sequence[ChatMessage], *, regex: str | None) -> Reply:
            return await self._ask(messages, regex, calls)

        return ask

    async def _ask(self, messages: Sequence[ChatMessage], regex: str | None, calls: Calls) -> Reply:
        key = content_hash(
            {"model": self._identity, "messages": list(messages), "sampling": self._sampling | {"regex": regex}}
        )
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # the same question twice at a time is asked once
            kept = await asyncio.to_thread(self._journal.read, key)
            if kept is not None:
                calls.hits += 1
                return kept
            calls.made += 1
            try:
                reply = await self._client.complete(messages, schema=self._schema, regex=regex, **self._sampling)
            except CallError as error:
                calls.retries += error.retries
                raise
            await asyncio.to_thread(self._journal.write, key, reply)
        calls.retries += reply.retries
        calls.latencies_s.append(reply.latency_s)
        return reply
