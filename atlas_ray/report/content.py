"""What the report says, prepared once for both of its forms: sections of sentences and tables.

`markdown.py` and `html.py` only write it down; the page adds drawings and the explorer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atlas_ray.report import comparisons, selections
from atlas_ray.report.curves import success_charts
from atlas_ray.report.data import RunData
from atlas_ray.report.experiment_charts import LineChart
from atlas_ray.report.habits import EXPLANATION as HABIT
from atlas_ray.report.habits import Habit, habit_of, habit_table
from atlas_ray.report.results import layout, with_groups
from atlas_ray.report.setting import Setting, time_table
from atlas_ray.report.tables import Table
from atlas_ray.report.training import training_runs, training_table
from atlas_ray.report.verification import EXPLANATION, verification_table
from atlas_ray.selection.compare import Figures

RESULTS = (
    "Percent, 95 % interval in brackets: Wilson for rates, bootstrap over tasks for means, and over seeds and tasks "
    "for the mean of several trainings. n counts finished test episodes; those lost to errors are left out and named."
)


@dataclass(frozen=True)
class PageBlock:
    """A table with what a reader must know of it."""

    table: Table
    title: str | None = None
    explanation: str | None = None


@dataclass(frozen=True)
class PageSection:
    """A part of the report: sentences, then tables."""

    anchor: str
    title: str
    sentences: list[str] = field(default_factory=list)
    blocks: list[PageBlock] = field(default_factory=list)


@dataclass(frozen=True)
class Content:
    """Everything that both forms of the report say."""

    title: str
    headline: list[str]
    notes: list[str]
    missing: list[str]
    sections: list[PageSection]
    setting: Setting
    rows: list[Mapping[str, Any]]
    """Of the table of results and its drawings: a `results.json` each, and the means over training seeds."""
    curves: list[LineChart]
    """Success over rounds, one per environment."""
    figures: Figures
    """Of all selections."""


def content(data: RunData, setting: Setting) -> Content:
    """Prepare the report of a run."""
    results, figures = [model.results for model in data.models.values()], data.figures_by_environment()
    rows = with_groups(results, data.cards, lambda name: data.models[name].episodes)
    habit = habit_of(data)
    parts = [
        results_section(data, rows, habit), verification_section(data), training_section(data),
        selections_section(data, figures), time_section(data),
    ]  # fmt: skip
    return Content(
        title=setting.title,
        headline=comparisons.headline(data, habit),
        notes=comparisons.notes(data),
        missing=data.missing,
        sections=[part for part in parts if part is not None],
        setting=setting,
        rows=rows,
        curves=success_charts(data),
        figures=figures[-1],
    )


def results_section(data: RunData, rows: Sequence[Mapping[str, Any]], habit: Habit | None) -> PageSection:
    """Every model in every environment, and the paired comparisons."""
    if not data.models:
        return PageSection("results", "Results", ["No model was evaluated."])
    blocks = [PageBlock(layout(rows, data.cards), explanation=RESULTS)]
    if habit is not None:
        blocks.append(PageBlock(habit_table(data, habit), "The experts' habit", HABIT))
    if found := comparisons.contrasts(data):
        explanation = (
            "The same tasks and seeds played by both models. Success by McNemar's exact test, means by a sign-flip "
            f"test; p values are for each test alone, {len(found)} are shown. Established: p below 0.05 and an "
            "interval without 0. Of several training seeds, only the first is compared in each environment."
        )
        blocks.append(PageBlock(comparisons.contrast_table(found), "Paired comparisons", explanation))
    return PageSection("results", "Results", blocks=blocks)


def verification_section(data: RunData) -> PageSection | None:
    """What takeovers after critical steps say; None where none was played."""
    if not data.verifications:
        return None
    blocks = [PageBlock(verification_table(*data.verifications), explanation=EXPLANATION)]
    return PageSection("verification", "Verification of critical steps", blocks=blocks)


def training_section(data: RunData) -> PageSection:
    """Every checkpoint that left a log."""
    runs = training_runs(data)
    if not runs:
        return PageSection("training", "Training", ["Nothing was trained, or it left no log."])
    explanation = (
        "Loss is in nats per labelled token. Every checkpoint learns from other labels, so losses of different "
        "checkpoints do not compare."
    )
    return PageSection("training", "Training", blocks=[PageBlock(training_table(runs), explanation=explanation)])


def selections_section(data: RunData, by_environment: Sequence[Figures]) -> PageSection:
    """What the selections chose, from the figures of each environment and of all together."""
    if not data.selections:
        return PageSection("selections", "Selections", ["No selection was made."])
    found = by_environment[-1]
    tables = [
        (
            selections.summary_table(data, found), None,
            "Shares are means over trajectories, of their steps and of the tokens of those steps.",
        ),
        (
            selections.truth_table(by_environment), "Do they find the steps that matter?", selections.TRUTH,
        ),
        (
            selections.step_table(found), "Where in a trajectory",
            "The share of the trajectories with a step of this number in which the selection chose it.",
        ),
        (
            selections.category_table(found), "What kind of steps",
            "The share of each category among the chosen steps that the selector gave one.",
        ),
        (
            selections.overlap_table(found.overlaps), "Do the selections agree?",
            "Jaccard overlap of two selections' steps, mean over trajectories, beside what random picks of the same "
            "counts would give: their mean, and where 95 % of such means lie. Beyond chance: 1 is identity, 0 chance.",
        ),
    ]  # fmt: skip
    blocks = [PageBlock(table, title, explanation) for table, title, explanation in tables if table is not None]
    return PageSection("selections", "Selections", [selections.worth(data, found)], blocks)


def time_section(data: RunData) -> PageSection:
    """What the stages took."""
    if not data.units:
        return PageSection("cost", "Time and cost", ["No stage has finished."])
    return PageSection("cost", "Time and cost", blocks=[PageBlock(time_table(data))])
