"""What the explorer in the page shows, as data: trajectories with every method's picks, episodes of two models.

The page's script (`templates/explorer.js`) only filters and draws it. A page must stay light, so a large run is sampled
evenly up to a number and a size, and the page says so; token masks are kept for the first trajectories of the sample.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from atlas_ray.chat import encode
from atlas_ray.report.data import RunData
from atlas_ray.report.view import conversation, rule_of, spread
from atlas_ray.trajectory import Episode, Selection, Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_ROWS = 2_000
"""Trajectories, and pairs of episodes, in a page."""
MOST_BYTES = 20_000_000
"""Of each of the two."""
MOST_MASKS = 200
"""Trajectories that bring their tokens."""

T = TypeVar("T")


def payload(data: RunData, tokenizer: PreTrainedTokenizerBase | None = None) -> dict[str, Any]:
    """Everything the explorer knows: `methods`, `trajectories`, `episodes`, `models`, and `said` of what is left out.

    Args:
        data: the run.
        tokenizer: for the loss mask on the real tokens; None leaves the masks out.
    """
    by_id = {method: {row.trajectory_id: row for row in rows} for method, rows in data.selections.items()}
    masks = iter(range(MOST_MASKS))

    def row(trajectory: Trajectory) -> dict[str, Any]:
        mask = tokenizer if next(masks, None) is not None else None
        return _trajectory(data, trajectory, by_id, mask)

    chosen, left = _sample(list(data.trajectories.values()), row)
    said = [f"{len(chosen)} of {left + len(chosen)} trajectories are here, at even distances."] if left else []
    if tokenizer is not None and len(chosen) > MOST_MASKS:
        said.append(f"The first {MOST_MASKS} bring their tokens.")
    names = [name for name in ("base", data.tuned[0] if data.tuned else "") if name in data.models]
    pairs, left = _sample(_pairs(data, names), lambda pair: _pair(data, names, pair)) if len(names) == 2 else ([], 0)
    if left:
        said.append(f"{len(pairs)} of {left + len(pairs)} test episodes are here, failures of the tuned model first.")
    return {
        "methods": list(data.selections), "models": names, "trajectories": chosen, "episodes": pairs,
        "said": " ".join(said),
    }  # fmt: skip


def embed(value: Any) -> str:
    """`value` as JSON that can stand inside a script element: no character of it can end the element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(
        {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}
    )


def _sample(items: Sequence[T], row: Callable[[T], dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Rows of items at even distances as far as number and size allow, and how many were left out."""
    kept: list[dict[str, Any]] = []
    size = 0
    for item in spread(items, MOST_ROWS):
        made = row(item)
        size += len(json.dumps(made, ensure_ascii=False).encode("utf-8", "replace"))
        if size > MOST_BYTES:
            break
        kept.append(made)
    return kept, len(items) - len(kept)


def _trajectory(
    data: RunData, trajectory: Trajectory, by_id: dict[str, dict[str, Any]], tokenizer: PreTrainedTokenizerBase | None
) -> dict[str, Any]:
    talk = conversation(trajectory.messages, rule_of(data, trajectory.env))
    picks = {}
    for method, rows in by_id.items():
        if (chosen := rows.get(trajectory.trajectory_id)) is not None:
            picks[method] = {
                "steps": chosen.steps, "scores": chosen.scores, "categories": chosen.categories,
                "error": chosen.error, "curve": _curve(chosen),
                "note": "\n".join(text for text in (chosen.plan, chosen.reason) if text),
            }  # fmt: skip
    row: dict[str, Any] = {
        "id": trajectory.trajectory_id, "env": trajectory.env, "n": trajectory.n_steps, "solved": trajectory.success,
        "source": trajectory.source, "opening": talk.opening, "rounds": _rounds(talk.rounds), "picks": picks,
        "disagreement": _disagreement(picks),
    }  # fmt: skip
    if tokenizer is not None and trajectory.n_steps:
        encoded = encode(trajectory, tokenizer)
        row["tokens"] = [str(tokenizer.decode([token])) for token in encoded.ids]
        row["spans"] = encoded.spans
    return row


def _curve(row: Selection) -> dict[str, Any] | None:
    """What the value method knows before each step, and at the end: values, mean rewards and number of rollouts."""
    known = row.provenance
    if not {"values", "returns", "samples", "outcome"} <= known.keys():
        return None
    return {
        "values": known["values"], "returns": [*known["returns"], known["outcome"]], "samples": known["samples"],
        "estimate": known.get("estimate", "discounted"),
    }  # fmt: skip


def _rounds(rounds: Iterable[Any]) -> list[list[str]]:
    return [[item.thought, item.text if item.action is None else item.action, item.observation] for item in rounds]


def _disagreement(picks: dict[str, dict[str, Any]]) -> float:
    """1 - mean Jaccard overlap of all pairs of methods that answered; 0 with fewer than two."""
    sets = [set(pick["steps"]) for method, pick in picks.items() if not pick["error"] and method != "all"]
    pairs = [(a, b) for i, a in enumerate(sets) for b in sets[i + 1 :] if a | b]
    return round(1 - sum(len(a & b) / len(a | b) for a, b in pairs) / len(pairs), 3) if pairs else 0.0


def _pairs(data: RunData, names: Sequence[str]) -> list[tuple[Episode, Episode]]:
    """Every test episode that both models played, failures of the second first."""
    first, second = ({(e.env, e.task, e.seed): e for e in data.models[name].episodes} for name in names)
    keys = sorted(first.keys() & second.keys(), key=lambda key: (second[key].success, key))
    return [(first[key], second[key]) for key in keys]


def _pair(data: RunData, names: Sequence[str], pair: tuple[Episode, Episode]) -> dict[str, Any]:
    sides = []
    for name, episode in zip(names, pair, strict=True):
        talk = conversation(episode.messages, rule_of(data, episode.env))
        sides.append(
            {
                "model": name, "score": episode.score, "solved": episode.success, "stop": episode.stop,
                "error": episode.error, "opening": talk.opening, "rounds": _rounds(talk.rounds),
            }
        )  # fmt: skip
    return {"env": pair[0].env, "task": pair[0].task, "seed": pair[0].seed, "sides": sides}
