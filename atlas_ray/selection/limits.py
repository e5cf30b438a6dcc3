"""What holds the `llm` method back, over the whole cluster: requests and tokens per minute, and money.

`Limits` runs as one Ray actor that every worker asks; it knows no endpoint and sends nothing itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

BURST_S = 1.0
"""A bucket that has been idle lets through what fits into so many seconds at once."""


class TokenBucket:
    """A rate limit: even spacing, with a burst of at most one second's worth.

    Args:
        per_minute: units per minute.
        clock: seconds, for tests.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval, self._clock = 60 / per_minute, clock
        self._next = clock()

    def reserve(self, units: int = 1) -> float:
        """Take the next place, as wide as `units`; returns the seconds to wait for it."""
        now = self._clock()
        place = max(self._next, now - BURST_S + self._interval)
        self._next = place + units * self._interval
        return max(0.0, place - now)


class Limits:
    """Both rates and the budget.

    Args:
        requests_per_minute: None: no limit.
        tokens_per_minute: None: no limit.
        budget_usd: None: no limit.
        spent_usd: what earlier runs in this run directory paid.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        budget_usd: float | None,
        spent_usd: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = TokenBucket(requests_per_minute, clock) if requests_per_minute else None
        self._tokens = TokenBucket(tokens_per_minute, clock) if tokens_per_minute else None
        self._budget, self._spent, self._reserved = budget_usd, spent_usd, 0.0

    def pace(self, tokens: int) -> float:
        """Seconds to wait before a request of so many tokens is sent."""
        requests = self._requests.reserve() if self._requests else 0.0
        return max(requests, self._tokens.reserve(tokens) if self._tokens else 0.0)

    def reserve(self, usd: float) -> Literal["granted", "later", "spent"]:
        """Ask for the most that a question can cost.

        Returns:
            `granted`; `later` while only questions under way keep it from being granted; `spent` when it never will be.
        """
        if self._budget is not None and self._spent + usd > self._budget:
            return "spent"
        if self._budget is not None and self._spent + self._reserved + usd > self._budget:
            return "later"
        self._reserved += usd
        return "granted"

    def settle(self, reserved: float, paid: float) -> None:
        """A granted question is answered, or failed."""
        self._reserved -= reserved
        self._spent += paid

    def spent(self) -> float:
        """USD paid so far, earlier runs included."""
        return self._spent
