"""What a model answers, wherever it runs: the answers of an engine and of an endpoint, and a question without one.

Plain data, without ray, torch or HTTP. Engines are in `engine.py`, endpoints in `client.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from atlas_ray.trajectory import ToolCall


@dataclass(frozen=True)
class Generation:
    """An engine's answer, in tokens."""

    ids: list[int]
    """Generated tokens, with the end-of-turn token where it was reached."""
    text: str
    """Their text, without special tokens."""
    finished: bool
    """False when the answer was cut at its maximum length."""
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens that the prefix cache already held."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls of the functions on offer, which are not in the text."""


class TokenScores(NamedTuple):
    """What a model says of the tokens of a sequence, from the second one on; NaN at tokens that were not asked for."""

    logprobs: list[float]
    """Natural logarithm of each token's probability, given all before it."""
    entropies: list[float]
    """Entropy in nats of the distribution that each token is from: -sum p log p over the vocabulary."""


@dataclass(frozen=True)
class Reply:
    """An endpoint's answer, and what it cost."""

    text: str
    model: str
    """The model's name as the endpoint gave it."""
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    sampling: dict[str, Any]
    """The options that were sent; those that the endpoint does not support are left out."""
    refusal: str | None = None
    """The endpoint's words when it withheld an answer."""
    latency_s: float = 0.0
    retries: int = 0
    tool_calls: tuple[ToolCall, ...] = ()
    thinking: str | None = None
    """What the model wrote for itself, where the endpoint gives it apart from the text."""
    usage_known: bool = True
    """The endpoint told how many tokens the answer took; where it did not, the counts are 0 or estimates."""


class CallError(Exception):
    """A question to an endpoint that got no answer.

    Args:
        kind: `timeout`, `connection`, `rate_limit`, `server`, `malformed`, `too_large`, `context`, `flagged` (by a
            content filter) or `bad_request`.
        detail: one line.
        retries: tries after the first.
    """

    def __init__(self, kind: str, detail: str, retries: int = 0) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail, self.retries = kind, detail, retries
