"""The charts of an experiment as data: curves over rounds, forest plots, and points of success against a cause.

The page draws them as HTML and SVG (`templates/experiment.html.j2`), the pictures with matplotlib
(`experiment_drawings.py`); what they show is decided here once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from atlas_ray.report.charts import Tick, nice
from atlas_ray.report.experiment_comparisons import Arm, Compared, Verdict, curve_of, success_of
from atlas_ray.roster import Kind
from atlas_ray.selection.method import color_of

REFERENCES: dict[Kind, tuple[str, str]] = {
    "policy": ("#b4bcc3", "#59636e"), "base": ("#6b7680", "#a0a9b2"), "warmup": ("#2b8a57", "#6fd08c"),
    "endpoint": ("#8c4fb0", "#c79be0"), "directory": ("#8a5a00", "#e8b04a"),
}  # fmt: skip
"""Colours on light and on dark ground of models that no selection tuned, by their kind."""


@dataclass(frozen=True)
class Key:
    """How an arm is told apart in every chart."""

    name: str
    color: tuple[str, str]
    """On light and on dark ground."""
    dashed: bool
    """Behind a filter, or not tuned."""


@dataclass(frozen=True)
class Line:
    """Success within so many rounds, in percent."""

    key: Key
    points: tuple[tuple[float, float, float, float], ...]
    """Rounds, success, and its interval."""


@dataclass(frozen=True)
class LineChart:
    """Success over rounds, of all arms of a combination."""

    title: str
    most: int
    """Rounds at the right end."""
    lines: tuple[Line, ...]

    def path(self, line: Line) -> str:
        """The line in a box of 100 x 100, y downwards, as points of an SVG polyline."""
        return " ".join(f"{self.at(x):.2f},{100 - y:.2f}" for x, y, _, _ in line.points)

    def band(self, line: Line) -> str:
        """The interval around the line, as points of an SVG polygon."""
        up = [f"{self.at(x):.2f},{100 - high:.2f}" for x, _, _, high in line.points]
        down = [f"{self.at(x):.2f},{100 - low:.2f}" for x, _, low, _ in reversed(line.points)]
        return " ".join(up + down)

    def at(self, rounds: float) -> float:
        """A number of rounds in percent of the axis."""
        return 100 * (rounds - 1) / max(1, self.most - 1)

    @property
    def ticks(self) -> list[Tick]:
        """Of the rounds."""
        step = max(1, -(-self.most // 8))
        return [Tick(self.at(rounds), str(rounds)) for rounds in range(1, self.most + 1, step)]


@dataclass(frozen=True)
class ForestRow:
    """A difference with its interval, in percentage points."""

    label: str
    difference: float
    ci95: tuple[float, float]
    verdict: Verdict

    @property
    def text(self) -> str:
        """The figures."""
        return f"{self.difference:+.1f} [{self.ci95[0]:+.1f}, {self.ci95[1]:+.1f}]"


@dataclass(frozen=True)
class Forest:
    """Every selection of a combination against one reference; the axis is from -100 to 100 points."""

    title: str
    rows: tuple[ForestRow, ...]


@dataclass(frozen=True)
class Dot:
    """An arm."""

    key: Key
    x: float
    y: float
    label: str
    """Combination and arm."""


@dataclass(frozen=True)
class Scatter:
    """Success in percent against something else."""

    title: str
    x_label: str
    dots: tuple[Dot, ...]

    @property
    def ticks(self) -> list[Tick]:
        """Of the x axis."""
        values = nice(0.0, max((dot.x for dot in self.dots), default=1.0))
        return [Tick(100 * value / values[-1], f"{value:,g}") for value in values]

    def at(self, dot: Dot) -> float:
        """A dot's x in percent of the axis."""
        return 100 * dot.x / nice(0.0, max((each.x for each in self.dots), default=1.0))[-1]


def key_of(arm: Arm) -> Key:
    """Its name, colour and dash."""
    if arm.method:
        return Key(arm.name, color_of(arm.method), bool(arm.filters))
    return Key(arm.name, REFERENCES[arm.rows[0]["kind"]], True)


def line_charts(arms: Sequence[Arm], scopes: Mapping[str, int]) -> dict[str, list[LineChart]]:
    """A chart for every combination, by scope.

    Args:
        arms: of all combinations.
        scopes: the round cap of each environment, and of all of them.
    """
    combinations = list(dict.fromkeys(arm.combination for arm in arms))
    return {
        env: [_line_chart(name, [arm for arm in arms if arm.combination == name], env, most) for name in combinations]
        for env, most in scopes.items()
    }


def _line_chart(title: str, arms: Iterable[Arm], env: str, most: int) -> LineChart:
    lines = []
    for arm in arms:
        points = tuple((float(p.rounds), p.success, *p.ci95) for p in curve_of(arm, env, most))
        if points:
            lines.append(Line(key_of(arm), points))
    return LineChart(title, most, tuple(lines))


def forests(compared: Sequence[Compared], env: str, reference: str) -> list[Forest]:
    """A forest plot for every combination: selections against a reference, the best first."""
    found = []
    for name in dict.fromkeys(each.combination for each in compared):
        rows = [
            ForestRow(each.selection, each.difference, each.ci95, each.verdict)
            for each in compared
            if (each.combination, each.environment, each.reference) == (name, env, reference)
        ]
        if rows:
            found.append(Forest(f"{name}: against {reference}", tuple(sorted(rows, key=lambda row: -row.difference))))
    return found


def scatter(
    arms: Sequence[Arm], env: str, title: str, x_label: str, cause: Callable[[Arm], float | None]
) -> Scatter | None:
    """Success of tuned arms against a cause; None where it is known of fewer than two."""
    dots = []
    for arm in arms:
        x, success = cause(arm), success_of(arm, env)
        if arm.method is not None and x is not None and success is not None:
            dots.append(Dot(key_of(arm), x, success.mean, f"{arm.combination}: {arm.name}"))
    return Scatter(title, x_label, tuple(dots)) if len(dots) > 1 else None
