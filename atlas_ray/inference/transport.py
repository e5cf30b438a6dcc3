"""HTTP requests to an OpenAI-compatible endpoint: a request is tried until it is answered or another try is useless.

Rate limits, errors of the server, timeouts, broken connections and malformed bodies are tried again, with backoff, or
after the pause that the endpoint asks for. Every try has a deadline, a slot and a limit on the size of its answer, and
can be paced. The client is aiohttp, which comes with Ray: the `openai` SDK takes three to five times the processor
time, which at a thousand questions per second is more than one core. What an error says is read in `refusals.py`; what
a failure means for other questions is decided in `client.py`.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import os
import random
import ssl
import time
import urllib.request
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import certifi
from pydantic import BaseModel, ConfigDict, SecretStr

from atlas_ray.inference.refusals import ErrorBody, meaning, read, read_parsed

MAX_BODY_BYTES = 4 << 20
"""A longer answer is given up: no honest one comes near."""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 12.0
"""Twice as long each time; ten pauses are three quarters of a minute or more, which outlasts a restart."""
LONGEST_WAIT_S = 600.0
"""Seconds that a request waits because the endpoint asks it to, all its tries together."""
_CONNECT_S = 15.0


class Endpoint(BaseModel):
    """Where questions go; prints without its key."""

    model_config = ConfigDict(frozen=True)

    base_url: str
    model: str
    key: SecretStr = SecretStr("none")

    def __str__(self) -> str:
        parts = urlsplit(self.base_url)
        host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
        return f"endpoint {parts.scheme}://{host}{parts.path} (model {self.model})"


@dataclass
class Failure(Exception):
    """A request that got no answer; `detail` is one short line without the key."""

    kind: str
    """`timeout`, `connection`, `too_large`, or the `refusals.Meaning` of what the endpoint said."""
    detail: str
    error: ErrorBody | None = None
    """What the endpoint said; None where it said nothing."""
    unconnected: bool = False
    """No connection came about, as against one that broke."""
    again: bool = True
    """Another try may be answered."""
    pause_s: float | None = None
    """What the endpoint asks for before the next try."""
    tries: int = 0


class Answered(NamedTuple):
    """A response and what it cost."""

    body: Any
    """Parsed JSON."""
    tries: int
    latency_s: float
    """Since the first try had its slot."""


class Transport:
    """Connections to one endpoint; belongs to the event loop of its first request.

    Args:
        endpoint: URL and key.
        timeout_s: seconds for one try, its body included.
        max_retries: tries after the first.
        concurrency: tries under way at a time. A request that pauses before its next try holds no slot.
        pace: awaited before every try, with the tokens it may take.
        max_wait_s: seconds that a request waits because the endpoint asks it to (Retry-After), all tries together.
    """

    def __init__(
        self, endpoint: Endpoint, *, timeout_s: float, max_retries: int, concurrency: int,
        pace: Callable[[int], Awaitable[None]] | None = None, max_wait_s: float = LONGEST_WAIT_S,
    ) -> None:  # fmt: skip
        self._endpoint, self._max_retries, self._concurrency, self._pace = endpoint, max_retries, concurrency, pace
        self._timeout_s, self._max_wait_s = timeout_s, max_wait_s
        self._slots = _Slots(concurrency)
        self._session: aiohttp.ClientSession | None = None
        self.room = self._slots.room
        """Set while at most half as many requests wait to be sent as can be under way."""
        self._refused: Exception | None = None
        self._stopped = asyncio.Event()

    async def request(
        self, method: str, path: str, body: bytes | None = None, *, tokens: int = 0,
        is_answer: Callable[[Any], bool] = lambda body: True, said: Callable[[], str] = str,
    ) -> Answered:  # fmt: skip
        """Send a request until it is answered.

        Args:
            method: of HTTP.
            path: below the base URL.
            body: JSON.
            tokens: for `pace`.
            is_answer: whether a body of parsed JSON is an answer; a failing look-up means that it is not.
            said: the text of the conversation that is sent, which an error may echo.

        Raises:
            Failure: the last try's.
        """
        tries, start, backoff, wait_s = 0, 0.0, FIRST_PAUSE_S, self._max_wait_s
        while True:
            if self._pace is not None:
                await self._pace(tokens)
            await self._slots.take(again=tries > 0)
            tries += 1
            start = start or time.monotonic()
            failure = None
            try:
                if self._refused is not None:
                    raise self._refused
                found = await self._try(method, path, body, is_answer, said)
            except Failure as error:
                failure = error
            finally:
                self._slots.give()
            if failure is None:
                answered = Answered(found, tries, time.monotonic() - start)
                await asyncio.sleep(0)  # the request that got the slot is sent before this answer is read
                return answered
            failure.tries = tries
            if not failure.again or tries > self._max_retries or (failure.pause_s or 0.0) > wait_s:
                raise failure
            if failure.pause_s is None:
                pause_s = backoff * (1 - random.random() / 4)
                backoff = min(2 * backoff, LONGEST_PAUSE_S)
            else:
                pause_s = failure.pause_s
                wait_s -= pause_s
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), pause_s)

    def refuse(self, error: Exception) -> None:
        """Raise `error` instead of any other try, also in requests that pause at the moment."""
        self._refused = error
        self._stopped.set()

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    async def _try(
        self, method: str, path: str, body: bytes | None, is_answer: Callable[[Any], bool], said: Callable[[], str]
    ) -> Any:
        if self._session is None:
            self._session = self._connect()
        try:
            async with self._session.request(method, _url(self._endpoint.base_url, path), data=body) as response:
                data = await _read(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Failure("connection", self._line(str(error)), unconnected=True) from None
        except TimeoutError:
            raise Failure("timeout", f"no whole answer within {self._timeout_s:g} s") from None
        except aiohttp.ClientError as error:
            raise Failure("connection", self._line(f"{type(error).__name__}: {error}")) from None
        if not response.ok:
            raise self._failure(read(response.status, data), response, said)
        found: Any = None
        try:
            found = json.loads(data)
            if is_answer(found):
                return found
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            pass  # all mean the same: said below
        shown = data[:120].decode("utf-8", "replace")
        error_body = read_parsed(0, found) or ErrorBody(0, f"the body is not what was asked for: {shown!r}")
        raise self._failure(error_body, response, said)

    def _connect(self) -> aiohttp.ClientSession:
        parts = urlsplit(self._endpoint.base_url)
        key = self._endpoint.key.get_secret_value()
        headers = {
            "authorization": f"Bearer {key}",
            "content-type": "application/json",
            "user-agent": "atlas-ray",
        }
        for header, variable in (("openai-organization", "OPENAI_ORG_ID"), ("openai-project", "OPENAI_PROJECT_ID")):
            if os.environ.get(variable):
                headers[header] = os.environ[variable]
        if (parts.hostname or "").endswith(".azure.com"):
            headers["api-key"] = key  # Azure takes its own keys under this name, and as Bearer only on newer paths
        secure: ssl.SSLContext | bool = True
        if parts.scheme == "https":
            secure = ssl.create_default_context()
            secure.load_verify_locations(certifi.where())  # beside the system's own, which a lean container may lack
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency, ssl=secure), headers=headers, proxy=_proxy(parts),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=min(self._timeout_s, _CONNECT_S)),
            cookie_jar=aiohttp.DummyCookieJar(),
        )  # fmt: skip

    def _failure(self, error: ErrorBody, response: aiohttp.ClientResponse, said: Callable[[], str]) -> Failure:
        pause_s = retry_after_s(response.headers)
        pause_s = error.pause_s if pause_s is None else pause_s
        kind = meaning(error, pauses=pause_s is not None, said=said)
        again = kind in ("rate_limit", "server", "malformed")
        if kind not in ("key", "quota", "model"):
            again = {"true": True, "false": False}.get(response.headers.get("x-should-retry", ""), again)
        status = f"HTTP {error.status}: " if error.status else ""
        return Failure(kind, self._line(f"{status}{error.message}"), error, again=again, pause_s=pause_s)

    def _line(self, text: str) -> str:
        """`text` as one short line without the key, in characters that UTF-8 can hold."""
        text = text.encode("utf-8", "replace").decode().replace(self._endpoint.key.get_secret_value(), "***")
        return " ".join(text.split())[:300]


class _Slots:
    """Limits the tries under way. A request that has paused goes before requests never sent: it is nearly done.

    Args:
        number: of tries at a time.
    """

    def __init__(self, number: int) -> None:
        self._free, self._number = number, number
        self._again: deque[asyncio.Future[None]] = deque()
        self._first: deque[asyncio.Future[None]] = deque()
        self.room = asyncio.Event()
        self.room.set()

    async def take(self, *, again: bool) -> None:
        """Wait for a slot."""
        if self._free:
            self._free -= 1
            return
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._again if again else self._first).append(slot)
        self._look()
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():
                self.give()  # it was handed over in the same moment
            raise

    def give(self) -> None:
        """Free a slot, or pass it to the next waiting request."""
        for waiting in (self._again, self._first):
            while waiting:
                slot = waiting.popleft()
                if not slot.done():
                    self._look()
                    slot.set_result(None)
                    return
        self._look()
        self._free += 1

    def _look(self) -> None:
        if 2 * len(self._first) <= self._number:
            self.room.set()
        else:
            self.room.clear()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body.

    Raises:
        Failure: it is too long.
    """
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            response.close()
            raise Failure("too_large", f"the answer exceeds {MAX_BODY_BYTES >> 20} MiB", again=False)
    return bytes(body)


def retry_after_s(headers: Any) -> float | None:
    """Seconds that the endpoint asks to wait for; None where it asks for nothing that makes sense."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return seconds if 0 < seconds < math.inf else None
    try:
        seconds = email.utils.parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if seconds > 0 else None


@cache
def _url(base_url: str, path: str) -> str:
    """The URL of a path below a base URL, whose query (Azure's `api-version`) stays at the end."""
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/").removesuffix("/chat/completions") + path))


def _proxy(parts: Any) -> str | None:
    """The proxy that the environment names for this URL; looked up once, because aiohttp would for every request."""
    if parts.hostname in ("127.0.0.1", "localhost", "::1") or urllib.request.proxy_bypass(parts.hostname):
        return None
    return urllib.request.getproxies().get(parts.scheme)
