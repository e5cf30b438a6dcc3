"""The charts of an experiment as PNG pictures, for documents; what they show is in `experiment_charts.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from atlas_ray.report.drawings import figure_of, png
from atlas_ray.report.experiment_charts import Forest, LineChart, Scatter

_INK, _SOFT, _LINE = "#1d2329", "#6b7680", "#dfe3e6"
_VERDICTS = {"better": "#19703c", "worse": "#b3261e", "not established": "#6b7680"}
_COLUMNS = 2
_STROKES: dict[bool, tuple[Any, ...]] = {False: ("-", ":", "-."), True: ("--", (0, (5, 1.5, 1, 1.5)), (0, (1, 1)))}
"""Of lines of one colour, plain and dashed, in turn."""
_BANDS = 6
"""Lines of a panel at most whose intervals are drawn; those of more hide each other, and the tables have them."""


def curves_picture(charts: Sequence[LineChart]) -> bytes:
    """Success over rounds, a panel per combination."""
    figure, panels = _grid(len(charts), 3.6)
    for axes, chart in zip(panels, charts):
        _style(axes, chart.title)
        drawn: Counter[tuple[str, bool]] = Counter()
        for line in chart.lines:
            xs, ys, lows, highs = zip(*line.points, strict=True)
            color, dashed = line.key.color[0], line.key.dashed
            strokes = _STROKES[dashed]
            axes.plot(xs, ys, color=color, ls=strokes[drawn[color, dashed] % len(strokes)], lw=1.6, label=line.key.name)
            drawn[color, dashed] += 1
            if len(chart.lines) <= _BANDS:
                axes.fill_between(xs, lows, highs, color=color, alpha=0.08, linewidth=0)
        axes.set_ylim(0, 102)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("rounds", fontsize=7.5, color=_SOFT)
        axes.set_ylabel("success within, %", fontsize=7.5, color=_SOFT)
        axes.legend(fontsize=6.5, frameon=False, ncols=2)
    return png(figure)


def forest_picture(plots: Sequence[Forest]) -> bytes:
    """Differences with their intervals, a panel per combination."""
    figure, panels = _grid(len(plots), 0.9 + 0.24 * max(len(plot.rows) for plot in plots), sharex=True)
    for axes, plot in zip(panels, plots):
        _style(axes, plot.title)
        for y, row in enumerate(plot.rows):
            color = _VERDICTS[row.verdict]
            axes.plot(row.ci95, [y, y], color=color, lw=1.8, solid_capstyle="butt")
            axes.plot([row.difference], [y], "o", ms=5.5, color=color)
        axes.axvline(0, color=_INK, lw=0.8)
        axes.set_yticks(range(len(plot.rows)), [row.label for row in plot.rows], fontsize=7.5)
        axes.set_ylim(len(plot.rows) - 0.4, -0.6)
        axes.set_xlabel("percentage points, 95 % interval", fontsize=7.5, color=_SOFT)
    return png(figure)


def scatter_picture(plots: Sequence[Scatter]) -> bytes:
    """Success against each cause, a panel per cause."""
    figure, panels = _grid(len(plots), 3.6)
    for axes, plot in zip(panels, plots):
        _style(axes, plot.title)
        for name in dict.fromkeys(dot.key.name for dot in plot.dots):
            own = [dot for dot in plot.dots if dot.key.name == name]
            key = own[0].key
            axes.plot(
                [dot.x for dot in own], [dot.y for dot in own], "o", ms=6, mec=key.color[0], mew=1.4,
                mfc="white" if key.dashed else key.color[0], label=name,
            )  # fmt: skip
        axes.set_ylim(0, 102)
        axes.set_xlim(0, 1.06 * (max((dot.x for dot in plot.dots), default=0.0) or 1.0))
        axes.set_xlabel(plot.x_label, fontsize=7.5, color=_SOFT)
        axes.set_ylabel("success, %", fontsize=7.5, color=_SOFT)
        axes.legend(fontsize=6.5, frameon=False, ncols=2)
    return png(figure)


def _grid(count: int, height: float, *, sharex: bool = False) -> tuple[Any, list[Any]]:
    """A figure of `count` panels, each of so many inches in height."""
    columns = min(_COLUMNS, count)
    lines = -(-count // columns)
    figure = figure_of(5.0 * columns, height * lines)
    figure.set_layout_engine("constrained")
    panels = [axes for row in figure.subplots(lines, columns, squeeze=False, sharex=sharex) for axes in row]
    for axes in panels[count:]:
        axes.axis("off")
    return figure, panels


def _style(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=9, color=_INK)
    axes.tick_params(length=0, labelsize=7.5, labelcolor=_INK, labelbottom=True)  # also where panels share an axis
    axes.grid(color=_LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
