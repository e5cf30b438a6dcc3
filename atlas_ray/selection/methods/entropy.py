"""Method `entropy`: the steps at which a model is least certain how to go on (2506.01939, for reinforcement learning).

At a token of the expert's step, the model's distribution over the vocabulary has the entropy H = -sum p log p, which is
logsumexp(z) - sum p z of its logits z. Most tokens of a step are forced by those before them and have almost none, so
a step's score is the mean of its `top` share of highest entropies; or, with `rise`, how much higher that is than the
step's before. Numbers come from the same prefill as those of `perplexity` (`selection/prefill.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, fsum

from pydantic import Field

from atlas_ray.section import Section
from atlas_ray.selection.prefill import Found
from atlas_ray.selection.scored import ScoredMethod


class EntropyOptions(Section):
    """Method `entropy`: at which tokens the model is uncertain."""

    top: float = Field(0.2, gt=0, le=1)
    """Share of a step's tokens that count, those with the highest entropy, at least one (2506.01939: a fifth)."""
    rise: bool = False
    """The score is how much higher the entropy is than at the step before; 0 for the first step."""


class EntropySteps(ScoredMethod):
    """The budget's number of steps with the highest score; of equal steps the earlier."""

    summary = "steps at which the model is least certain how to go on"
    source = "2506.01939"
    needs = "one prefill per trajectory, the same as `perplexity`'s"
    color = ("#8e24aa", "#d68df0")
    Options = EntropyOptions

    def scores(self, *found: Found) -> Sequence[float]:
        """Mean entropies in nats, or their rises."""
        [tokens] = found
        means = highest_means(tokens["entropies"], self.options.top)
        return [0.0, *(later - earlier for earlier, later in pairwise(means))] if self.options.rise else means


def highest_means(entropies: Sequence[Sequence[float]], top: float) -> list[float]:
    """The mean of the `top` share of highest entropies of each step, rounded up to a whole token.

    Args:
        entropies: of the tokens of each step; no step is empty.
        top: in (0, 1].
    """
    counts = [ceil(round(top * len(step), 9)) for step in entropies]
    return [fsum(sorted(step)[-count:]) / count for step, count in zip(entropies, counts, strict=True)]
