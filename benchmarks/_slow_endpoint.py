"""A local endpoint with a latency and faults, in a process of its own: `python -m benchmarks._slow_endpoint`.

It answers every chat completion with one step after the latency; by request number, so many percent are a 429 (with
Retry-After) or a 500. GET /stats tells what it saw. Lean, because it shares the cores with what is measured, and no
more eager than Ray's workers are.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import time

_ANSWER = json.dumps({"plan": "p", "steps": [{"step": 0, "category": "critical action", "reason": "r"}]})
_BODY = json.dumps(
    {
        "id": "x", "object": "chat.completion", "created": 0, "model": "slow",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": _ANSWER}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050},
    }
).encode()  # fmt: skip


def _response(status: str, body: bytes, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


_OK = _response("200 OK", _BODY)
_LIMITED = _response("429 Too Many Requests", b'{"error": {"message": "slow down"}}', "retry-after-ms: 100\r\n")
_BROKEN = _response("500 Oops", b'{"error": {"message": "oops"}}')


class Endpoint(asyncio.Protocol):
    """A connection; requests on it come one after the other."""

    latency_s = 0.1
    limited = broken = 0
    calls = under_way = most_under_way = 0
    first = 0.0
    answers: list[float] = []  # noqa: RUF012 - when each was given, on all connections
    bodies: dict[bytes, int] = {}  # noqa: RUF012 - of all connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport, self._buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET"):
            self._buffer = rest
            self._transport.write(_response("200 OK", json.dumps(self.stats()).encode()))  # type: ignore[attr-defined]
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        cls, number = Endpoint, Endpoint.calls
        cls.calls += 1
        cls.first = cls.first or time.monotonic()
        cls.under_way += 1
        cls.most_under_way = max(cls.most_under_way, cls.under_way)
        lot = hashlib.sha256(str(number).encode()).digest()[0] / 256 * 100
        play = _LIMITED if lot < cls.limited else _BROKEN if lot < cls.limited + cls.broken else _OK
        if play is _OK:
            digest = hashlib.sha256(rest[:length]).digest()
            cls.bodies[digest] = cls.bodies.get(digest, 0) + 1
        asyncio.get_running_loop().call_later(cls.latency_s, self._answer, play)

    def _answer(self, play: bytes) -> None:
        Endpoint.under_way -= 1
        if play is _OK:
            Endpoint.answers.append(time.monotonic())
        self._transport.write(play)  # type: ignore[attr-defined]

    @classmethod
    def stats(cls) -> dict[str, float]:
        """What it saw."""
        paid = sum(cls.bodies.values())
        seconds = [answer - cls.first for answer in cls.answers] or [0.0]
        return {
            "calls": cls.calls, "answered": paid, "twice": paid - len(cls.bodies), "seconds": seconds[-1],
            "seconds_to_95_percent": seconds[len(seconds) * 95 // 100 - 1], "most_under_way": cls.most_under_way,
            "processor_s": time.process_time(),
        }  # fmt: skip


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Endpoint, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--limited", type=int, default=0, help="percent of 429s")
    parser.add_argument("--broken", type=int, default=0, help="percent of 500s")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    os.nice(15)  # RAY_worker_niceness
    Endpoint.latency_s, Endpoint.limited, Endpoint.broken = given.latency, given.limited, given.broken
    asyncio.run(_serve(given.port))
