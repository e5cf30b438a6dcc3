"""Selections beside each other, as a table in Markdown and as a picture; the figures are `selection/compare.py`'s."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from atlas_ray.selection.prompt import CATEGORIES

_COLOURS = ("#0b66c3", "#c2571a", "#2b8a57", "#8c4fb0", "#6b7680", "#b8860b", "#a03050", "#1d2329")
_DPI = 130


def table(figures: dict[str, Any]) -> str:
    """The figures in Markdown, an environment after the other."""
    lines = ["# Selections compared"]
    for env, found in figures["environments"].items():
        lines += ["", f"## {env} ({found['trajectories']} trajectories)", ""]
        lines += [f"| method | answered | errors | share of steps | share of tokens | {' | '.join(CATEGORIES)} |"]
        lines += ["|" + "---|" * (5 + len(CATEGORIES))]
        for method, row in found["methods"].items():
            shares = [_percent(row["categories"].get(name) if row["categories"] else None) for name in CATEGORIES]
            lines.append(
                f"| {method} | {row['answered']} | {row['errors']} | {_percent(row['share_of_steps'])} | "
                f"{_percent(row['share_of_tokens'])} | {' | '.join(shares)} |"
            )
        if found["pairs"]:
            lines += ["", "| pair | n | Jaccard | by chance | beyond chance |", "|---|---|---|---|---|"]
        for pair in found["pairs"]:
            kappa = "-" if pair["kappa"] is None else f"{pair['kappa']:+.2f}"
            lines.append(
                f"| {pair['first']} and {pair['second']} | {pair['n']} | {pair['jaccard']:.2f} | "
                f"{pair['expected']:.2f} | {kappa} |"
            )
        lines += [
            "",
            f"| chosen of the steps in each tenth | {' | '.join(f'{10 * b}-{10 * b + 10} %' for b in range(10))} |",
        ]
        lines += ["|" + "---|" * 11]
        for method, row in found["methods"].items():
            lines.append(f"| {method} | {' | '.join(_percent(value) for value in row['profile'])} |")
    return "\n".join(lines) + "\n"


def plot(figures: dict[str, Any]) -> bytes:
    """A PNG: an environment a row; where methods pick, how far they agree, and their categories."""
    environments, methods = figures["environments"], figures["methods"]
    figure = Figure(figsize=(12, 3.0 * len(environments) + 0.4), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(environments), 3, squeeze=False)
    for row, (env, found) in enumerate(environments.items()):
        _profile(grid[row][0], env, found, methods)
        _agreement(grid[row][1], found, methods)
        _categories(grid[row][2], found, methods)
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()


def _profile(axes: Any, env: str, found: dict[str, Any], methods: list[str]) -> None:
    axes.set_title(f"{env}: share of the steps chosen, by position", loc="left", fontsize=8.5)
    for place, method in enumerate(methods):
        values = found["methods"][method]["profile"]
        points = [(5 + 10 * bin_, 100 * value) for bin_, value in enumerate(values) if value is not None]
        axes.plot(
            *zip(*points, strict=True), "o-", ms=3, lw=1.3, color=_COLOURS[place % 8], label=method
        ) if points else None
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 105)
    axes.set_xlabel("position in the trajectory, %", fontsize=7.5)
    axes.tick_params(labelsize=7.5)
    axes.legend(fontsize=7, frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.2))


def _agreement(axes: Any, found: dict[str, Any], methods: list[str]) -> None:
    axes.set_title("Jaccard overlap (that of chance)", loc="left", fontsize=8.5)
    size = len(methods)
    values: list[list[float]] = [[float("nan")] * size for _ in methods]
    for pair in found["pairs"]:
        first, second = methods.index(pair["first"]), methods.index(pair["second"])
        values[second][first] = pair["jaccard"]
        axes.text(
            first, second, f"{pair['jaccard']:.2f}\n({pair['expected']:.2f})", ha="center", va="center", fontsize=7,
            color="white" if pair["jaccard"] > 0.6 else "black",
        )  # fmt: skip
    axes.imshow(values, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axes.set_xticks(range(size), methods, fontsize=7, rotation=20)
    axes.set_yticks(range(size), methods, fontsize=7)


def _categories(axes: Any, found: dict[str, Any], methods: list[str]) -> None:
    axes.set_title("chosen share of steps and tokens; categories", loc="left", fontsize=8.5)
    for place, method in enumerate(methods):
        row = found["methods"][method]
        for offset, share, colour in (
            (-0.2, row["share_of_steps"], "#0b66c3"),
            (0.0, row["share_of_tokens"], "#7fb2e5"),
        ):
            axes.barh(place + offset, 100 * (share or 0.0), 0.18, color=colour)
        left = 0.0
        for number, name in enumerate([*CATEGORIES, "unspecified"]):
            share = row["categories"].get(name, 0.0)
            axes.barh(place + 0.22, 100 * share, 0.18, left=100 * left, color=_COLOURS[(number + 1) % 8])
            left += share
    axes.set_xlim(0, 100)
    axes.set_yticks(range(len(methods)), methods, fontsize=7.5)
    axes.invert_yaxis()
    axes.tick_params(labelsize=7.5)
    names = ["steps", "tokens", *CATEGORIES]
    colours = ["#0b66c3", "#7fb2e5", *_COLOURS[1 : 1 + len(CATEGORIES)]]
    handles = [axes.barh(0, 0, color=colour, label=name) for name, colour in zip(names, colours, strict=True)]
    axes.legend(handles=handles, fontsize=6, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
