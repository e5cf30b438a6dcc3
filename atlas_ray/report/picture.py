"""The result as a picture for the README: every model's score with its 95 % interval, one panel an environment."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from atlas_ray.errors import StoreError
from atlas_ray.report.data import REFERENCES, in_order
from atlas_ray.store import Store

WIDTH = 1200
"""Pixels."""
_DPI = 150
_INK, _SOFT, _LINE, _ACCENT = "#1d2329", "#6b7680", "#dfe3e6", "#0b66c3"


def picture(store: Store) -> str:
    """Draw `report.png` from the `results.json` files of a run; returns its path.

    The reference models come first and in grey, tuned ones below them in colour; on an opaque ground, so that it
    reads on dark pages too.

    Raises:
        StoreError: no model has been evaluated.
    """
    names = [name for name in store.names("evaluation") if store.exists("evaluation", name, "results.json")]
    results: dict[str, dict[str, Any]] = {
        name: store.read_json("evaluation", name, "results.json")["environments"]
        for name in in_order(names, REFERENCES)
    }
    environments = sorted({env for entries in results.values() for env in entries})
    if not environments:
        raise StoreError(f"{store.path('evaluation')} holds no results.json; run jobs/evaluate.py first")
    columns = min(2, len(environments))
    rows = -(-len(environments) // columns)
    height = rows * (0.34 * len(results) + 0.85)
    figure = Figure(figsize=(WIDTH / _DPI, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", wspace=0.06, hspace=0.06)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for i in range(rows * columns):
        axes = grid[i // columns][i % columns]
        if i >= len(environments):
            axes.axis("off")
            continue
        env = environments[i]
        _panel(axes, env, {name: entries.get(env) for name, entries in results.items()}, first=i % columns == 0)
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return store.write_bytes(sink.getvalue(), "report.png")


def _panel(axes: Any, env: str, entries: dict[str, dict[str, Any] | None], *, first: bool) -> None:
    known = [entry for entry in entries.values() if entry is not None]
    counts = sorted({entry["n"] for entry in known})
    metric = known[0]["metric"].replace("_", " ")
    tasks = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    axes.set_title(env, loc="left", fontsize=10, fontweight="bold", color=_INK)
    axes.set_title(f"{metric}, %, {tasks}", loc="right", fontsize=7.5, color=_SOFT)
    for place, (name, entry) in enumerate(entries.items()):
        colour = _SOFT if name in REFERENCES else _ACCENT
        if entry is None or entry["score"] is None:
            axes.text(2, place, "no result", va="center", fontsize=7.5, color=_SOFT)
            continue
        low, high = entry["ci95"]
        axes.plot([low, high], [place, place], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=2)
        fill = "white" if name == "random" else colour
        axes.plot([entry["score"]], [place], "o", ms=6.5, mfc=fill, mec=colour, mew=1.4, zorder=3, clip_on=False)
        axes.annotate(
            f"{entry['score']:.0f}", (entry["score"], place), (0, 5), textcoords="offset points", ha="center",
            fontsize=7.5, color=colour, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlim(-2, 102)
    axes.set_ylim(len(entries) - 0.4, -0.75)
    axes.set_xticks(range(0, 101, 25))
    axes.set_yticks(range(len(entries)), list(entries) if first else [""] * len(entries))
    axes.tick_params(length=0, labelsize=8.5, labelcolor=_INK)
    axes.tick_params(axis="x", labelsize=7.5, labelcolor=_SOFT)
    axes.grid(axis="x", color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
