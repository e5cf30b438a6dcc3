"""The client of OpenAI-compatible endpoints: one question, one answer, every fault named.

Built on the `openai` SDK, which retries 429, 5xx, timeouts and broken connections with backoff and honours Retry-After
(up to two minutes). Added here: bodies are read with a size limit and a deadline per try, a body that is no answer is
a broken connection, every try can be paced, unsupported options are dropped for the run, and the key never shows.
An endpoint that refuses for good raises `EndpointError`; a question that got no answer raises `CallError`.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx2
import openai
from pydantic import BaseModel, ConfigDict, SecretStr

from atlas_ray.config import LlmSelectorConfig
from atlas_ray.errors import EndpointError
from atlas_ray.inference.cost import estimated_tokens

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-4o"
"""The paper's selector (section 4.2)."""
MAX_BODY_BYTES = 4 << 20
"""A longer answer is given up: no honest one comes near."""


class Endpoint(BaseModel):
    """Where questions go; prints without its key."""

    model_config = ConfigDict(frozen=True)

    base_url: str
    model: str
    key: SecretStr = SecretStr("none")


@dataclass(frozen=True)
class Reply:
    """An answer and what it took."""

    text: str
    model: str
    """The model's name as the endpoint gave it."""
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    sampling: dict[str, Any]
    """Options that were sent, those an endpoint does not support left out."""
    refusal: str | None = None
    """The endpoint's words when it withheld an answer."""
    latency_s: float = 0.0
    retries: int = 0


class CallError(Exception):
    """A question that got no answer.

    Args:
        kind: `timeout`, `connection`, `rate_limit`, `server`, `malformed`, `too_large`, `context`, `bad_request`.
        detail: one line.
        retries: tries after the first.
    """

    def __init__(self, kind: str, detail: str, retries: int = 0) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail, self.retries = kind, detail, retries


def resolve(config: LlmSelectorConfig, environ: Mapping[str, str]) -> Endpoint | None:
    """The endpoint that configuration and environment name; None when they name none (the on-board model serves then).

    Raises:
        EndpointError: URL or key is unusable, or the model is not named and the endpoint does not list exactly one.
    """
    key = environ.get(config.api_key_env, "").strip()
    base_url = _base_url(config, environ)
    if base_url is None:
        return None
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EndpointError(
            f"selector endpoint {base_url!r}: no http(s) URL; mend select.llm.base_url or OPENAI_BASE_URL"
        )
    at_openai = parts.hostname == "api.openai.com"
    if at_openai and not key:
        raise EndpointError(f"selector endpoint {base_url}: the key is missing; set {config.api_key_env}")
    if not key.isascii() or not key.isprintable():
        raise EndpointError(f"{config.api_key_env}: the key has characters that no HTTP header can carry; set it again")
    endpoint = Endpoint(base_url=base_url, model=config.model or OPENAI_MODEL, key=SecretStr(key or "none"))
    if config.model or at_openai:
        return endpoint
    return endpoint.model_copy(update={"model": _only_model(endpoint, config)})


def endpoint_identity(config: LlmSelectorConfig, stand_in: str, environ: Mapping[str, str] = os.environ) -> str:
    """Names what would answer, without asking it: for the key of a stage's manifest.

    Args:
        config: of the selector.
        stand_in: the model that serves where no endpoint is named.
        environ: environment variables.
    """
    base_url = _base_url(config, environ)
    if base_url is None:
        return f"stand-in {stand_in}"
    default = OPENAI_MODEL if urlsplit(base_url).hostname == "api.openai.com" else "its only model"
    return f"{config.model or default} at {base_url}"


def _base_url(config: LlmSelectorConfig, environ: Mapping[str, str]) -> str | None:
    named = config.base_url or environ.get("OPENAI_BASE_URL", "").strip()
    return named or (OPENAI_URL if environ.get(config.api_key_env, "").strip() else None)


def _only_model(endpoint: Endpoint, config: LlmSelectorConfig) -> str:
    client = openai.OpenAI(
        base_url=endpoint.base_url, api_key=endpoint.key.get_secret_value(), max_retries=config.max_retries,
        timeout=config.timeout_s, http_client=httpx2.Client(trust_env=not _is_loopback(endpoint.base_url)),
    )  # fmt: skip
    with client:
        try:
            names = sorted(model.id for model in client.models.list())
        except openai.APIError as error:
            raise EndpointError(f"{_where(endpoint)}: its models cannot be listed: {_line(error, endpoint)}") from None
        except (TypeError, AttributeError, ValueError) as error:
            raise EndpointError(f"{_where(endpoint)}: /models is no OpenAI answer; check the URL (.../v1)") from error
    if len(names) != 1:
        found = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "none"
        raise EndpointError(f"{_where(endpoint)}: it serves {len(names)} models ({found}); set select.llm.model")
    return names[0]


class _MalformedError(httpx2.RemoteProtocolError):
    """A body that is no chat completion; the SDK treats it as a broken connection and tries again."""


