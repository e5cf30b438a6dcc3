"""Method `pivot`: the steps at which rollouts differ in their outcome (PivotRL, arXiv 2603.21383).

PivotRL samples K replies before a step, and keeps the step if their rewards vary and their mean is below a limit: a
step that always works or never works teaches nothing, and one that mostly works teaches little. Its reward is a check
of the reply itself; here it is the score with which the model ends the episode from there, so that any environment can
be used. These are the rollouts of a selection by method `value`, which this method reads and never plays again. The
score of a step is the variance of their scores, p (1 - p) where a share p of them succeeds and the others score 0. It
does not tell whether the expert's step is good: that is what `value` asks.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from atlas_ray.errors import SelectionError
from atlas_ray.section import Section
from atlas_ray.selection.budget import budget
from atlas_ray.selection.method import RuleMethod
from atlas_ray.trajectory import Selection, Trajectory


class PivotOptions(Section):
    """Method `pivot` (PivotRL): its rollouts are those of a selection by method `value`."""

    rollouts_of: str = "value"
    """The selection by method `value` that plays the rollouts: its model, their number K and their temperature count.
    Where it is adaptive, steps have different numbers of rollouts."""
    limit: float = Field(0.6, gt=0, le=1)
    """Steps whose rollouts reach this mean score or more are left out (PivotRL's lambda; the value is ours)."""


class PivotSteps(RuleMethod):
    """The budget's number of steps with the largest variance above 0, among those below the limit."""

    summary = "the steps at which rollouts differ in their outcome, and more often fail"
    phrase = "pivotal steps"
    source = "PivotRL, 2603.21383"
    needs = "the rollouts of `value`, none of its own"
    color = ("#6a4c93", "#c3a6e8")
    Options = PivotOptions

    def inputs(self) -> tuple[str, ...]:
        """The selection that plays the rollouts."""
        return (self.options.rollouts_of,)

    def choose(self, trajectory: Trajectory, inputs: Mapping[str, Selection]) -> Selection:
        """See `RuleMethod.choose`.

        Raises:
            SelectionError: the other selection has no rollouts.
        """
        name, limit = self.options.rollouts_of, self.options.limit
        played, provenance = inputs[name], {"rollouts_of": name, "limit": limit}
        if played.error is not None:
            error = f"rollouts: {name} has none here ({played.error})"
            return self.row(trajectory, error=error, provenance=provenance)
        if "variances" not in played.provenance:
            raise SelectionError(
                f"selection {self.spec.name!r}: {name!r} is a selection by method {played.method!r}, which plays no "
                "rollouts; name one by method `value` in rollouts_of"
            )
        means, variances = played.provenance["returns"], played.provenance["variances"]
        open_steps = [step for step in range(trajectory.n_steps) if variances[step] > 0 and means[step] < limit]
        open_steps.sort(key=lambda step: (-variances[step], step))
        return self.row(
            trajectory, steps=tuple(sorted(open_steps[: budget(trajectory.n_steps, self.spec.ratio)])),
            scores=tuple(variances), provenance=provenance | {"samples": played.provenance["samples"]},
        )  # fmt: skip
