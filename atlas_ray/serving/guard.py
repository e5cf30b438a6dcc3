"""ASGI middleware that checks every request: the key, the origin, the size, and the rate.

With a key, every request except the page's files needs `Authorization: Bearer KEY`. Without a key the server listens on
loopback only. Then the threat is a foreign web page that sends requests through the user's browser, so requests for
another host name (DNS rebinding) or from another origin are refused. Refusals are OpenAI error objects.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN_PATHS = ("/", "/page.css", "/page.js", "/health")
"""Paths that need no key, because they hold no private data."""
_CLIENTS = 10_000
_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
          429: "rate_limit_error"}  # fmt: skip


def error_body(status: int, message: str) -> dict[str, Any]:
    """OpenAI's error object."""
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": str(status)}}


class Guard:
    """The middleware.

    Args:
        app: the guarded application.
        key: the key that clients must send; None admits all requests from this machine.
        requests_per_minute: limit per client address; a burst of this many requests is allowed.
        max_body_bytes: limit of a request's body.
        elsewhere: what to do where the server is asked by another host name, without a key.
        clock: returns seconds; tests pass their own.
    """

    def __init__(
        self, app: App, *, key: SecretStr | None, requests_per_minute: int, max_body_bytes: int,
        elsewhere: str = "set ATLAS_API_KEY to serve other addresses", clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._app, self._key, self._elsewhere = app, key, elsewhere
        self._per_minute, self._max_body, self._clock = requests_per_minute, max_body_bytes, clock
        self._clients: dict[str, tuple[float, float]] = {}  # address -> (tokens left, time)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the application, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        status, message = self._judge(scope, headers)
        if status:
            retry = {"retry-after": "1"} if status == 429 else {"www-authenticate": "Bearer"} if status == 401 else {}
            await _refuse(send, status, message, retry)
            return
        body = await self._read(receive)
        if body is None:
            await _refuse(send, 413, f"the request is larger than {self._max_body} bytes", {})
            return
        await self._app(scope, _replay(body, receive), send)

    def _judge(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str]:
        if self._key is None:
            host = urlsplit(f"//{headers.get('host', '')}").hostname
            origin = headers.get("origin")
            if host not in LOOPBACK:
                return 403, f"this server answers on 127.0.0.1 only; {self._elsewhere}"
            if origin and urlsplit(origin).netloc != headers.get("host"):
                return 403, "requests from other web pages are refused"
        elif scope["path"] not in OPEN_PATHS and not self._knows_key(headers.get("authorization", "")):
            return 401, "wrong or missing key; send `Authorization: Bearer KEY`"
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_body:
            return 413, f"the request is larger than {self._max_body} bytes"
        if not self._has_turn(str((scope.get("client") or ("?",))[0])):
            return 429, f"more than {self._per_minute} requests per minute; wait a second"
        return 0, ""

    def _knows_key(self, authorization: str) -> bool:
        assert self._key is not None
        kind, _, given = authorization.partition(" ")
        right = self._key.get_secret_value().encode()
        return hmac.compare_digest(given.strip().encode("utf-8", "replace"), right) and kind.lower() == "bearer"

    def _has_turn(self, client: str) -> bool:
        now = self._clock()
        left, when = self._clients.get(client, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - when) * self._per_minute / 60)
        if len(self._clients) > _CLIENTS:
            self._clients.clear()
        self._clients[client] = (left - (left >= 1), now)
        return left >= 1

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole body; None when it is too large."""
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body:
                return None
            more = message.get("more_body", False)
        return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receiver that returns the body that was read, then later messages (a disconnect)."""
    sent = False

    async def replay() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _refuse(send: Send, status: int, message: str, headers: dict[str, str]) -> None:
    content = json.dumps(error_body(status, message)).encode()
    lines = {"content-type": "application/json", "content-length": str(len(content)), **headers}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
        }
    )
    await send({"type": "http.response.body", "body": content})
