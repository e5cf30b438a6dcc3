"""What an endpoint's answers cost: tokens estimated before a question is sent, and prices per token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

CHARS_PER_TOKEN = 3
"""For estimates before a question is sent; English has more, so that the estimate is on the safe side."""


def estimated_tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """Prompt tokens of a conversation, estimated from its characters."""
    return sum(len(message["content"]) for message in messages) // CHARS_PER_TOKEN + 4 * len(messages)


def price_of(prices: Mapping[str, tuple[float, float]], model: str) -> tuple[float, float] | None:
    """USD per million prompt and completion tokens of a model: by its name, or the longest beginning of it listed."""
    listed = [name for name in prices if model.startswith(name)]
    return prices[max(listed, key=len)] if listed else None


def cost_usd(prompt_tokens: int, completion_tokens: int, price: tuple[float, float]) -> float:
    """USD at a price per million prompt and completion tokens."""
    return (prompt_tokens * price[0] + completion_tokens * price[1]) / 1e6
