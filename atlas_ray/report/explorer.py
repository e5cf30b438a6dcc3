"""The data of the explorer in the page: trajectories with the picks of every selection, and episodes of two models.

The page's scripts only filter it (`templates/explorer.js`) and draw it (`templates/drawings.js`); the live view draws
the same rows one at a time. A page must stay light, so a large run is sampled evenly up to a number and a size, and the
page says so; the first trajectories of the sample come with token masks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from atlas_ray.chat import encode
from atlas_ray.errors import DataError
from atlas_ray.report.comparisons import tuned_on_all
from atlas_ray.report.data import RunData
from atlas_ray.report.selections import classes
from atlas_ray.report.view import Exchange, conversation, rule_of, spread
from atlas_ray.selection.compare import Figures, kinds_of
from atlas_ray.training.spans import labelled
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


def payload(data: RunData, found: Figures, tokenizer: PreTrainedTokenizerBase | None = None) -> dict[str, Any]:
    """Everything the explorer knows.

    `selections` has the CSS class of every selection by name; `said` tells what was left out.

    Args:
        data: the run.
        found: the figures of its selections.
        tokenizer: for the loss mask on the real tokens; None leaves the masks out.
    """
    by_id = {name: {row.trajectory_id: row for row in rows} for name, rows in data.selections.items()}
    drawn, comparable = classes(found), comparable_in(found)
    masks = iter(range(MOST_MASKS))

    def row(trajectory: Trajectory) -> dict[str, Any]:
        mask = tokenizer if next(masks, None) is not None else None
        return trajectory_row(data, trajectory, by_id, drawn, comparable, mask)

    chosen, left = _sample(list(data.trajectories.values()), row)
    said = [f"{len(chosen)} of {left + len(chosen)} trajectories are here, at even distances."] if left else []
    if tokenizer is not None and len(chosen) > MOST_MASKS:
        said.append(f"The first {MOST_MASKS} bring their tokens.")
    refused = [made["refused"] for made in chosen if "refused" in made]
    if refused:
        said.append(f"{len(refused)} of these cannot be tokenised ({refused[0]}).")
    names = _side_by_side(data)
    pairs, left = _sample(_pairs(data, names), lambda pair: _pair(data, names, pair)) if len(names) == 2 else ([], 0)
    if left:
        said.append(f"{len(pairs)} of {left + len(pairs)} test episodes are here, at even distances.")
    return {
        "selections": drawn, "models": names, "trajectories": chosen, "episodes": pairs,
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


def comparable_in(found: Figures) -> set[str]:
    """The selections that count for how much the picks of a trajectory disagree."""
    return {name for overlap in found.overlaps for name in (overlap.first, overlap.second)}


def trajectory_row(
    data: RunData,
    trajectory: Trajectory,
    by_id: Mapping[str, Mapping[str, Selection]],
    drawn: Mapping[str, str],
    comparable: Collection[str],
    tokenizer: PreTrainedTokenizerBase | None,
) -> dict[str, Any]:
    """A trajectory as `templates/drawings.js` draws it.

    Args:
        data: the run; its `cards` and `config` are read.
        trajectory: one of it.
        by_id: for every selection by name, rows by trajectory id.
        drawn: the CSS class of every selection.
        comparable: the selections that count for `disagreement`.
        tokenizer: for the loss mask on the real tokens; None leaves it out.
    """
    talk = conversation(trajectory.messages, rule_of(data, trajectory.env))
    picks = {}
    for name, rows in by_id.items():
        if (chosen := rows.get(trajectory.trajectory_id)) is not None:
            picks[name] = {
                "steps": chosen.steps, "weights": chosen.weights, "scores": chosen.scores,
                "categories": chosen.categories, "error": chosen.error, "curve": _curve(chosen),
                "class": drawn.get(name),
                "note": "\n".join(text for text in (chosen.plan, chosen.reason) if text),
            }  # fmt: skip
    row: dict[str, Any] = {
        "id": trajectory.trajectory_id, "env": trajectory.env, "n": trajectory.n_steps, "solved": trajectory.success,
        "source": trajectory.source, "opening": talk.opening, "exchanges": _exchanges(talk.exchanges), "picks": picks,
        "kinds": kinds_of(trajectory),
        "disagreement": _disagreement({name: pick for name, pick in picks.items() if name in comparable}),
    }  # fmt: skip
    if tokenizer is not None and trajectory.n_steps:
        try:
            encoded = encode(trajectory, tokenizer, thinks=data.config.evaluate.thinking.on)
        except DataError as error:
            row["refused"] = str(error)
        else:
            row["tokens"] = [str(tokenizer.decode([token])) for token in encoded.ids]
            row["spans"] = [
                labelled(span, action, data.config.train)
                for span, action in zip(encoded.spans, encoded.actions, strict=True)
            ]
    return row


def _curve(row: Selection) -> dict[str, Any] | None:
    """Mean rewards before each step and at the end, where a method estimated them, and the number of rollouts.

    `values` is None where the mean rewards are the values.
    """
    known = row.provenance
    if not {"values", "returns", "samples", "outcome"} <= known.keys():
        return None
    returns = [*known["returns"], known["outcome"]]
    values = None if known["values"] == returns else known["values"]
    return {"values": values, "returns": returns, "samples": known["samples"]}


def _exchanges(items: Iterable[Exchange]) -> list[list[str]]:
    return [[item.thought, item.text if item.action is None else item.action, item.observation] for item in items]


def _disagreement(picks: dict[str, dict[str, Any]]) -> float:
    """1 - mean Jaccard overlap of all pairs of selections that answered; 0 with fewer than two."""
    sets = [set(pick["steps"]) for pick in picks.values() if not pick["error"]]
    pairs = [(a, b) for i, a in enumerate(sets) for b in sets[i + 1 :] if a | b]
    return round(1 - sum(len(a & b) / len(a | b) for a, b in pairs) / len(pairs), 3) if pairs else 0.0


def _side_by_side(data: RunData) -> list[str]:
    """The first tuned model, after the one tuned on all steps, or else after the base; fewer where they are missing."""
    lead = next((models[0] for models in data.tuned.values()), None)
    if lead is None:
        return [model.name for model in data.of_kind("base")]
    rival = tuned_on_all(data, lead)
    return [model.name for model in (*(data.of_kind("base") if rival is None else (rival,)), lead)]


def _pairs(data: RunData, names: Sequence[str]) -> list[tuple[Episode, Episode]]:
    """The test episodes that both models played: those that only the second solved, only the first, then the others."""
    first, second = ({(e.env, e.split_task, e.seed): e for e in data.models[name].episodes} for name in names)
    keys = sorted(
        first.keys() & second.keys(),
        key=lambda key: (first[key].success == second[key].success, first[key].success, key),
    )
    return [(first[key], second[key]) for key in keys]


def _pair(data: RunData, names: Sequence[str], pair: tuple[Episode, Episode]) -> dict[str, Any]:
    sides = [episode_side(data, name, episode) for name, episode in zip(names, pair, strict=True)]
    return {"env": pair[0].env, "task": pair[0].task, "seed": pair[0].seed, "sides": sides}


def episode_side(data: RunData, name: str, episode: Episode) -> dict[str, Any]:
    """An episode as `templates/drawings.js` draws it, under the name of who played it."""
    talk = conversation(episode.messages, rule_of(data, episode.env))
    return {
        "model": name, "score": episode.score, "solved": episode.success, "stop": episode.stop,
        "error": episode.error, "opening": talk.opening, "exchanges": _exchanges(talk.exchanges),
    }  # fmt: skip
