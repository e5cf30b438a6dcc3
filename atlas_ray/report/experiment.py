"""What an experiment's runs say together: `experiment.json`, a page in HTML and in Markdown, and its pictures.

`experiment.json` has the format number, the experiment's own file, one row per combination, model and environment
(`experiment_rows.py`), and every comparison. It is written one row a line, in a fixed order, and holds nothing that
differs between two readings of the same runs. Parts of a grid that were run elsewhere are joined by their rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from atlas_ray.report.experiment_comparisons import arms_of, comparisons
from atlas_ray.report.experiment_drawings import curves_picture, forest_picture, scatter_picture
from atlas_ray.report.experiment_page import Page, page, to_html, to_text
from atlas_ray.report.experiment_rows import FORMAT, RunOfGrid, read_rows, rows_of, truth_of
from atlas_ray.report.tables import Table
from atlas_ray.store import Store

__all__ = ["RunOfGrid", "Written", "write_experiment"]


@dataclass(frozen=True)
class Written:
    """Where an experiment's page is, and its first table."""

    data: str
    """Path of `experiment.json`."""
    page: str
    """Path of `experiment.html`."""
    success: Table
    """By combination and selection."""


def write_experiment(
    store: Store,
    settings: Mapping[str, Any],
    runs: Sequence[RunOfGrid],
    power: str,
    command: str,
    joined: Sequence[str] = (),
) -> Written:
    """Write what the runs hold so far into the experiment's directory.

    Args:
        store: the experiment's directory.
        settings: the content of the experiment's file.
        runs: every combination.
        power: what the design can find, in words.
        command: that runs the experiment again.
        joined: `experiment.json` files of the same experiment, run elsewhere; of a model or selection that several
            have, the rows of the run here count, or those of the first file.

    Raises:
        DataError: a file to join is malformed, or of another experiment.
        StoreError: a file in a run directory is malformed, or nothing can be written.
    """
    others = [read_rows(path, [run.name for run in runs]) for path in joined]
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for run in runs:
        found: list[dict[str, Any]] = []
        for source in (rows_of(run, settings["within"], truth_of(run)), *others):
            known = {(row["model"], row["selection"]) for row in found}
            own = [row for row in source if row["combination"] == run.name]
            found += [row for row in own if (row["model"], row["selection"]) not in known]
        rows += found
        missing += [
            f"{run.name}, {name}: failed and is left out of every table: {e}" for name, e in run.failures.items()
        ]
        present = {row["model"] for row in found}
        absent = [entry.name for entry in run.models if entry.name not in present]
        if absent:
            which = f": {', '.join(absent)}" if present else ""
            missing.append(f"{run.name}: not run yet{which}.")
    arms = arms_of(rows)
    environments = sorted({row["environment"] for row in rows})
    compared = comparisons(arms, settings["references"], environments) if environments else []
    said = page(settings, rows, arms, compared, missing, power, command)
    pictures = _write_pictures(store, said)
    text = _json(settings, rows, [asdict(each) | {"verdict": each.verdict} for each in compared])
    store.write_text(to_text(said, pictures), "experiment.md")
    return Written(
        store.write_text(text, "experiment.json"), store.write_text(to_html(said), "experiment.html"), said.success
    )


def _write_pictures(store: Store, said: Page) -> dict[str, str]:
    pictures = {}
    if charts := next(iter(said.curves.values()), []):
        pictures["Success over rounds"] = "experiment-curves.png"
        store.write_bytes(curves_picture(charts), pictures["Success over rounds"])
    if said.forests:
        pictures["Differences to the references"] = "experiment-forest.png"
        store.write_bytes(forest_picture(said.forests), pictures["Differences to the references"])
    if said.scatters:
        pictures["What success goes with"] = "experiment-causes.png"
        store.write_bytes(scatter_picture(said.scatters), pictures["What success goes with"])
    return pictures


def _json(settings: Mapping[str, Any], rows: Sequence[Any], compared: Sequence[Any]) -> str:
    """JSON with a line for each row and comparison, so that a difference between two files can be read."""

    def lines(name: str, values: Sequence[Any]) -> str:
        body = ",\n".join(json.dumps(value, sort_keys=True, ensure_ascii=False) for value in values)
        return f'"{name}": [\n{body}\n]' if body else f'"{name}": []'

    settings_text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return (
        f'{{"format": {FORMAT},\n"experiment": {settings_text},\n'
        f"{lines('rows', rows)},\n{lines('comparisons', compared)}}}\n"
    )
