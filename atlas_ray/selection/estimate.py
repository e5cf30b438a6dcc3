"""What a selection that asks a selector would ask and cost, before anything is asked: `atlas-ray select --dry-run`.

Every first question is built, elided and looked up in the journal as in a real run. Tokens are counted with the run's
own tokenizer, which differs from the selector's by some percent. Repair questions, which few trajectories need, are not
counted.
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
from atlas_ray.selection.asking import AskingMethod, SelectorOptions
from atlas_ray.selection.chunks import plan, read
from atlas_ray.selection.journal import AnswerJournal, question_key
from atlas_ray.selection.prompt import PromptTooLongError
from atlas_ray.store import GROUP_ROWS, Store


@dataclass
class Estimate:
    """The expected cost of one selection."""

    selection: str
    """Its name."""
    method: str
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
        cost = f"price unknown: add the model to select.{self.method}.prices"
        if self.cost_usd is not None and self.cost_usd_at_most is not None:
            cost = f"about {self.cost_usd:.2f} USD, at most {self.cost_usd_at_most:.2f} USD"
        return (
            f"dry run of {self.selection}: {self.model} {self.where}; nothing was asked\n"
            f"  {self.trajectories} trajectories: {self.calls} calls, {self.cache_hits} answers in the journal, "
            f"{self.without_steps} without steps, {self.too_long} too long, {self.elided} elided\n"
            f"  {self.prompt_tokens} prompt tokens, about {self.completion_tokens} completion tokens (at most "
            f"{self.completion_tokens_at_most})\n  {cost}; repair rounds come on top"
        )


def estimate(
    config: PipelineConfig, store: Store, method: AskingMethod, ids: Collection[str] | None = None
) -> Estimate:
    """Calls, tokens and cost of a selection over stored trajectories.

    Args:
        config: of the run.
        store: its run directory.
        method: of the selection.
        ids: the trajectories to judge; None: all of them.

    Raises:
        EndpointError: the endpoint cannot be used.
        ModelError: the run's model has no tokenizer.
    """
    spec = method.spec
    selector: SelectorOptions = method.options
    endpoint = resolve(selector, os.environ)
    identity = endpoint.model if endpoint is not None else os.path.basename(config.model.rstrip("/"))
    where = f"at {endpoint.base_url}" if endpoint is not None else "on this machine, a stand-in not to be trusted"
    price = price_of(selector.prices, identity) if endpoint is not None else (0.0, 0.0)
    count = models.token_counter(models.resolve(config.model, trust_remote_code=config.trust_remote_code))
    journal, found = AnswerJournal(store), Estimate(spec.name, spec.method, identity, where)
    asked: set[str] = set()
    for chunk in plan(store, ids, GROUP_ROWS).chunks:
        for trajectory in read(store, chunk):
            found.trajectories += 1
            if not trajectory.n_steps:
                found.without_steps += 1
                continue
            try:
                prompt = method.question(trajectory, stand_in=endpoint is None)
            except PromptTooLongError:
                found.too_long += 1
                continue
            found.elided += prompt.elided is not None
            key = question_key(identity, prompt.question, selector.sampling)
            if key in asked or journal.has(key):
                found.cache_hits += 1
                continue
            asked.add(key)
            found.calls += 1
            found.prompt_tokens += sum(count([message["content"] for message in prompt.question.messages]))
            found.completion_tokens += min(selector.max_tokens, method.expected_tokens(trajectory))
            found.completion_tokens_at_most += selector.max_tokens
    if price is not None:
        found.cost_usd = cost_usd(found.prompt_tokens, found.completion_tokens, price)
        found.cost_usd_at_most = cost_usd(found.prompt_tokens, found.completion_tokens_at_most, price)
    return found
