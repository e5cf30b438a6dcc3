"""What a selection run took and what came out of it, in figures (a row of `metrics/select.jsonl`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atlas_ray.trajectory import Selection, Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Calls:
    """What questions to the selector took; for the run's report, never for a row of the selection."""

    made: int = 0
    hits: int = 0
    """Answers that the journal already had."""
    retries: int = 0
    latencies_s: list[float] = field(default_factory=list)
    """Of the calls that were answered, retries included."""

    def add(self, other: Calls) -> None:
        """Count `other`'s calls too."""
        self.made += other.made
        self.hits += other.hits
        self.retries += other.retries
        self.latencies_s += other.latencies_s


def step_tokens(trajectories: Iterable[Trajectory], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """Tokens of every step, by trajectory id: its text and the end-of-turn token (DESIGN.md, decision 3).

    The texts are counted by themselves, which is much faster than `chat.encode` and differs from it only where a
    template's whitespace merges with the text.
    """
    counts = {}
    for trajectory in trajectories:
        texts = [message.content for message in trajectory.steps]
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        counts[trajectory.trajectory_id] = [len(step) + 1 for step in ids]
    return counts


def summarise(
    method: str,
    trajectories: Sequence[Trajectory],
    selections: Sequence[Selection],
    calls: Calls,
    tokens: dict[str, list[int]] | None,
    seconds: float,
) -> dict[str, Any]:
    """The figures of a run.

    Args:
        method: the selection method.
        trajectories: what was judged.
        selections: one for each.
        calls: what the questions took.
        tokens: from `step_tokens`; None when no tokenizer is at hand.
        seconds: wall-clock time.

    Returns:
        Counts, cost, latencies, error rows by kind, and the mean shares of steps and of step tokens over the
        trajectories that have steps and a selection.
    """
    n_steps = {trajectory.trajectory_id: trajectory.n_steps for trajectory in trajectories}
    chosen = [s for s in selections if s.error is None and n_steps[s.trajectory_id]]
    shares = [len(s.steps) / n_steps[s.trajectory_id] for s in chosen]
    token_shares = None if tokens is None else [_share(s.steps, tokens[s.trajectory_id]) for s in chosen]
    errors = Counter(s.error.partition(":")[0] for s in selections if s.error is not None)
    return {
        "method": method,
        "trajectories": len(selections),
        "critical_steps": sum(len(s.steps) for s in selections),
        "share_of_steps": _mean(shares),
        "share_of_tokens": None if token_shares is None else _mean(token_shares),
        "errors": dict(sorted(errors.items())),
        "calls": calls.made,
        "retries": calls.retries,
        "cache_hits": calls.hits,
        "prompt_tokens": sum(s.usage.prompt_tokens for s in selections),
        "completion_tokens": sum(s.usage.completion_tokens for s in selections),
        "cost_usd": round(sum(s.usage.cost_usd for s in selections), 6),
        "latency_p50_s": _quantile(calls.latencies_s, 0.5),
        "latency_p95_s": _quantile(calls.latencies_s, 0.95),
        "elided": sum("elided" in s.provenance for s in selections),
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


def _share(steps: Sequence[int], tokens: Sequence[int]) -> float:
    return sum(tokens[step] for step in steps) / sum(tokens)


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 6) if values else None


def _quantile(values: Sequence[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
