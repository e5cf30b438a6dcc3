"""The client of OpenAI-compatible endpoints: asks one question and gives its answer, or says why there is none.

It builds requests and reads answers. An option that the endpoint does not support is left out from then on. An
endpoint that refuses every question raises `EndpointError`; a question without an answer raises `CallError`. Sending
and retrying is in `transport.py`, and the reading of errors in `refusals.py`. Which endpoint to ask is decided in
`resolve.py`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from atlas_ray.errors import EndpointError
from atlas_ray.inference.cost import estimated_tokens
from atlas_ray.inference.refusals import unsupported
from atlas_ray.inference.transport import LONGEST_WAIT_S, Endpoint, Failure, Transport
from atlas_ray.inference.types import CallError, Reply
from atlas_ray.trajectory import ToolCall


class Client:
    """Puts questions to one endpoint, many at a time.

    Args:
        endpoint: URL, model and key.
        timeout_s: seconds for one try.
        max_retries: tries after the first.
        concurrency: requests under way at a time.
        pace: awaited before every try, with the tokens it may take.
        max_wait_s: seconds that a question waits because the endpoint asks it to (Retry-After), all tries together.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout_s: float,
        max_retries: int,
        concurrency: int,
        pace: Callable[[int], Awaitable[None]] | None = None,
        max_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        self.endpoint = endpoint
        self._transport = Transport(
            endpoint, timeout_s=timeout_s, max_retries=max_retries, concurrency=concurrency, pace=pace,
            max_wait_s=max_wait_s,
        )  # fmt: skip
        self.room = self._transport.room
        """Set while another question would soon be sent: who has many prepares them no earlier."""
        self._unsupported: set[str] = set()
        self._reached = False

    async def complete(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        temperature: float,
        max_tokens: int,
        schema: dict[str, Any] | None = None,
        regex: str | None = None,
        without_schema: Sequence[Mapping[str, str]] | None = None,
        seed: int | None = None,
        stop: Sequence[str] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Reply:
        """The answer to a conversation.

        Args:
            messages: role and content each, with tool calls and their answers where there are any.
            without_schema: the conversation to send instead where the endpoint supports no schema.
            temperature: 0 is greedy.
            max_tokens: length of the answer.
            schema: JSON schema that the answer shall have, where the endpoint supports it.
            regex: what the answer must match; only for vLLM servers.
            seed: of the sampling, where the endpoint supports it.
            stop: texts that end the answer, which leaves them out.
            tools: definitions of the functions that the answer may call.

        Raises:
            CallError: no answer to this question.
            EndpointError: the endpoint refused for good.
        """
        constraint: dict[str, Any] = {"structured_outputs": {"regex": regex}} if regex is not None else {}
        constraint |= {"stop": stop} if stop is not None else {}
        constraint |= {"tools": list(tools)} if tools else {}
        while True:
            sampling = self._sampling(temperature, max_tokens, schema if regex is None else None)
            random_state = {"seed": seed} if seed is not None and "seed" not in self._unsupported else {}
            asked = messages
            if without_schema is not None and "response_format" in self._unsupported:
                asked = without_schema
            body = {"model": self.endpoint.model, "messages": list(asked), **sampling, **random_state, **constraint}
            tokens = max_tokens + estimated_tokens(asked)
            said = partial(_text_of, asked)
            try:
                answered = await self._transport.request(
                    "POST", "/chat/completions", json.dumps(body).encode(), tokens=tokens, is_answer=_is_completion,
                    said=said,
                )  # fmt: skip
            except Failure as failure:
                named = unsupported(failure.error, said) if failure.error is not None else set()
                dropped = named & (sampling.keys() | random_state.keys())
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
            stop = EndpointError(f"{self.endpoint}: {refusal}")
            self._transport.refuse(stop)
            return stop
        kind = "bad_request" if failure.kind == "forbidden" else failure.kind
        return CallError(kind, failure.detail, failure.tries - 1)

    def _refusal(self, failure: Failure) -> str | None:
        """Why no question will be answered; None when another one may be."""
        if failure.kind == "quota":
            return f"the quota is used up: {failure.detail}; top it up and run again"
        if failure.kind == "key" or (failure.kind == "forbidden" and not self._reached):
            return f"the key was refused: {failure.detail}; set the right key and run again"
        if failure.kind == "model":
            return f"no such model or path: {failure.detail}; check the model's name and base_url"
        if failure.unconnected and not self._reached:
            return f"it does not answer: {failure.detail}; start it or check the URL"
        return None


def _is_completion(body: Any) -> bool:
    choice = body["choices"][0]
    return isinstance(choice["message"], dict) and not choice.get("error") and not body.get("error")


def _text_of(messages: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(str(message["content"]) for message in messages)


def _reply(body: dict[str, Any], sampling: dict[str, Any], latency_s: float, retries: int) -> Reply:
    choice = body["choices"][0]
    message = choice["message"]
    text, refusal = _content(message.get("content"))
    given = message.get("refusal")
    refusal = given if isinstance(given, str) and given else refusal
    finish = str(choice.get("finish_reason") or "stop")
    if finish.startswith("content_filter") and not refusal:
        refusal = "the endpoint's content filter withheld the answer"
    format_ = sampling.get("response_format")
    prompt_tokens, completion_tokens = _usage(body.get("usage"), has_text=bool(text))
    return Reply(
        text=_utf8(text),
        model=_utf8(str(body.get("model") or "")),
        finish_reason=_utf8(finish),
        prompt_tokens=prompt_tokens or 0,
        completion_tokens=completion_tokens or 0,
        usage_known=prompt_tokens is not None and completion_tokens is not None,
        sampling=sampling | ({"response_format": format_["type"]} if format_ else {}),
        refusal=_utf8(refusal) if refusal else None,
        tool_calls=_tool_calls(message.get("tool_calls")),
        thinking=_thinking(message),
        latency_s=round(latency_s, 4),
        retries=retries,
    )


def _tool_calls(listed: Any) -> tuple[ToolCall, ...]:
    """The calls of an answer. One without a name has an empty one, which no function has, so that the model is told."""
    found = []
    for call in listed if isinstance(listed, list) else ():
        given = call if isinstance(call, dict) else {}
        named = given.get("function")
        function: dict[str, Any] = named if isinstance(named, dict) else {}
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
        values = (str(given.get("id") or ""), str(function.get("name") or ""), text)
        identity, name, text = map(_utf8, values)
        found.append(ToolCall(id=identity, name=name, arguments=text))
    return tuple(found)


def _thinking(message: dict[str, Any]) -> str | None:
    """What a model wrote for itself, by the names of vLLM, DeepSeek and OpenRouter."""
    said = [message.get(name) for name in ("reasoning_content", "reasoning")]
    return next((_utf8(text.strip()) for text in said if isinstance(text, str) and text.strip()), None)


def _content(content: Any) -> tuple[str, str]:
    """The text of a message's content, and its refusal: a string, or a list of parts.

    Parts that think, and parts of kinds that are not known, are left out.
    """
    if isinstance(content, str):
        return content, ""
    texts, refusals = [], []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"):
            text = part.get("text")
            text = text.get("value") if isinstance(text, dict) else text
            texts.append(text if isinstance(text, str) and not part.get("thought") else "")
        elif isinstance(part, dict) and isinstance(part.get("refusal"), str):
            refusals.append(part["refusal"])
    return "".join(texts), " ".join(refusals)


def _usage(usage: Any, *, has_text: bool) -> tuple[int | None, int | None]:
    """Prompt and completion tokens; None for a count that is missing or cannot be true."""
    given = usage if isinstance(usage, dict) else {}
    prompt = _count(given.get("prompt_tokens", given.get("input_tokens")))
    completion = _count(given.get("completion_tokens", given.get("output_tokens")))
    return prompt or None, None if has_text and not completion else completion


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40
    return value if is_count else None


def _utf8(text: str) -> str:
    """`text` without the half characters that JSON's escapes can spell and UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()
