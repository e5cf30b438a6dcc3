"""Method `perplexity`: the steps that a model finds hardest to generate (paper Appendix B.2, equation 5).

The score of a step with n tokens is exp(-1/n sum log p). With a reference model it is the difference between the mean
negative log-likelihoods under two models. How a model reads trajectories is in `selection/prefill.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, fsum, log
from typing import Any

from atlas_ray import models
from atlas_ray.hashing import content_hash
from atlas_ray.section import Section
from atlas_ray.selection.method import SelectionContext
from atlas_ray.selection.prefill import Found, ScoringModel
from atlas_ray.selection.scored import ScoredMethod


class PerplexityOptions(Section):
    """Method `perplexity` (paper Appendix B.2)."""

    reference_model: str | None = None
    """None: the score is the perplexity under the model that tuning starts from. A model, as `model` takes it (a tuned
    checkpoint's directory): the score is the mean negative log-likelihood under the former less that under this one."""


class PerplexitySteps(ScoredMethod):
    """The budget's number of steps with the highest score; of equal steps the earlier."""

    summary = "steps that the model finds hardest to write, or writes much more easily once it is tuned"
    source = "paper B.2"
    needs = "one prefill per trajectory; two with a reference model"
    color = ("#c2410c", "#ff9a5c")
    Options = PerplexityOptions

    def models(self, context: SelectionContext) -> list[ScoringModel]:
        """The model that tuning starts from, and the reference model where there is one."""
        config, reference = context.config, self.options.reference_model
        found = super().models(context)
        if reference is not None:
            code = config.trust_remote_code
            key = content_hash([models.identity(reference, trust_remote_code=code), config.engine.fingerprint()])
            name = reference.removeprefix(context.store.root + "/")
            found.append(ScoringModel(reference, name, key, config.engine, code, config.evaluate.thinking.on))
        return found

    def depends_on(self, context: SelectionContext) -> Any:
        """The scoring models, and the engine's context and data type."""
        config, reference = context.config, self.options.reference_model
        identity = reference and models.identity(reference, trust_remote_code=config.trust_remote_code)
        return [*super().depends_on(context), identity]

    def scores(self, *found: Found) -> Sequence[float]:
        """Perplexities, or differences of two models' mean negative log-likelihoods."""
        first, *reference = (perplexities(each["logprobs"]) for each in found)
        return differences(first, reference[0]) if reference else first


def perplexities(logprobs: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """exp(mean negative log-likelihood) of each step, from the log-probabilities of its tokens."""
    return tuple(exp(-fsum(step) / len(step)) for step in logprobs)


def differences(base: Sequence[float], reference: Sequence[float]) -> tuple[float, ...]:
    """Mean negative log-likelihood of each step under a base model minus that under a reference (tuned) model.

    High where the reference model has learnt what the base model could not foresee.

    Args:
        base: perplexities under the base model.
        reference: perplexities under the reference model, step by step.
    """
    return tuple(log(one) - log(other) for one, other in zip(base, reference, strict=True))
