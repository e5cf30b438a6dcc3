"""What a selection run cost: a row of `metrics/select.jsonl`, and the same as a line for people.

Shares and other figures of the choice itself are computed in `compare.py`.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import MutableSequence, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from atlas_ray import ray_metrics
from atlas_ray.trajectory import Selection

if TYPE_CHECKING:
    from atlas_ray.selection.compare import SelectionFigures


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


class Tally:
    """Adds up what a run's selections cost as they come, so that no row has to be kept.

    Args:
        method: the selection method.
    """

    def __init__(self, method: str) -> None:
        self._method = method
        self.calls = Calls(latencies_s=array("d"))
        self.rows = self.error_rows = 0
        self._elided = self._windowed = self._prompt = self._completion = 0
        self._filtered: Counter[str] = Counter()
        self._cost = 0.0

    def add(self, selection: Selection, calls: Calls) -> None:
        """Count a selection, and what its calls took."""
        ray_metrics.SELECTIONS.add(1, method=self._method, outcome="error" if selection.error else "selected")
        self.calls.add(calls)
        self.rows += 1
        self.error_rows += selection.error is not None
        self._elided += "elided" in selection.provenance
        self._windowed += "windows" in selection.provenance
        for name, steps in selection.provenance.get("filtered", {}).items():
            self._filtered[name] += len(steps)
        self._prompt += selection.usage.prompt_tokens
        self._completion += selection.usage.completion_tokens
        self._cost += selection.usage.cost_usd

    def summary(self, figures: SelectionFigures, failed: int, seconds: float) -> dict[str, Any]:
        """The row of the run.

        Args:
            figures: of the selection.
            failed: failed trajectories among those that were judged.
            seconds: wall-clock time.

        Returns:
            Counts, shares, cost, latencies, and error rows by kind. `filtered` counts the chosen steps that each
            filter removed; `truth` is as in `SelectionFigures`.
        """
        return {
            "selection": figures.name,
            "method": figures.method,
            "trajectories": self.rows,
            "failed_trajectories": failed,
            "critical_steps": figures.picked,
            "filtered": dict(self._filtered),
            "share_of_steps": _rounded(figures.step_share),
            "share_of_tokens": _rounded(figures.token_share),
            "truth": None if figures.truth is None else asdict(figures.truth),
            "errors": figures.errors,
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
    text = f"{summary['trajectories']} trajectories"
    if summary["failed_trajectories"]:
        text += f" ({summary['failed_trajectories']} of which failed)"
    text += f", {summary['critical_steps']} critical steps"
    if summary["share_of_steps"] is not None:
        of_tokens = summary["share_of_tokens"]
        text += f" ({summary['share_of_steps']:.0%} of steps"
        text += f", {of_tokens:.0%} of their tokens)" if of_tokens is not None else ")"
    for name, steps in summary["filtered"].items():
        text += f", {steps} more removed by the filter {name}"
    if summary["truth"] is not None:
        found = summary["truth"]
        text += f"; against the truth: precision {_percent(found['precision'])}, recall {_percent(found['recall'])}"
    if summary["calls"] or summary["cache_hits"]:
        text += f"; {summary['calls']} calls, {summary['retries']} retries, {summary['cache_hits']} from the journal"
        text += f", {summary['prompt_tokens']} + {summary['completion_tokens']} tokens, {summary['cost_usd']:.4f} USD"
    if summary["latency_p50_s"] is not None:
        text += f", latency p50 {summary['latency_p50_s']:.2f} s, p95 {summary['latency_p95_s']:.2f} s"
    if summary["errors"]:
        text += "; errors: " + ", ".join(f"{kind} {count}" for kind, count in summary["errors"].items())
    return text


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f} %"


def _quantile(values: Sequence[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
