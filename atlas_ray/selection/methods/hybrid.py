"""Method `hybrid`: a weighted fusion of other selections' ranks, trajectory by trajectory (ours; see paper section 7).

Every selection ranks the steps: by its scores where it has any, else the chosen steps before the others. Equal steps
share the mean of their ranks. A rank counts as the share of the other steps behind it, so selections with scores of any
scale and selections without scores can be added. A selection with an error row takes no part for that trajectory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, field_validator

from atlas_ray.section import Section
from atlas_ray.selection.budget import highest
from atlas_ray.selection.method import RuleMethod
from atlas_ray.trajectory import Selection, Trajectory


class HybridOptions(Section):
    """Method `hybrid`: ranks of other selections, fused (paper section 7 asks for combinations)."""

    weights: dict[str, float] = Field({"llm": 1.0, "perplexity": 1.0})
    """Weight of each selection, above 0; those selections are made first."""

    @field_validator("weights")
    @classmethod
    def _usable(cls, weights: dict[str, float]) -> dict[str, float]:
        if not weights or not all(0 < weight < math.inf for weight in weights.values()):
            raise ValueError("name one or more other selections, each with a weight above 0")
        return weights


class HybridSteps(RuleMethod):
    """The budget's number of steps with the highest weighted mean standing; of equal steps the earlier."""

    summary = "steps that rank highest in other selections, by weight"
    source = "ours; paper 7"
    color = ("#b8860b", "#e8b04a")
    Options = HybridOptions

    def inputs(self) -> tuple[str, ...]:
        """The selections that are fused."""
        return tuple(sorted(self.options.weights))

    def choose(self, trajectory: Trajectory, inputs: Mapping[str, Selection]) -> Selection:
        """See `RuleMethod.choose`."""
        weights: dict[str, float] = self.options.weights
        answered = {name: row for name, row in inputs.items() if row.error is None}
        left_out = {name: row.error for name, row in inputs.items() if row.error is not None}
        provenance: dict[str, Any] = {"weights": {name: weights[name] for name in answered}}
        if left_out:
            provenance["left_out"] = left_out
        if not answered:
            error = f"inputs: no selection has a row without an error ({'; '.join(left_out.values())})"
            return self.row(trajectory, error=error, provenance=provenance)
        total = math.fsum(weights[name] for name in answered)
        standings = {name: standing(row, trajectory.n_steps) for name, row in answered.items()}
        scores = [
            math.fsum(weights[name] * standings[name][step] for name in answered) / total
            for step in range(trajectory.n_steps)
        ]
        return self.row(trajectory, steps=highest(scores, self.spec.ratio), scores=scores, provenance=provenance)


def standing(selection: Selection, n_steps: int) -> list[float]:
    """For each step the share of the other steps that it ranks before, equal ones counting half; in [0, 1]."""
    values: Sequence[float] = (
        selection.scores
        if selection.scores is not None
        else [float(step in selection.steps) for step in range(n_steps)]
    )
    if n_steps == 1:
        return [1.0]
    order = sorted(values)
    first = {value: order.index(value) for value in set(order)}
    counts = {value: order.count(value) for value in first}
    return [(first[value] + (counts[value] - 1) / 2) / (n_steps - 1) for value in values]
