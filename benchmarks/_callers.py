"""Ways to put the same questions to an endpoint, for `benchmarks.selection`: this project's client and its peers.

`bare` sends bytes over sockets and looks for the end of each answer: what the machine allows, endpoint included.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from atlas_ray.inference.client import Client
from atlas_ray.inference.transport import Endpoint
from atlas_ray.selection.prompt import ANSWER_SCHEMA, Question

SAMPLING: dict[str, Any] = {"temperature": 0.0, "max_tokens": 1024}
_FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": ANSWER_SCHEMA}}
_PAUSE_S = 0.1
Ask = Callable[[Question], Awaitable[object]]


def bare(url: str, questions: Sequence[Question], slots: int) -> float:
    """Processor time of this process in seconds; `slots` connections, each with one request after the other.

    A question that is not answered waits as long as the endpoint's 429 says, then goes first.
    """
    host, _, port = url.split("/")[2].partition(":")
    waiting = deque(questions)
    owed = len(questions)

    async def connection() -> None:
        nonlocal owed
        reader, writer = await asyncio.open_connection(host, int(port))
        while owed:
            if not waiting:
                await asyncio.sleep(0.002)
                continue
            question = waiting.popleft()
            body = _body(question)
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0]))
            if b" 200 " in answer.partition(b"\r\n")[0]:
                owed -= 1
            else:
                asyncio.get_running_loop().call_later(_PAUSE_S, waiting.appendleft, question)
        writer.close()

    async def run() -> None:
        await asyncio.gather(*(connection() for _ in range(slots)))

    return _processor_time(run)


def client(url: str, questions: Sequence[Question], slots: int) -> float:
    """Processor time of this project's client in seconds."""

    async def run() -> None:
        asker = Client(Endpoint(base_url=url, model="slow"), timeout_s=60, max_retries=5, concurrency=slots)

        async def ask(question: Question) -> object:
            return await asker.complete(
                question.messages, schema=ANSWER_SCHEMA, without_schema=question.without_schema, **SAMPLING
            )

        await _all(ask, questions, slots)
        await asker.close()

    return _processor_time(run)


def sdk(url: str, questions: Sequence[Question], slots: int) -> float:
    """Processor time of the `openai` SDK in seconds, on aiohttp, which is its cheaper half."""
    import openai

    async def run() -> None:
        http = openai.DefaultAioHttpClient(trust_env=False)
        asker: Any = openai.AsyncOpenAI(base_url=url, api_key="none", timeout=60, max_retries=5, http_client=http)

        async def ask(question: Question) -> object:
            return await asker.chat.completions.create(
                model="slow", messages=question.messages, response_format=_FORMAT, **SAMPLING
            )

        await _all(ask, questions, slots)
        await asker.close()

    return _processor_time(run)


async def _all(ask: Ask, questions: Sequence[Question], slots: int) -> None:
    free = asyncio.Semaphore(slots)

    async def one(question: Question) -> None:
        async with free:
            await ask(question)

    await asyncio.gather(*map(one, questions))


def _body(question: Question) -> bytes:
    body = {"model": "slow", "messages": question.messages, **SAMPLING, "response_format": _FORMAT}
    return json.dumps(body).encode()


def _processor_time(run: Callable[[], Awaitable[None]]) -> float:
    before = time.process_time()
    asyncio.run(run())  # type: ignore[arg-type]
    return time.process_time() - before
