"""What the `llm` method would ask and cost, before anything is asked: `jobs/select.py --dry-run`.

Every first question is built, elided and looked up in the journal as in a real run. Tokens are counted with the run's
own tokenizer, which differs from the selector's by some percent; a repair round, which few trajectories need, comes on
top.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from atlas_ray import models
from atlas_ray.config import PipelineConfig
from atlas_ray.inference.cost import cost_usd, price_of
from atlas_ray.inference.resolve import resolve
from atlas_ray.selection.budget import budget
from atlas_ray.selection.journal import Journal, question_key
from atlas_ray.selection.llm import ask_for
from atlas_ray.selection.prompt import PromptTooLongError
from atlas_ray.selection.source import plan, read
from atlas_ray.store import GROUP_ROWS, Store

_PLAN_TOKENS, _STEP_TOKENS = 80, 45
"""A typical answer: its plan, and each step with category and reason."""


@dataclass
class Estimate:
    """The bill before the meal."""

    model: str
    where: str
    trajectories: int = 0
    calls: int = 0
    """Questions that the journal cannot answer."""
    cache_hits: int = 0
    without_steps: int = 0
    too_long: int = 0
    elided: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Expected."""
    completion_tokens_at_most: int = 0
    cost_usd: float | None = None
    """Expected; None where the price is not known."""
    cost_usd_at_most: float | None = None

    def facts(self) -> dict[str, Any]:
        """As a plain row."""
        return asdict(self)

    def text(self) -> str:
        """For people, in a few lines."""
        cost = "price unknown: add the model to select.llm.prices"
        if self.cost_usd is not None and self.cost_usd_at_most is not None:
            cost = f"about {self.cost_usd:.2f} USD, at most {self.cost_usd_at_most:.2f} USD"
        return (
            f"dry run: {self.model} {self.where}; nothing was asked\n"
            f"  {self.trajectories} trajectories: {self.calls} calls, {self.cache_hits} answers in the journal, "
            f"{self.without_steps} without steps, {self.too_long} too long, {self.elided} elided\n"
            f"  {self.prompt_tokens} prompt tokens, about {self.completion_tokens} completion tokens (at most "
            f"{self.completion_tokens_at_most})\n  {cost}; repair rounds come on top"
        )


def estimate(config: PipelineConfig, store: Store, ids: Collection[str] | None = None) -> Estimate:
    """Calls, tokens and cost of the `llm` method over stored trajectories.

    Raises:
        EndpointError: the endpoint cannot be used.
        ModelError: the run's model has no tokenizer.
    """
    selector = config.select.llm
    endpoint = resolve(selector, os.environ)
    identity = endpoint.model if endpoint is not None else os.path.basename(config.model.rstrip("/"))
    where = f"at {endpoint.base_url}" if endpoint is not None else "on this machine, a stand-in not to be trusted"
    price = price_of(selector.prices, identity) if endpoint is not None else (0.0, 0.0)
    count = models.token_counter(models.resolve(config.model, trust_remote_code=config.trust_remote_code))
    sampling = {"temperature": selector.temperature, "max_tokens": selector.max_tokens}
    journal, found = Journal(store), Estimate(identity, where)
    asked: set[str] = set()
    for chunk in plan(store, ids, GROUP_ROWS).chunks:
        for trajectory in read(store, chunk):
            found.trajectories += 1
            limit = budget(trajectory.n_steps, config.select.ratio)
            if not limit:
                found.without_steps += 1
                continue
            try:
                prompt = ask_for(trajectory, limit, selector.max_prompt_chars, stand_in=endpoint is None)
            except PromptTooLongError:
                found.too_long += 1
                continue
            found.elided += prompt.elided is not None
            key = question_key(identity, prompt.question, sampling)
            if key in asked or journal.has(key):
                found.cache_hits += 1
                continue
            asked.add(key)
            found.calls += 1
            found.prompt_tokens += sum(count([message["content"] for message in prompt.question.messages]))
            found.completion_tokens += min(selector.max_tokens, _PLAN_TOKENS + _STEP_TOKENS * limit)
            found.completion_tokens_at_most += selector.max_tokens
    if price is not None:
        found.cost_usd = cost_usd(found.prompt_tokens, found.completion_tokens, price)
        found.cost_usd_at_most = cost_usd(found.prompt_tokens, found.completion_tokens_at_most, price)
    return found
