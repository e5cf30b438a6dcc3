"""Method `non_critical`: steps at random from the complement of another selection (paper section 4.5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from atlas_ray.hashing import draw
from atlas_ray.section import Section
from atlas_ray.selection.method import RuleMethod
from atlas_ray.trajectory import Selection, Trajectory


class NonCriticalOptions(Section):
    """Method `non_critical`."""

    complement_of: str = "llm"
    """The selection whose steps are avoided."""


class NonCriticalSteps(RuleMethod):
    """As many steps as the other selection has, none of them in it; all the others where those are fewer.

    Steps that a filter removed from the other selection were chosen there, so they are not drawn either. An error row
    of the other selection is an error row here (docs/architecture.md, decision 4).
    """

    summary = "steps at random that another selection left out, as many as it chose"
    phrase = "non-critical steps"
    source = "paper 4.5.1"
    version = 2
    derived = True
    color = ("#0f766e", "#4fd1c0")
    Options = NonCriticalOptions

    def inputs(self) -> tuple[str, ...]:
        """The selection whose steps are avoided."""
        return (self.options.complement_of,)

    def choose(self, trajectory: Trajectory, inputs: Mapping[str, Selection]) -> Selection:
        """See `RuleMethod.choose`."""
        seed, name = self.spec.seed, self.options.complement_of
        critical, provenance = inputs[name], {"seed": seed, "complement_of": name}
        if critical.error is not None:
            error = f"complement: {name} has no selection here ({critical.error})"
            return self.row(trajectory, error=error, provenance=provenance)
        chosen = {*critical.steps, *chain.from_iterable(critical.provenance.get("filtered", {}).values())}
        others = [step for step in range(trajectory.n_steps) if step not in chosen]
        steps = draw(others, len(critical.steps), "non_critical", seed, trajectory.trajectory_id)
        return self.row(trajectory, steps=steps, provenance=provenance)
