"""The result table in the manner of the paper's Table 1: models down, environments across.

It lays out what `results.json` files say, as Markdown and for the terminal; `metrics.py` makes the figures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from atlas_ray.environments.contract import EnvironmentCard

_SPECIAL = re.compile(r"[\\`*|#]|\[(?=[^][]*\]\()|<(?=\S)|(?<!\w)_|_(?!\w)")
_WIDEST = 7
"""Columns that a terminal of 110 characters has room for."""
NONE = "–"
"""What a cell shows where a model was not evaluated."""


@dataclass(frozen=True)
class Layout:
    """The table as text: one header and one row of cells a model; the first column is the model's name."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def layout(results: Sequence[Mapping[str, Any]], cards: Mapping[str, EnvironmentCard]) -> Layout:
    """Rows in the order of `results`; held-in environments by name, their average, then the held-out ones.

    A cell reads `58.3 [38.8, 75.5]` in percent. The number of episodes stands in the column's header when all
    models have the same, and in the cell otherwise; episodes lost to errors are named in the cell.

    Args:
        results: the content of one `results.json` per model.
        cards: one card for each environment in them.
    """
    evaluated = {env for result in results for env in result["environments"]}
    columns: list[tuple[str, list[str]]] = []
    for held_in, group in ((True, "held_in"), (False, "held_out")):
        names = sorted(env for env in evaluated if cards[env].held_in is held_in)
        for env in names:
            entries = [result["environments"].get(env) for result in results]
            counts = {entry["n"] for entry in entries if entry is not None}
            title = f"{env} (n={counts.pop()})" if len(counts) == 1 else env
            columns.append((title, [cell(entry, with_n=title == env) for entry in entries]))
        if names:
            averages = [result[f"{group}_average"] for result in results]
            shown = [NONE if value is None else f"{value:.1f}" for value in averages]
            columns.append((f"{group.replace('_', '-')} avg", shown))
    models = [str(result["model"]) for result in results]
    rows = tuple((model, *(cells[i] for _, cells in columns)) for i, model in enumerate(models))
    return Layout(("model", *(title for title, _ in columns)), rows)


def cell(entry: Mapping[str, Any] | None, *, with_n: bool) -> str:
    """One environment's entry of `results.json` in short; None where the model was not evaluated there."""
    if entry is None:
        return NONE
    lost = f"{entry['errors']} error{'' if entry['errors'] == 1 else 's'}" if entry["errors"] else ""
    if entry["score"] is None:
        return f"no result{f' ({lost})' if lost else ''}"
    low, high = entry["ci95"]
    notes = ", ".join(note for note in (f"n={entry['n']}" if with_n else "", lost) if note)
    return f"{entry['score']:.1f} [{low:.1f}, {high:.1f}]{f' ({notes})' if notes else ''}"


def markdown(results: Sequence[Mapping[str, Any]], cards: Mapping[str, EnvironmentCard]) -> str:
    """The table as GitHub-flavoured Markdown, numbers to the right."""
    table = layout(results, cards)
    lines = [table.header, ("---", *("---:" for _ in table.header[1:])), *(map(escape, row) for row in table.rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def escape(text: str) -> str:
    """Text as Markdown that shows it literally, on one line and in one cell."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def terminal(results: Sequence[Mapping[str, Any]], cards: Mapping[str, EnvironmentCard]) -> RichTable:
    """The table for a terminal: `rich.print(terminal(...))`; many environments go down, and models across."""
    table = layout(results, cards)
    lines = [table.header, *table.rows]
    if len(table.header) > _WIDEST:
        lines = list(zip(*lines, strict=True))
    shown = RichTable(caption="percent, 95 % interval in brackets")
    for i, title in enumerate(lines[0]):
        shown.add_column(Text(title), justify="right" if i else "left")
    for row in lines[1:]:
        shown.add_row(*(Text(text) for text in row))
    return shown
