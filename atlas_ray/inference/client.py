"""The client of OpenAI-compatible endpoints: asks one question and gives its answer, or says why there is none.

It builds requests and interprets answers and failures. An option that the endpoint does not support is left out from
then on. An endpoint that refuses every question raises `EndpointError`; a question without an answer raises
`CallError`. Sending and retrying is in `transport.py`; which endpoint to ask is decided in `resolve.py`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from atlas_ray.errors import EndpointError
from atlas_ray.inference.cost import estimated_tokens
from atlas_ray.inference.transport import Endpoint, Failure, Transport
from atlas_ray.inference.types import CallError, Reply


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
        self._transport = Transport(
            endpoint, timeout_s=timeout_s, max_retries=max_retries, concurrency=concurrency, pace=pace
        )
        self.room = self._transport.room
        """Set while another question would soon be sent: who has many prepares them no earlier."""
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
            body = {"model": self.endpoint.model, "messages": list(asked), **sampling, **constraint}
            tokens = max_tokens + estimated_tokens(asked)
            try:
                answered = await self._transport.request(
                    "POST", "/chat/completions", json.dumps(body).encode(), tokens=tokens, is_answer=_is_completion
                )
            except Failure as failure:
                dropped = _objection(failure) & sampling.keys()
                if not dropped:
                    raise self._meaning(failure) from None
                self._unsupported |= dropped
                continue
            self._reached = True
            if regex is not None:
                sampling["regex"] = regex
            return _reply(answered.body, sampling, answered.latency_s, answered.tries - 1)

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()

    def _sampling(self, temperature: float, max_tokens: int, schema: dict[str, Any] | None) -> dict[str, Any]:
        """The options of a request, those left out that the endpoint was found not to support."""
        wanted: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
        if schema is not None:
            wanted["response_format"] = {
                "type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}
            }  # fmt: skip
        options = {name: value for name, value in wanted.items() if name not in self._unsupported}
        return options if "max_tokens" in options else options | {"max_completion_tokens": max_tokens}

    def _meaning(self, failure: Failure) -> CallError | EndpointError:
        """What a failure means: for this question alone, or for all (which is remembered)."""
        refusal = self._refusal(failure)
        if refusal is not None:
            self._transport.refused = EndpointError(f"{self.endpoint}: {refusal}")
            return self._transport.refused
        kind = failure.kind
        if kind == "status":
            is_context = failure.code == "context_length_exceeded" or "context length" in failure.said
            kind = "context" if is_context else "bad_request"
        return CallError(kind, failure.detail, failure.tries - 1)

    def _refusal(self, failure: Failure) -> str | None:
        """Why no question will be answered; None when another one may be."""
        if failure.status in (401, 403):
            return f"the key was refused: {failure.detail}; set the right key and run again"
        if failure.status == 404:
            return f"no such model or path: {failure.detail}; check the model's name and base_url"
        if failure.code == "insufficient_quota":
            return f"the quota is used up: {failure.detail}; top it up and run again"
        if failure.unconnected and not self._reached:
            return f"it does not answer: {failure.detail}; start it or check the URL"
        return None


def _is_completion(body: Any) -> bool:
    return isinstance(body["choices"][0]["message"], dict)


def _objection(failure: Failure) -> set[str]:
    """The options that a 400 or 422 answer says the endpoint does not know."""
    if failure.status not in (400, 422):
        return set()
    text = failure.said
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
