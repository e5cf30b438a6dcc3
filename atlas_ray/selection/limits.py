"""Rate limits and the budget of a selector, over the whole cluster: requests and tokens per minute, and money.

`Limits` runs as one Ray actor that every worker asks; it knows no endpoint and sends nothing itself.
`RemoteBudgetGuard` and `pace` are the workers' side.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from atlas_ray.errors import BudgetError

BURST_S = 1.0
"""A bucket that has been idle lets through at once what fits into so many seconds."""
_ASK_AGAIN_S = 0.1


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
        """Take the next `units` intervals; returns the seconds to wait until they begin."""
        now = self._clock()
        start = max(self._next, now - BURST_S + self._interval)
        self._next = start + units * self._interval
        return max(0.0, start - now)


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
            `granted`; `later` while only questions under way keep it from being granted; `spent` when it never can be.
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


class RemoteBudgetGuard:
    """A `journal.BudgetGuard` over the `Limits` actor.

    Args:
        limits: the actor.
        budget_usd: for the error's text.
    """

    def __init__(self, limits: Any, budget_usd: float) -> None:
        self._limits, self._budget_usd = limits, budget_usd

    async def reserve(self, usd: float) -> None:
        """See `journal.BudgetGuard`."""
        while (answer := await self._limits.reserve.remote(usd)) != "granted":
            if answer == "spent":
                raise BudgetError(
                    f"budget_usd of the selector: {await self._limits.spent.remote():.4f} of {self._budget_usd:g} USD "
                    f"are paid and the next question can cost {usd:.4f}; every answer is kept: raise the budget and "
                    "run again"
                )
            await asyncio.sleep(_ASK_AGAIN_S)  # questions under way may cost less than was reserved for them

    async def settle(self, reserved: float, paid: float) -> None:
        """See `journal.BudgetGuard`."""
        await self._limits.settle.remote(reserved, paid)


def pace(limits: Any) -> Callable[[int], Awaitable[None]]:
    """A function that waits until the `Limits` actor lets a request of so many tokens go."""

    async def wait(tokens: int) -> None:
        await asyncio.sleep(await limits.pace.remote(tokens))

    return wait