class _TooLargeError(openai.OpenAIError):
    """A body beyond the limit; not tried again."""


class _RefusedError(openai.OpenAIError):
    """The endpoint refused another question for good: who waited for a slot need not hear it from the endpoint."""


@dataclass
class _Call:
    """The call under way in a task."""

    tokens: int
    """Prompt tokens (estimated) and the answer's maximum together."""
    tries: int = 0
    start: float = 0.0
    """When the first try had its slot."""


_call: ContextVar[_Call] = ContextVar("call")


class _Http(openai.DefaultAioHttpClient):
    """HTTP for chat completions: whole bodies, limited in size and time, checked to be answers.

    On aiohttp, which comes with Ray: a call costs half of the processor time it costs on httpcore.
    """

    pace: Callable[[int], Awaitable[None]] | None = None
    deadline_s: float = 600.0
    slots: asyncio.Semaphore
    """Held by a try, not by a question: one that waits before it tries again keeps no other from being asked."""
    refused: EndpointError | None = None

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """See httpx2; always returns a response whose body has been read."""
        if self.pace is not None:
            await self.pace(_call.get().tokens)
        async with self.slots:
            if self.refused is not None:
                raise _RefusedError
            call = _call.get()
            call.tries += 1
            call.start = call.start or time.monotonic()
            try:
                async with asyncio.timeout(self.deadline_s):
                    response = await super().send(request, **(options | {"stream": True}))
                    try:
                        body = await _read(response)
                    finally:
                        await response.aclose()
            except TimeoutError:
                raise httpx2.ReadTimeout(f"no whole answer within {self.deadline_s:g} s", request=request) from None
        if response.is_success:
            _check(body, request)
        headers = [(k, v) for k, v in response.headers.raw if k.lower() not in (b"content-encoding", b"content-length")]
        return httpx2.Response(response.status_code, headers=headers, content=body, request=request)


