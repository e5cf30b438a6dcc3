"""Method `hybrid`: a weighted fusion of other selections' ranks, trajectory by trajectory (ours; see paper section 7).

Each selection ranks the steps: by its scores where it has any, else the chosen ones before the others; equal steps
share the mean of their ranks. A rank counts as the share of the other steps that stand behind it, so that selections
with scores of any kind and selections without agree on a scale. A selection that has an error here takes no part, which
is recorded; where all have one, so has the fusion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum

from atlas_ray.selection.budget import budget
from atlas_ray.trajectory import Selection, Trajectory


def select(
    trajectory: Trajectory, ratio: float, seed: int, selections: Mapping[str, Selection], weights: Mapping[str, float]
) -> Selection:
    """The budget's number of steps with the highest weighted mean standing; of equal ones the earlier.

    Args:
        trajectory: what the selections were made for.
        ratio: share of the steps.
        seed: not used.
        selections: rows of this trajectory by method.
        weights: of each of these methods, above 0.
    """
    del seed
    fields = {"trajectory_id": trajectory.trajectory_id, "method": "hybrid", "ratio": ratio}
    answered = {name: row for name, row in sorted(selections.items()) if row.error is None}
    left_out = {name: str(row.error) for name, row in sorted(selections.items()) if row.error is not None}
    provenance = {"weights": {name: weights[name] for name in answered}}
    if left_out:
        provenance |= {"left_out": left_out}  # type: ignore[dict-item]
    if not answered:
        error = f"inputs: no selection has a row without an error ({'; '.join(left_out.values())})"
        return Selection.model_validate(fields | {"error": error, "provenance": provenance})
    total = fsum(weights[name] for name in answered)
    standings = {name: standing(row, trajectory.n_steps) for name, row in answered.items()}
    scores = [
        fsum(weights[name] * standings[name][step] for name in answered) / total for step in range(trajectory.n_steps)
    ]
    best = sorted(range(trajectory.n_steps), key=lambda step: (-scores[step], step))
    steps = sorted(best[: budget(trajectory.n_steps, ratio)])
    return Selection.model_validate(fields | {"steps": steps, "scores": scores, "provenance": provenance})


def standing(selection: Selection, n_steps: int) -> list[float]:
    """For each step the share of the other steps that it stands before, equal ones counting half; in [0, 1]."""
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
