"""Method `random`: steps at random (paper section 4.5.3)."""

from __future__ import annotations

from collections.abc import Mapping

from atlas_ray.hashing import draw
from atlas_ray.selection.budget import budget
from atlas_ray.selection.method import RuleMethod
from atlas_ray.trajectory import Selection, Trajectory


class RandomSteps(RuleMethod):
    """As many steps as the budget allows, drawn by seed and trajectory id; a larger ratio adds steps to a smaller."""

    summary = "steps at random"
    phrase = "random steps"
    source = "paper 4.5.3"
    color = ("#5f6b76", "#9aa5af")

    def choose(self, trajectory: Trajectory, inputs: Mapping[str, Selection]) -> Selection:
        """See `RuleMethod.choose`."""
        del inputs
        seed, count = self.spec.seed, budget(trajectory.n_steps, self.spec.ratio)
        steps = draw(range(trajectory.n_steps), count, "random", seed, trajectory.trajectory_id)
        return self.row(trajectory, steps=steps, provenance={"seed": seed})
