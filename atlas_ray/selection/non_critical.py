"""Method `non_critical`: steps at random from the complement of another selection (paper section 4.5.1)."""

from __future__ import annotations

from atlas_ray.selection.random import draw
from atlas_ray.trajectory import Selection, Trajectory


def select(trajectory: Trajectory, ratio: float, seed: int, critical: Selection) -> Selection:
    """As many steps as `critical` has, none of them in it; all the others where those are fewer (decision 4).

    Args:
        trajectory: the trajectory that `critical` was made for.
        ratio: recorded; the count is that of `critical`.
        seed: with the trajectory's id it decides the draw.
        critical: the other method's selection; if it is an error row, so is this.
    """
    fields = {"trajectory_id": trajectory.trajectory_id, "method": "non_critical", "ratio": ratio}
    provenance = {"seed": seed, "complement_of": critical.method}
    if critical.error is not None:
        error = f"complement: {critical.method} has no selection here ({critical.error})"
        return Selection.model_validate(fields | {"error": error, "provenance": provenance})
    others = [step for step in range(trajectory.n_steps) if step not in critical.steps]
    steps = draw(others, len(critical.steps), "non_critical", seed, trajectory.trajectory_id)
    return Selection.model_validate(fields | {"steps": steps, "provenance": provenance})
