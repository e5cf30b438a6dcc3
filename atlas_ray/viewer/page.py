"""The sections of the page: what the report says of each run, with the runs beside each other.

A section is written anew when what it is made of has changed. Lists of trajectories and episodes are the script's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.hashing import content_hash
from atlas_ray.report import selections
from atlas_ray.report.comparisons import headline
from atlas_ray.report.content import (
    RESULTS,
    PageSection,
    results_section,
    selections_section,
    time_section,
    training_section,
    verification_section,
)
from atlas_ray.report.curves import success_charts
from atlas_ray.report.data import RunData
from atlas_ray.report.experiment_charts import LineChart
from atlas_ray.report.html import environment
from atlas_ray.report.results import layout, with_groups
from atlas_ray.report.training import training_runs
from atlas_ray.viewer.run import FIGURES_OF, ViewedRun

_MADE_OF = {
    "results": ("config", "selections", "results"), "training": ("report",), "selections": ("report", "figures"),
    "verification": ("report",), "cost": ("report",),
}  # fmt: skip
"""The parts of a run that each section is made of."""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    anchor: str
    title: str
    html: str

    @property
    def version(self) -> str:
        """Changes with the content."""
        return content_hash(self.html)


class Sections:
    """The sections of the page about some runs.

    Args:
        runs: in the order of the page; they are read, not refreshed.
    """

    def __init__(self, runs: Sequence[ViewedRun]) -> None:
        self._runs = runs
        self._macros: Any = environment("atlas_ray.viewer").get_template("sections.html.j2").module
        self._made: dict[str, tuple[str, Section]] = {}

    def write(self) -> list[Section]:
        """All sections; those whose runs have not changed are as they were."""
        makers: dict[str, tuple[str, Callable[[], str]]] = {
            "results": ("Results", self._results),
            "training": ("Training", self._training),
            "selections": ("Selections", self._selections),
            "verification": ("Verification of critical steps", lambda: self._per_run(verification_section)),
            "cost": ("Time and cost", lambda: self._per_run(time_section)),
        }
        about = self._said(lambda: str(self._macros.runs([self._about(run) for run in self._runs])))
        runs = Section("runs", "Runs", about)
        return [runs, *(self._written(anchor, title, make) for anchor, (title, make) in makers.items())]

    def _written(self, anchor: str, title: str, make: Callable[[], str]) -> Section:
        seen = content_hash(
            [[run.problems.get("report"), *map(run.versions.get, _MADE_OF[anchor])] for run in self._runs]
        )
        if self._made.get(anchor, ("",))[0] != seen:
            self._made[anchor] = seen, Section(anchor, title, self._said(make))
        return self._made[anchor][1]

    def _said(self, make: Callable[[], str]) -> str:
        try:
            return make()
        except Exception as error:  # the other sections go on, and this one says what is wrong
            return str(self._macros.broken(f"{type(error).__name__}: {error}"))

    # --- sections ------------------------------------------------------------------------------------------------
    def _about(self, run: ViewedRun) -> dict[str, Any]:
        data = run.data
        return {
            "name": run.name, "url": run.store.url, "model": None if run.config is None else run.config.model,
            "headline": headline(data) if data is not None and data.tuned else [],
            "lines": run.lines, "problems": [f"{part}: {text}" for part, text in run.problems.items()],
            "missing": data.missing if data is not None and "report" in run.versions else [],
        }  # fmt: skip

    def _results(self) -> str:
        runs, cards = self._known(), self._cards()
        rows: list[Mapping[str, Any]] = []
        charts: dict[str, list[LineChart]] = {}
        compared = []
        for name, data in runs:
            own = _rows(data)
            rows += own if len(self._runs) == 1 else [{**row, "model": f"{name}: {row['model']}"} for row in own]
            for chart in success_charts(data):
                title = chart.title if len(self._runs) == 1 else f"{chart.title}, {name}"
                charts.setdefault(chart.title, []).append(replace(chart, title=title))
            section = results_section(data, own, None)
            compared.append((name, replace(section, sentences=[], blocks=section.blocks[1:])))
        environments = sorted(cards, key=lambda env: (not cards[env].held_in, env))
        return str(
            self._macros.results(
                layout(rows, cards) if rows else None, RESULTS, environments, cards, rows,
                [chart for env in environments for chart in charts.get(env, [])], compared, len(self._runs) > 1,
            )
        )  # fmt: skip

    def _training(self) -> str:
        curves = [(name, training_runs(data)) for name, data in self._known()]
        return self._per_run(training_section) + str(self._macros.losses(curves, len(self._runs) > 1))

    def _selections(self) -> str:
        parts: list[tuple[str, str, PageSection]] = []
        for at, run in enumerate(self._runs):
            if run.data is None or not run.figures:
                continue
            section = selections_section(run.data, run.figures)
            total = 0 if run.trajectories is None else run.trajectories.rows.total
            if total > FIGURES_OF:
                said = f"Figures are of {FIGURES_OF:,} of {total:,} trajectories, at even distances."
                section = replace(section, sentences=[*section.sentences, said])
            parts.append((run.name, run_class(at), section))
        return str(self._macros.per_run(parts, len(self._runs) > 1, "No selection was made."))

    def _per_run(self, make: Callable[[RunData], PageSection | None]) -> str:
        parts = [
            (run.name, run_class(at), section)
            for at, run in enumerate(self._runs)
            if run.data is not None and (section := make(run.data)) is not None
        ]
        return str(self._macros.per_run(parts, len(self._runs) > 1, "Nothing yet."))

    def _known(self) -> list[tuple[str, RunData]]:
        return [(run.name, run.data) for run in self._runs if run.data is not None]

    def _cards(self) -> dict[str, EnvironmentCard]:
        return {env: card for _, data in self._known() for env, card in data.cards.items()}


def _rows(data: RunData) -> list[Mapping[str, Any]]:
    results = [model.results for model in data.models.values()]
    return with_groups(results, data.cards, lambda name: data.models[name].episodes)


def run_class(at: int) -> str:
    """The CSS class of what belongs to a run, by its number on the page."""
    return f"run{at}"


def colors_css(runs: Sequence[ViewedRun]) -> str:
    """The colours of every run's selections, on light and on dark ground."""
    light, dark = [], []
    for at, run in enumerate(runs):
        drawn = selections.colors(run.figures[-1]) if run.figures else {}
        for name, (on_light, on_dark, strength) in drawn.items():
            rule = f".{run_class(at)} .{run.classes[name]} {{ --m: color-mix(in srgb, %s {strength}%%, var(--card)); }}"
            light.append(rule % on_light)
            dark.append(rule % on_dark)
    return "\n".join([*light, "@media (prefers-color-scheme: dark) {", *dark, "}"]) + "\n"
