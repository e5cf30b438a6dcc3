"""What an experiment's runs say together: `experiment.json`, a page in HTML and in Markdown, and its pictures.

`experiment.json` has the format number, the experiment's own file, one row per combination, model and environment
(`experiment_rows.py`), and every comparison. It is written one row a line, in a fixed order, and holds nothing that
differs between two readings of the same runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from atlas_ray.report.experiment_comparisons import arms_of, comparisons
from atlas_ray.report.experiment_drawings import curves_picture, forest_picture, scatter_picture
from atlas_ray.report.experiment_page import Page, page, to_html, to_text
from atlas_ray.report.experiment_rows import RunOfGrid, rows_of, truth_of
from atlas_ray.selection.compare import OVERALL
from atlas_ray.store import Store

__all__ = ["RunOfGrid", "write_experiment"]

FORMAT = 1


def write_experiment(
    store: Store, settings: Mapping[str, Any], runs: Sequence[RunOfGrid], power: str, command: str
) -> tuple[str, str]:
    """Write what the runs hold so far into the experiment's directory.

    Args:
        store: the experiment's directory.
        settings: the content of the experiment's file.
        runs: every combination.
        power: what the design can find, in words.
        command: that runs the experiment again.

    Returns:
        The paths of `experiment.json` and `experiment.html`.

    Raises:
        StoreError: a file in a run directory is malformed, or nothing can be written.
    """
    rows: list[dict[str, Any]] = []
    precisions: dict[tuple[str, str], float] = {}
    missing: list[str] = []
    for run in runs:
        truths = truth_of(run)
        found = rows_of(run, settings["within"], truths)
        rows += found
        for name, truth in truths.items():
            if OVERALL in truth and truth[OVERALL].precision is not None:
                precisions[run.name, name] = float(truth[OVERALL].precision or 0.0)
        missing += [
            f"{run.name}, {name}: failed and is left out of every table: {e}" for name, e in run.failures.items()
        ]
        present = {row["model"] for row in found}
        absent = [entry.name for entry in run.models if entry.name not in present]
        if absent:
            missing.append(f"{run.name}: not run yet: {', '.join(absent)}.")
    arms = arms_of(rows)
    environments = sorted({row["environment"] for row in rows})
    compared = comparisons(arms, settings["references"], environments) if environments else []
    said = page(settings, rows, arms, compared, precisions, missing, power, command)
    pictures = _write_pictures(store, said)
    text = _json(settings, rows, [asdict(each) | {"verdict": each.verdict} for each in compared])
    store.write_text(to_text(said, pictures), "experiment.md")
    return store.write_text(text, "experiment.json"), store.write_text(to_html(said), "experiment.html")


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
