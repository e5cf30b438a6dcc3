"""The table of critical-step verification, in the manner of the paper's Table 6.

It lays out what `verification/<model>/<selection>.json` files say; `evaluation/verify.py` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atlas_ray.report.tables import NONE, Table, table
from atlas_ray.report.text import p_text

EXPLANATION = (
    "A model plays tasks of the tuning set from scratch, and takes over right after each critical step and after as "
    "many other steps. Starting later is easier whatever the step was, so the last column tells what a critical step "
    "is worth. Percent, 95 % interval over tasks in brackets."
)


def verification_table(*results: Mapping[str, Any]) -> Table:
    """One row per model, selection and environment."""
    header = [
        "model",
        "steps of",
        "environment",
        "tasks",
        "from scratch",
        "after a critical step",
        "after another step",
    ]
    rows = [
        [
            str(result["model"]), str(result["selection"]), env, _tasks(entry),
            *(_score(entry[group]) for group in ("from_scratch", "from_critical", "from_other")),
            *(_difference(entry[f"critical_against_{other}"]) for other in ("scratch", "other")),
        ]
        for result in results
        for env, entry in result["environments"].items()
    ]  # fmt: skip
    return table([*header, "critical - scratch", "critical - other"], rows, words=(0, 1, 2))


def _tasks(entry: Mapping[str, Any]) -> str:
    lost = entry["errors"]
    return f"{entry['tasks']}" + (f" ({lost} error{'' if lost == 1 else 's'})" if lost else "")


def _score(entry: Mapping[str, Any] | None) -> str:
    return NONE if entry is None else f"{entry['score']:.1f} [{entry['ci95'][0]:.1f}, {entry['ci95'][1]:.1f}]"


def _difference(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return NONE
    low, high = entry["ci95"]
    return f"{entry['difference']:+.1f} [{low:+.1f}, {high:+.1f}], {p_text(entry['p_value'])} (n={entry['n']})"
