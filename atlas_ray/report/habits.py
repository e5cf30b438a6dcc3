"""What models learned of a habit of the experts: how many of their steps are looks that change nothing.

The experts' looks are those that they recorded. The models' looks are counted by `evaluation/looks.py`, which replays
their test episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from atlas_ray.evaluation.looks import count_looks
from atlas_ray.report.data import Evaluated, RunData
from atlas_ray.report.tables import NONE, Cell, Table, table
from atlas_ray.report.text import percent
from atlas_ray.selection.compare import kinds_of
from atlas_ray.trajectory import Episode

EXPLANATION = (
    "Experts recorded which of their steps are looks out of habit: actions that only show how things are. The looks of "
    "models are the actions of their test episodes that do the same. Rounds are means over solved tasks."
)


@dataclass(frozen=True)
class LookCount:
    """Steps that only look, among all steps."""

    looks: int
    steps: int

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.looks / self.steps if self.steps else 0.0

    def __str__(self) -> str:
        return f"{self.looks:,} of {self.steps:,}"


@dataclass(frozen=True)
class Habit:
    """A habit of looking, in the trajectories that models were tuned on, and in the models' test episodes."""

    experts: LookCount
    models: dict[str, LookCount]
    """By name."""

    def learned_by(self, model: str) -> bool:
        """Whether a model looks at least half as often as the experts did."""
        return model in self.models and self.models[model].share >= self.experts.share / 2


def habit_of(data: RunData) -> Habit | None:
    """The experts' habit of looking; None where they recorded none or no model was evaluated."""
    kinds = [
        kind
        for trajectory in data.trajectories.values()
        if trajectory.metadata.get("part", "tuning") == "tuning"
        for kind in kinds_of(trajectory) or ()
    ]
    if "habit" not in kinds or not data.models:
        return None
    return Habit(
        LookCount(kinds.count("habit"), len(kinds)),
        {
            name: LookCount(
                sum(each["looks"] for each in found.values()), sum(each["steps"] for each in found.values())
            )
            for name, model in data.models.items()
            if (found := count_looks(model.episodes, data.config.environments))
        },
    )


def rounds_to_solve(episodes: Sequence[Episode]) -> float | None:
    """Mean rounds of the solved ones; None without any."""
    solved = [episode.rounds for episode in episodes if episode.error is None and episode.success]
    return fmean(solved) if solved else None


def habit_table(data: RunData, habit: Habit) -> Table:
    """The experts' looks, and every model's, with the rounds that it took to solve a task."""
    rows: list[list[str | Cell]] = [
        ["experts, tuning tasks", NONE, str(habit.experts), percent(habit.experts.share, 0)]
    ]
    rows += [
        [name, _rounds(data.models[name]), str(found), percent(found.share, 0)] for name, found in habit.models.items()
    ]
    strong = [i for i, name in enumerate(habit.models, 1) if data.models[name].kind == "tuned"]
    return table(["who", "rounds to solve a task", "looks among the steps", "share"], rows, strong=strong)


def _rounds(model: Evaluated) -> str:
    found = rounds_to_solve(model.episodes)
    return NONE if found is None else f"{found:.2f}"
