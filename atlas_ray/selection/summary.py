"""What a selection run took and what came out of it, in figures (a row of `metrics/select.jsonl`)."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Any

from atlas_ray import ray_metrics
from atlas_ray.trajectory import Selection, Trajectory


@dataclass
class Calls:
    """What questions to the selector took; for the run's report, never for a row of the selection."""

    made: int = 0
    hits: int = 0
    """Answers that the journal already had."""
    retries: int = 0
    latencies_s: MutableSequence[float] = field(default_factory=list)
    """Of the calls that were answered, retries included."""
    paid_usd: float = 0.0
    """For the calls made; the rest of a selection's cost was paid before."""

    def add(self, other: Calls) -> None:
        """Count `other`'s calls too."""
        self.made += other.made
        self.hits += other.hits
        self.retries += other.retries
        self.latencies_s.extend(other.latencies_s)
        self.paid_usd += other.paid_usd


def step_tokens(trajectories: Sequence[Trajectory], count: Callable[[list[str]], list[int]]) -> dict[str, list[int]]:
    """Tokens of every step, by trajectory id: its text and the end-of-turn token (DESIGN.md, decision 3).

    The texts are counted by themselves, which is much faster than `chat.encode` and differs from it only where a
    template's whitespace merges with the text.

    Args:
        trajectories: whose steps.
        count: tokens of texts; see `models.token_counter`.
    """
    counts = iter(count([message.content for trajectory in trajectories for message in trajectory.steps]))
    return {each.trajectory_id: [next(counts) + 1 for _ in each.steps] for each in trajectories}


class Tally:
    """Adds up a run's selections as they come, so that none has to be kept.

    Args:
        method: the selection method.
    """

    def __init__(self, method: str) -> None:
        self.method, self.errors = method, Counter[str]()
        self.calls = Calls(latencies_s=array("d"))
        self.rows = self.error_rows = 0
        self._steps = self._elided = self._windowed = self._prompt = self._completion = 0
        self._cost = 0.0
        self._shares, self._shared = 0.0, 0

    def add(self, selection: Selection, n_steps: int, calls: Calls) -> None:
        """Count a selection in a trajectory of `n_steps`, and what its calls took."""
        ray_metrics.SELECTIONS.add(1, method=self.method, outcome="error" if selection.error else "selected")
        self.calls.add(calls)
        self.rows += 1
        self._steps += len(selection.steps)
        self._elided += "elided" in selection.provenance
        self._windowed += "windows" in selection.provenance
        self._prompt += selection.usage.prompt_tokens
        self._completion += selection.usage.completion_tokens
        self._cost += selection.usage.cost_usd
        if selection.error is not None:
            self.error_rows += 1
            self.errors[selection.error.partition(":")[0]] += 1
        elif n_steps:
            self._shares += len(selection.steps) / n_steps
            self._shared += 1

    def summary(self, share_of_tokens: float | None, seconds: float) -> dict[str, Any]:
        """The figures of the run.

        Args:
            share_of_tokens: mean share of the steps' tokens in the steps selected; None where it is not known.
            seconds: wall-clock time.

        Returns:
            Counts, cost, latencies, error rows by kind, and the mean share of steps over the trajectories that have
            steps and a selection.
        """
        return {
            "method": self.method,
            "trajectories": self.rows,
            "critical_steps": self._steps,
            "share_of_steps": round(self._shares / self._shared, 6) if self._shared else None,
            "share_of_tokens": share_of_tokens,
            "errors": dict(sorted(self.errors.items())),
            "calls": self.calls.made,
            "retries": self.calls.retries,
            "cache_hits": self.calls.hits,
            "prompt_tokens": self._prompt,
            "completion_tokens": self._completion,
            "cost_usd": round(self._cost, 6),
            "paid_usd": round(self.calls.paid_usd, 6),
            "latency_p50_s": _quantile(self.calls.latencies_s, 0.5),
            "latency_p95_s": _quantile(self.calls.latencies_s, 0.95),
            "elided": self._elided,
            "windowed": self._windowed,
            "seconds": round(seconds, 3),
        }


def line(summary: dict[str, Any]) -> str:
    """The summary as one line for people."""
    text = f"{summary['trajectories']} trajectories, {summary['critical_steps']} critical steps"
    if summary["share_of_steps"] is not None:
        of_tokens = summary["share_of_tokens"]
        text += f" ({summary['share_of_steps']:.0%} of steps"
        text += f", {of_tokens:.0%} of their tokens)" if of_tokens is not None else ")"
    if summary["calls"] or summary["cache_hits"]:
        text += f"; {summary['calls']} calls, {summary['retries']} retries, {summary['cache_hits']} from the journal"
        text += f", {summary['prompt_tokens']} + {summary['completion_tokens']} tokens, {summary['cost_usd']:.4f} USD"
    if summary["latency_p50_s"] is not None:
        text += f", latency p50 {summary['latency_p50_s']:.2f} s, p95 {summary['latency_p95_s']:.2f} s"
    if summary["errors"]:
        text += "; errors: " + ", ".join(f"{kind} {count}" for kind, count in summary["errors"].items())
    return text


def share_of_tokens(steps: Sequence[int], tokens: Sequence[int]) -> float:
    """Share of a trajectory's step tokens that its selected steps hold."""
    return sum(tokens[step] for step in steps) / sum(tokens)


def _quantile(values: Sequence[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
