"""All metrics that this project exports through Ray to Prometheus, and the names of its actors.

Prometheus shows a metric as `ray_<name>`, a counter as `ray_<name>_total`. Metrics are incremented by the code where
the event happens; `docs/dashboard.md` explains them. Metrics of Ray itself are not listed here, and the scores of an
evaluation are in `evaluation/metrics.py`. Ray is imported when a metric is first used, not when it is declared.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class _Metric:
    name: str
    """Without Ray's prefix, and without the `_total` that a counter gets."""
    description: str
    tags: tuple[str, ...] = ()


class Counter(_Metric):
    """A number that only grows; Prometheus adds up those of all processes."""

    @property
    def exported(self) -> str:
        """The name in Prometheus."""
        return f"ray_{self.name}_total"

    def add(self, amount: float, **tags: str) -> None:
        """Increment; zero is ignored."""
        if amount:
            self._ray.inc(amount, tags)

    @cached_property
    def _ray(self) -> Any:
        from ray.util import metrics

        return metrics.Counter(self.name, self.description, self.tags)


class Gauge(_Metric):
    """A number that can rise and fall."""

    @property
    def exported(self) -> str:
        """The name in Prometheus."""
        return f"ray_{self.name}"

    def set(self, value: float, **tags: str) -> None:
        """Set the current value."""
        self._ray.set(value, tags)

    @cached_property
    def _ray(self) -> Any:
        from ray.util import metrics

        return metrics.Gauge(self.name, self.description, self.tags)


# --- rollouts: evaluation, collection, value rollouts -----------------------------------------------------------------
_PLAYED = ("model", "env")
EPISODES = Counter("atlas_episodes", "Episodes played; outcome is solved, failed or error", (*_PLAYED, "outcome"))
EPISODE_RETRIES = Counter(
    "atlas_episode_retries", "Episodes retried because their environment server was lost", ("env",)
)
GENERATED_TOKENS = Counter("atlas_generated_tokens", "Tokens that models generated in episodes", _PLAYED)
PREFILL_TOKENS = Counter("atlas_prefill_tokens", "Prompt tokens of episodes that engines computed", _PLAYED)
CACHED_TOKENS = Counter("atlas_cached_tokens", "Prompt tokens of episodes from the engines' prefix caches", _PLAYED)

# --- selection --------------------------------------------------------------------------------------------------------
SELECTIONS = Counter("atlas_selections", "Trajectories judged; outcome is selected or error", ("method", "outcome"))
SELECTION_CALLS = Counter(
    "atlas_selection_calls", "Questions to the selector; outcome is answered, failed or journal (asked before)",
    ("model", "outcome"),
)  # fmt: skip
SELECTION_TOKENS = Counter("atlas_selection_tokens", "Prompt and completion tokens of the selector", ("model",))
COST_USD = Counter("atlas_cost_usd", "US dollars paid for the selector's answers", ("model",))

# --- training; rank 0 counts for all ----------------------------------------------------------------------------------
_TRAINED = ("checkpoint",)
TRAIN_COUNTERS = {
    "tokens": Counter("atlas_train_tokens", "Tokens read", _TRAINED),
    "labelled_tokens": Counter("atlas_train_labelled_tokens", "Tokens that carried loss", _TRAINED),
}
TRAIN_GAUGES = {
    key: Gauge(f"atlas_train_{key}", description, _TRAINED)
    for key, description in (
        ("loss", "Loss of the last optimizer step, nats per label"),
        ("learning_rate", "Learning rate of the last optimizer step"),
        ("grad_norm", "Gradient norm of the last optimizer step, before clipping"),
        ("tokens_per_second", "Tokens read per second in the last optimizer step"),
        ("labelled_tokens_per_second", "Labels per second in the last optimizer step"),
        ("mfu", "Needed FLOP/s over the device's peak in the last optimizer step"),
        ("memory_gib", "The most memory that any worker held"),
        ("skipped_share", "Share of the plain work that was left out in the last optimizer step"),
    )
}
"""Counters and gauges by the field of `metrics/train.jsonl` that they show."""

# --- serving ----------------------------------------------------------------------------------------------------------
SESSIONS = Gauge("atlas_sessions", "Agent sessions that are open")
SESSIONS_OPENED = Counter("atlas_sessions_opened", "Agent sessions begun", ("env",))
SESSION_STEPS = Counter("atlas_session_steps", "Steps played in sessions, by agent or person", ("env", "by"))


def actor_name(what: str) -> str:
    """A name for an actor in Ray's dashboard; unique, as Ray demands."""
    return f"{what} {secrets.token_hex(3)}"


def every() -> list[Counter | Gauge]:
    """All metrics."""
    single = [value for value in globals().values() if isinstance(value, Counter | Gauge)]
    return [*single, *TRAIN_COUNTERS.values(), *TRAIN_GAUGES.values()]
