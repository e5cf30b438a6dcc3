"""Method `all`: every step is critical, the AgentTraj-L baseline (paper section 4.3)."""

from __future__ import annotations

from collections.abc import Mapping

from atlas_ray.selection.method import RuleMethod
from atlas_ray.trajectory import Selection, Trajectory


class AllSteps(RuleMethod):
    """Every step, whatever the ratio; the recorded ratio is 1."""

    summary = "every step"
    phrase = "all steps"
    source = "paper 4.3"
    derived = True
    color = ("#3b4a57", "#d5dbe1")

    def choose(self, trajectory: Trajectory, inputs: Mapping[str, Selection]) -> Selection:
        """See `RuleMethod.choose`."""
        del inputs
        return self.row(trajectory, ratio=1.0, steps=tuple(range(trajectory.n_steps)))
