"""What another package adds, found by its entry points: an environment with an expert, and a selection method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from atlas_ray.environments import EnvironmentCard, Expert, Outcome, TextEnv
from atlas_ray.section import Section
from atlas_ray.selection import RuleMethod
from atlas_ray.selection.budget import budget
from atlas_ray.trajectory import Selection, Trajectory


class CountingEnv(TextEnv):
    """Count down to zero by ones and twos.

    Args:
        start: where task 0 starts; task n starts n higher.
    """

    def __init__(self, *, start: int = 3, max_rounds: int | None = None) -> None:
        card = EnvironmentCard(
            name="counting", held_in=True, metric="success_rate", max_rounds=8, n_train=20, n_test=20,
            instruction="Count down to 0. Every reply has a thought and an action: 'take 1' or 'take 2'.",
            source="tests", action_rule="one",
        )  # fmt: skip
        super().__init__(card, max_rounds=max_rounds)
        self.start, self.count = start, 0

    def _start(self, task: int, split: str, seed: int | None) -> str:
        self.count = self.start + task % 3
        return f"The count is {self.count}."

    def _act(self, action: str) -> Outcome:
        if action in self.valid_actions():
            self.count -= int(action[-1])
        return Outcome(f"The count is {self.count}.", float(self.count == 0), self.count == 0, self.count == 0)

    def _save(self) -> Any:
        return self.count

    def _load(self, inner: Any) -> None:
        self.count = inner

    def valid_actions(self) -> list[str]:
        return [f"take {n}" for n in (1, 2) if n <= self.count]

    def expert(self) -> Expert:
        return _Countdown()


class _Countdown:
    def next_action(self, observation: str) -> tuple[str, str]:
        return "One less is nearer to 0.", "take 1"


class EveryOtherOptions(Section):
    """Options of `every_other`."""

    first: int = Field(0, ge=0)
    """The step to begin with."""


class EveryOtherStep(RuleMethod):
    """Every other step, from `first` on."""

    summary = "every other step, as far as the budget allows"
    source = "the tests of atlas-ray"
    Options = EveryOtherOptions

    def choose(self, trajectory: Trajectory, inputs: Mapping[str, Selection]) -> Selection:
        steps = range(self.options.first, trajectory.n_steps, 2)[: budget(trajectory.n_steps, self.spec.ratio)]
        return self.row(trajectory, steps=tuple(steps), weights=tuple(1 / (1 + step) for step in steps))
