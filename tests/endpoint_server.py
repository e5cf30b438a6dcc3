"""A real HTTP server that speaks enough of OpenAI's API, and can play every fault an endpoint has.

Written on asyncio streams, because a web framework would not let a connection break in the middle of a body. Each
chat completion is answered by the next entry of `script` (or by `default` when it is used up): an `Answer` or a fault.
A function of the request body in their place decides for itself.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

MISSING = object()
"""As an answer's usage: the body has none."""


@dataclass(frozen=True)
class Answer:
    """A chat completion with this text, or with other content and usage as some provider sends them."""

    text: Any
    finish_reason: str | None = "stop"
    refusal: str | None = None
    delay_s: float = 0.0
    usage: Any = field(default_factory=lambda: {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110})


@dataclass(frozen=True)
class Status:
    """An HTTP error."""

    code: int
    error: dict[str, Any] = field(default_factory=lambda: {"message": "the server says no", "type": "error"})
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    """The whole body as JSON, or bytes, for providers that frame an error otherwise."""


@dataclass(frozen=True)
class Raw:
    """A 200 with this body."""

    body: bytes
    delay_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reset:
    """Half of a good answer, or nothing at all, then the connection is reset."""

    silent: bool = False


Play = Answer | Status | Raw | Reset
Script = Play | Callable[[dict[str, Any]], Play]


def steps_answer(*steps: int, plan: str = "do it") -> Answer:
    """A good answer that names these steps."""
    entries = [{"step": step, "category": "critical action", "reason": "it decides"} for step in steps]
    return Answer(json.dumps({"plan": plan, "steps": entries}))


def first_step(body: dict[str, Any]) -> Answer:
    """A good answer to any prompt: one step, chosen by the trajectory's own text."""
    text = body["messages"][1]["content"]
    numbers = [int(n) for n in re.findall(r"\[step (\d+)\]", text)]
    return steps_answer(len(text) % len(numbers))


class EndpointServer:
    """`with EndpointServer() as server:` listens on 127.0.0.1; `server.url` is its base URL.

    Args:
        default: answers when the script is used up.
        key: the only bearer key that is let in; None lets everybody in.
        models: what /v1/models lists.
        port: 0 takes a free one.
    """

    def __init__(
        self,
        default: Script = first_step,
        *,
        key: str | None = None,
        models: Iterable[str] = ("selector",),
        port: int = 0,
    ) -> None:
        self.default, self.key, self.models, self._port = default, key, list(models), port
        self.script: deque[Script] = deque()
        self.requests: list[dict[str, Any]] = []
        """Bodies of the chat completions asked for, in order of arrival."""
        self.under_way = self.most_under_way = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> EndpointServer:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def play(self, *script: Script) -> None:
        """Append to the script."""
        self.script.extend(script)

    @property
    def calls(self) -> int:
        """Chat completions asked for so far."""
        return len(self.requests)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def _close(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self._respond(writer, method, path, headers, body)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or the server closes
        finally:
            writer.close()

    async def _respond(
        self, writer: asyncio.StreamWriter, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> None:
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            shown = headers.get("authorization", "")
            return await self._send(writer, Status(401, {"message": f"Incorrect API key provided: {shown}"}))
        if (method, path) == ("GET", "/v1/models"):
            listed = [{"id": name, "object": "model", "created": 0, "owned_by": "test"} for name in self.models]
            return await self._send(writer, Raw(json.dumps({"object": "list", "data": listed}).encode()))
        if (method, path.partition("?")[0]) != ("POST", "/v1/chat/completions"):
            return await self._send(writer, Status(404, {"message": f"no path {path}"}))
        request = json.loads(body)
        self.requests.append(request)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            play = self.script.popleft() if self.script else self.default
            play = play if isinstance(play, Answer | Status | Raw | Reset) else play(request)
            await asyncio.sleep(getattr(play, "delay_s", 0.0))
        finally:
            self.under_way -= 1
        await self._send(writer, play, request)

    async def _send(self, writer: asyncio.StreamWriter, play: Play, request: dict[str, Any] | None = None) -> None:
        if isinstance(play, Status):
            body = {"error": play.error} if play.body is None else play.body
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await self._write(writer, play.code, data, play.headers)
        if isinstance(play, Raw):
            return await self._write(writer, 200, play.body, play.headers)
        answer = play if isinstance(play, Answer) else steps_answer(0)
        message = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
        body: dict[str, Any] = {
            "id": "x", "object": "chat.completion", "created": 0, "model": (request or {}).get("model"),
            "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}],
        }  # fmt: skip
        data = json.dumps(body if answer.usage is MISSING else body | {"usage": answer.usage}).encode()
        if isinstance(play, Reset):
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
            if not play.silent:
                writer.write(head.encode() + data[: len(data) // 2])
                await writer.drain()
            await asyncio.sleep(0.01)
            writer.transport.abort()
            return None
        return await self._write(writer, 200, data, {})

    @staticmethod
    async def _write(writer: asyncio.StreamWriter, code: int, body: bytes, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {code} X", "content-type: application/json", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