async def _read(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _TooLargeError(f"the answer exceeds {MAX_BODY_BYTES >> 20} MiB")
    return bytes(body)


def _check(body: bytes, request: httpx2.Request) -> None:
    try:
        choice = json.loads(body)["choices"][0]
        if isinstance(choice["message"], dict):
            return
    except (ValueError, RecursionError, LookupError, TypeError):
        pass  # all mean the same: said below
    shown = body[:120].decode("utf-8", "replace")
    raise _MalformedError(f"the body is no chat completion: {shown!r}", request=request)


class Client:
    """Puts questions to one endpoint, many at a time.

    Args:
        endpoint: URL, model and key.
        timeout_s: seconds for one try.
        max_retries: tries after the first.
        concurrency: requests under way at a time.
        pace: awaited before every try, with the tokens it may take.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout_s: float,
        max_retries: int,
        concurrency: int,
        pace: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._http = _Http(
            trust_env=not _is_loopback(endpoint.base_url),
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, 15.0), pool=None),
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )
        self._http.pace, self._http.deadline_s, self._http.slots = pace, timeout_s, asyncio.Semaphore(concurrency)
        self._sdk = openai.AsyncOpenAI(
            base_url=endpoint.base_url, api_key=endpoint.key.get_secret_value(), max_retries=max_retries,
            timeout=self._http.timeout, http_client=self._http,
        )  # fmt: skip
        self._unsupported: set[str] = set()
        self._reached = False

    async def complete(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        temperature: float,
        max_tokens: int,
        schema: dict[str, Any] | None = None,
        regex: str | None = None,
        without_schema: Sequence[Mapping[str, str]] | None = None,
        seed: int | None = None,
        stop: Sequence[str] | None = None,
    ) -> Reply:
        """The answer to a conversation.

        Args:
            messages: role and content each.
            without_schema: the conversation to send instead where the endpoint supports no schema.
            temperature: 0 is greedy.
            max_tokens: length of the answer.
            schema: JSON schema that the answer shall have, where the endpoint supports it.
            regex: what the answer must match; only for vLLM servers.
            seed: of the sampling, where the endpoint supports it.
            stop: texts that end the answer, which leaves them out.

        Raises:
            CallError: no answer to this question.
            EndpointError: the endpoint refused for good.
        """
        constraint: dict[str, Any] = {"structured_outputs": {"regex": regex}} if regex is not None else {}
        constraint |= {name: value for name, value in (("seed", seed), ("stop", stop)) if value is not None}
        while True:
            sampling = self._sampling(temperature, max_tokens, schema if regex is None else None)
            asked = messages
            if without_schema is not None and "response_format" in self._unsupported:
                asked = without_schema
            call = _Call(max_tokens + estimated_tokens(asked))
            _call.set(call)
            try:
                # not `chat.completions.create`, whose typed parameters take longer to transform than to send
                response = await self._sdk.post(
                    "/chat/completions",
                    body={"model": self.endpoint.model, "messages": list(asked), **sampling, **constraint},
                    cast_to=httpx2.Response,
                    options={"security": {"bearer_auth": True}},
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                dropped = _objection(error) & sampling.keys()
                if not dropped:
                    raise self._failure(error, call.tries - 1) from None
                self._unsupported |= dropped
                continue
            except openai.OpenAIError as error:
                raise self._failure(error, call.tries - 1) from None
            self._reached = True
            if regex is not None:
                sampling["regex"] = regex
            return _reply(response.json(), sampling, time.monotonic() - call.start, call.tries - 1)

    async def close(self) -> None:
        """Close connections."""
        await self._sdk.close()

    def _sampling(self, temperature: float, max_tokens: int, schema: dict[str, Any] | None) -> dict[str, Any]:
        """The options of a request, those left out that the endpoint was found not to support."""
        wanted: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
        if schema is not None:
            wanted["response_format"] = {
                "type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}
            }  # fmt: skip
        options = {name: value for name, value in wanted.items() if name not in self._unsupported}
        return options if "max_tokens" in options else options | {"max_completion_tokens": max_tokens}

    def _failure(self, error: openai.OpenAIError, retries: int) -> CallError | EndpointError:
        """What an SDK error means: for this question alone, or for all (which is remembered)."""
        refusal = self._refusal(error)
        if refusal is not None:
            self._http.refused = EndpointError(f"{_where(self.endpoint)}: {refusal}")
        if self._http.refused is not None and (refusal is not None or isinstance(error, _RefusedError)):
            return self._http.refused
        match error:
            case openai.APIConnectionError() if isinstance(error.__cause__, _MalformedError):
                kind = "malformed"
            case openai.APITimeoutError() if not isinstance(error.__cause__, httpx2.ConnectTimeout):
                kind = "timeout"
            case openai.APIConnectionError():
                kind = "connection"
            case openai.RateLimitError():
                kind = "rate_limit"
            case openai.InternalServerError():
                kind = "server"
            case _TooLargeError():
                kind = "too_large"
            case openai.APIError() if error.code == "context_length_exceeded" or "context length" in error.message:
                kind = "context"
            case _:
                kind = "bad_request"
        return CallError(kind, _line(error, self.endpoint), retries)

    def _refusal(self, error: openai.OpenAIError) -> str | None:
        """Why no question will be answered; None when another one may be."""
        line = _line(error, self.endpoint)
        match error:
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return f"the key was refused: {line}; set the right key and run again"
            case openai.NotFoundError():
                return f"no such model or path: {line}; check select.llm.model and base_url"
            case openai.RateLimitError(code="insufficient_quota"):
                return f"the quota is used up: {line}; top it up and run again"
            case openai.APIConnectionError() if not self._reached and _is_unconnected(error):
                return f"it does not answer: {line}; start it or check the URL"
            case _:
                return None


def _is_unconnected(error: BaseException | None) -> bool:
    """Whether no connection came about, as against one that broke (the SDK's own errors mix the two)."""
    while error is not None:
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return True
        error = error.__cause__
    return False


def _objection(error: openai.APIStatusError) -> set[str]:
    """The options that a 400 or 422 answer says the endpoint does not know."""
    text = error.message.lower()
    named = {
        "response_format": "response_format" in text or "json_schema" in text or "guided" in text,
        "max_tokens": "max_completion_tokens" in text,
        "temperature": "temperature" in text and "support" in text,
    }
    return {name for name, is_named in named.items() if is_named}


def _reply(body: dict[str, Any], sampling: dict[str, Any], latency_s: float, retries: int) -> Reply:
    choice = body["choices"][0]
    message, usage = choice["message"], body.get("usage") or {}
    content, refusal = message.get("content"), message.get("refusal")
    finish = str(choice.get("finish_reason") or "stop")
    if finish == "content_filter" and not refusal:
        refusal = "the endpoint's content filter withheld the answer"
    format_ = sampling.get("response_format")
    return Reply(
        text=_utf8(content) if isinstance(content, str) else "",
        model=_utf8(str(body.get("model") or "")),
        finish_reason=finish,
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        sampling=sampling | ({"response_format": format_["type"]} if format_ else {}),
        refusal=_utf8(refusal) if isinstance(refusal, str) and refusal else None,
        latency_s=round(latency_s, 4),
        retries=retries,
    )


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and 0 <= value < 1 << 40 else 0


def _utf8(text: str) -> str:
    """`text` without the half characters that JSON's escapes can spell and UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _line(error: Exception, endpoint: Endpoint) -> str:
    """An error as one short line without the key."""
    cause = error.__cause__
    text = f"{error} ({cause or type(cause).__name__})" if cause is not None else str(error)
    return " ".join(_utf8(text).replace(endpoint.key.get_secret_value(), "***").split())[:300]


def _where(endpoint: Endpoint) -> str:
    parts = urlsplit(endpoint.base_url)
    host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
    return f"selector endpoint {parts.scheme}://{host}{parts.path} (model {endpoint.model})"


def _is_loopback(base_url: str) -> bool:
    return urlsplit(base_url).hostname in ("127.0.0.1", "localhost", "::1")
