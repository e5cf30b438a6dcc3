"""Pictures in PNG: the result for a README, and selections beside each other.

Both have an opaque ground, so that they read on dark pages too. They draw figures that are computed elsewhere.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.report.experiment_charts import LineChart
from atlas_ray.selection.compare import TENTHS, Figures
from atlas_ray.selection.method import color_of

WIDTH = 1200
"""Pixels of the picture of the result."""
_CURVE_HEIGHT = 1.7
"""Inches of a panel of success over rounds."""
_DPI = 150
_INK, _SOFT, _LINE, _ACCENT, _PALE = "#1d2329", "#6b7680", "#dfe3e6", "#0b66c3", "#7fb2e5"
_CATEGORIES = ("#c2571a", "#2b8a57", "#8c4fb0", "#6b7680", "#b8860b", "#a03050", "#1d2329")
_DASHES = ("-", "--", ":", "-.")
"""Of the first, second, ... selection by the same method, which have one colour."""


def picture(
    rows: Sequence[Mapping[str, Any]], cards: Mapping[str, EnvironmentCard], curves: Sequence[LineChart]
) -> bytes:
    """Every model's score with its 95 % interval, one panel an environment; below, success over rounds.

    Tuned models come last and in colour, the others in grey; a hollow dot is a policy, which is no model.

    Args:
        rows: of the table of results (`results.with_groups`), at least one.
        cards: of the environments in them.
        curves: one per environment, drawn in the order of the panels above.
    """
    environments = sorted(cards)
    by_title = {chart.title: chart for chart in curves}
    columns = min(2, len(environments))
    lines = -(-len(environments) // columns)
    heights = [0.34 * len(rows) + 0.85, _CURVE_HEIGHT]
    figure = figure_of(WIDTH / _DPI, lines * sum(heights))
    figure.set_layout_engine("constrained", wspace=0.06, hspace=0.06)
    grid = figure.subplots(
        2 * lines,
        columns,
        squeeze=False,
        gridspec_kw={"height_ratios": [each for each in heights for _ in range(lines)]},
    )
    for i in range(lines * columns):
        score, curve = grid[i // columns][i % columns], grid[lines + i // columns][i % columns]
        if i >= len(environments):
            score.axis("off")
            curve.axis("off")
        else:
            _panel(score, environments[i], rows, named=i % columns == 0)
            _curves(curve, by_title[environments[i]], named=i == 0)
    return png(figure)


def _curves(axes: Any, chart: LineChart, *, named: bool) -> None:
    """Success within so many rounds; lines that lie on each other are told apart by their width."""
    for i, line in enumerate(chart.lines):
        style = "--" if line.key.dashed else "-"
        axes.plot(
            [point[0] for point in line.points], [point[1] for point in line.points], f"o{style}",
            ms=3.5, lw=1.4 + 0.5 * (len(chart.lines) - i), color=line.key.color[0], label=line.key.name, clip_on=False,
        )  # fmt: skip
    axes.set_title("success within so many rounds, %", loc="left", fontsize=7.5, color=_SOFT)
    axes.set_ylim(-3, 102)
    axes.set_xlim(0.8, chart.most + 0.2)
    axes.set_xticks([round(at) for at in range(1, chart.most + 1, max(1, -(-chart.most // 8)))])
    axes.set_yticks(range(0, 101, 25))
    axes.tick_params(length=0, labelsize=7.5, labelcolor=_SOFT)
    axes.grid(axis="y", color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    if named and chart.lines:
        axes.legend(fontsize=7, frameon=False, ncols=5, loc="upper left", bbox_to_anchor=(-0.02, -0.1), handlelength=3)
    for side in axes.spines.values():
        side.set_visible(False)


def _panel(axes: Any, env: str, rows: Sequence[Mapping[str, Any]], *, named: bool) -> None:
    known = [(row, entry) for row in rows if (entry := row["environments"].get(env)) is not None]
    counts = sorted({entry["n"] for row, entry in known if "seeds" not in row})
    metric = known[0][1]["metric"].replace("_", " ")
    tasks = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    axes.set_title(env, loc="left", fontsize=10, fontweight="bold", color=_INK)
    axes.set_title(f"{metric}, %, {tasks}", loc="right", fontsize=7.5, color=_SOFT)
    for line, row in enumerate(rows):
        entry = row["environments"].get(env)
        color = _ACCENT if row["kind"] == "tuned" else _SOFT
        if entry is None or entry["score"] is None:
            axes.text(2, line, "no result", va="center", fontsize=7.5, color=_SOFT)
            continue
        low, high = entry["ci95"]
        axes.plot([low, high], [line, line], color=color, linewidth=1.8, solid_capstyle="butt", zorder=2)
        fill = "white" if row["kind"] == "policy" else color
        axes.plot([entry["score"]], [line], "o", ms=6.5, mfc=fill, mec=color, mew=1.4, zorder=3, clip_on=False)
        axes.annotate(
            f"{entry['score']:.0f}", (entry["score"], line), (0, 5), textcoords="offset points", ha="center",
            fontsize=7.5, color=color, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlim(-2, 102)
    axes.set_ylim(len(rows) - 0.4, -0.75)
    axes.set_xticks(range(0, 101, 25))
    axes.set_yticks(range(len(rows)), [row["model"] for row in rows] if named else [""] * len(rows))
    axes.tick_params(length=0, labelsize=8.5, labelcolor=_INK)
    axes.tick_params(axis="x", labelsize=7.5, labelcolor=_SOFT)
    axes.grid(axis="x", color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def selections_plot(found: Sequence[Figures]) -> bytes:
    """An environment a row: where selections choose, how far they agree, their shares and categories."""
    figure = figure_of(12, 3.0 * len(found) + 0.4)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(found), 3, squeeze=False)
    for row, figures in zip(grid, found, strict=True):
        _profile(row[0], figures)
        _agreement(row[1], figures)
        _categories(row[2], figures)
    return png(figure)


def _profile(axes: Any, found: Figures) -> None:
    axes.set_title(f"{found.environment}: share of the steps chosen, by position", loc="left", fontsize=8.5)
    width = 100 / TENTHS
    methods = [each.method for each in found.selections]
    for i, each in enumerate(found.selections):
        points = [(width * (b + 0.5), 100 * v) for b, v in enumerate(each.profile_by_tenth) if v is not None]
        dash = _DASHES[methods[:i].count(each.method) % len(_DASHES)]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, ys, f"o{dash}", ms=3, lw=1.3, color=color_of(each.method)[0], label=each.name)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 105)
    axes.set_xlabel("position in the trajectory, %", fontsize=7.5)
    axes.tick_params(labelsize=7.5)
    axes.legend(fontsize=7, frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.2))


def _agreement(axes: Any, found: Figures) -> None:
    axes.set_title("Jaccard overlap (that of chance)", loc="left", fontsize=8.5)
    names = [each.name for each in found.selections]
    values: list[list[float]] = [[float("nan")] * len(names) for _ in names]
    for overlap in found.overlaps:
        first, second = names.index(overlap.first), names.index(overlap.second)
        values[second][first] = overlap.jaccard
        axes.text(
            first, second, f"{overlap.jaccard:.2f}\n({overlap.expected:.2f})", ha="center", va="center", fontsize=7,
            color="white" if overlap.jaccard > 0.6 else "black",
        )  # fmt: skip
    axes.imshow(values, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=20)
    axes.set_yticks(range(len(names)), names, fontsize=7)


def _categories(axes: Any, found: Figures) -> None:
    axes.set_title("chosen share of steps and tokens; categories", loc="left", fontsize=8.5)
    categories = sorted({name for each in found.selections for name in each.categories})
    colors = {name: _CATEGORIES[i % len(_CATEGORIES)] for i, name in enumerate(categories)}
    for line, each in enumerate(found.selections):
        for offset, share, color in ((-0.2, each.step_share, _ACCENT), (0.0, each.token_share, _PALE)):
            axes.barh(line + offset, 100 * (share or 0.0), 0.18, color=color)
        left = 0.0
        for name in categories:
            share = each.categories.get(name, 0.0)
            axes.barh(line + 0.22, 100 * share, 0.18, left=100 * left, color=colors[name])
            left += share
    axes.set_xlim(0, 100)
    axes.set_yticks(range(len(found.selections)), [each.name for each in found.selections], fontsize=7.5)
    axes.invert_yaxis()
    axes.tick_params(labelsize=7.5)
    legend = {"steps": _ACCENT, "tokens": _PALE, **colors}
    handles = [axes.barh(0, 0, color=color, label=name) for name, color in legend.items()]
    axes.legend(handles=handles, fontsize=6, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))


def figure_of(width: float, height: float) -> Figure:
    """An empty figure of so many inches that needs no display."""
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()
