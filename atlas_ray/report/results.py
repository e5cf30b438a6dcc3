"""The table of results in the manner of the paper's Table 1: models down, environments across.

It lays out what `results.json` files say. A selection that was tuned on with several seeds gets one row per seed and a
row for their mean; all figures come from `evaluation/metrics.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from atlas_ray.evaluation.grouped import grouped
from atlas_ray.evaluation.ledger import counted
from atlas_ray.report.tables import NONE, Table, table
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode

if TYPE_CHECKING:
    from atlas_ray.environments.contract import EnvironmentCard


def result_table(store: Store, results: Sequence[Mapping[str, Any]], cards: Mapping[str, EnvironmentCard]) -> Table:
    """The table of models that were evaluated.

    Args:
        store: the run directory.
        results: the content of their `results.json`, in the order of the rows.
        cards: one for each environment in them.
    """
    return layout(with_groups(results, cards, partial(counted, store)), cards)


def with_groups(
    results: Sequence[Mapping[str, Any]],
    cards: Mapping[str, EnvironmentCard],
    episodes: Callable[[str], Sequence[Episode]],
) -> list[Mapping[str, Any]]:
    """The results, and after the last model of every selection that was trained with several seeds, their mean.

    Args:
        results: the content of one `results.json` per model.
        cards: one for each environment in them.
        episodes: those that a model's results count, by the model's name (`evaluation.ledger.counted`).

    Returns:
        A group's entry is like a model's and has `seeds`, the number of its trainings.
    """
    rows: list[Mapping[str, Any]] = []
    for result in results:
        rows.append(result)
        siblings = [other for other in results if other["kind"] == "tuned" and _training(other) == _training(result)]
        if result["kind"] == "tuned" and len(siblings) > 1 and result is siblings[-1]:
            rows.append(_group(siblings, cards, episodes))
    return rows


def _training(result: Mapping[str, Any]) -> tuple[str | None, str]:
    """What trainings with different seeds share: the selection and the objective."""
    return result["selection"], result.get("objective") or "sft"


def _group(
    siblings: Sequence[Mapping[str, Any]],
    cards: Mapping[str, EnvironmentCard],
    episodes: Callable[[str], Sequence[Episode]],
) -> dict[str, Any]:
    played = [list(episodes(str(result["model"]))) for result in siblings]
    shared = set.intersection(*(set(result["environments"]) for result in siblings))
    entries = {
        env: grouped([[episode for episode in rows if episode.env == env] for rows in played], cards[env].metric)
        for env in sorted(shared)
    }
    averages = {}
    for held_in, name in ((True, "held_in_average"), (False, "held_out_average")):
        scores = [entry["score"] for env, entry in entries.items() if cards[env].held_in is held_in]
        known = [score for score in scores if score is not None]
        averages[name] = fmean(known) if known else None
    return {
        "model": f"{siblings[0]['model']}, mean of {len(siblings)} seeds", "kind": "tuned", "seeds": len(siblings),
        "selection": siblings[0]["selection"], "seed": None, "environments": entries, **averages,
    }  # fmt: skip


def layout(rows: Sequence[Mapping[str, Any]], cards: Mapping[str, EnvironmentCard]) -> Table:
    """Rows in the order given; held-in environments by name, their average, then the held-out ones.

    A cell reads `58.3 [38.8, 75.5]` in percent. The number of episodes stands in the column's header when all models
    have the same, and in the cell otherwise; episodes lost to errors are named in the cell. Tuned models are strong.

    Args:
        rows: of `with_groups`.
        cards: one for each environment in them.
    """
    evaluated = {env for row in rows for env in row["environments"]}
    columns: list[tuple[str, list[str]]] = []
    for held_in, group in ((True, "held_in"), (False, "held_out")):
        names = sorted(env for env in evaluated if cards[env].held_in is held_in)
        for env in names:
            entries = [row["environments"].get(env) for row in rows]
            counts = {
                entry["n"] for row, entry in zip(rows, entries, strict=True) if entry is not None and "seeds" not in row
            }
            title = f"{env} (n={counts.pop()})" if len(counts) == 1 else env
            columns.append((title, [cell_text(entry, with_n=title == env) for entry in entries]))
        if names:
            averages = [row[f"{group}_average"] for row in rows]
            shown = [NONE if value is None else f"{value:.1f}" for value in averages]
            columns.append((f"{group.replace('_', '-')} avg", shown))
    return table(
        ["model", *(title for title, _ in columns)],
        [[str(row["model"]), *(cells[i] for _, cells in columns)] for i, row in enumerate(rows)],
        strong=[i for i, row in enumerate(rows) if row["kind"] == "tuned"],
        caption="percent, 95 % interval in brackets",
    )


def cell_text(entry: Mapping[str, Any] | None, *, with_n: bool) -> str:
    """One environment's entry of `results.json` in short; None where the model was not evaluated there."""
    if entry is None:
        return NONE
    lost = f"{entry['errors']} error{'' if entry['errors'] == 1 else 's'}" if entry["errors"] else ""
    if entry["score"] is None:
        return f"no result{f' ({lost})' if lost else ''}"
    low, high = entry["ci95"]
    notes = ", ".join(note for note in (f"n={entry['n']}" if with_n else "", lost) if note)
    return f"{entry['score']:.1f} [{low:.1f}, {high:.1f}]{f' ({notes})' if notes else ''}"
