"""Method `llm`: a selector model reads the numbered trajectory and names its critical steps (paper section 3.2).

The rule alone: prompt, answer, one repair round, and what is recorded. How a question travels to an endpoint, and what
is remembered of answers, is behind `Ask` (`inference/client.py`, `selection/journal.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from atlas_ray.inference.client import CallError, Reply
from atlas_ray.inference.cost import cost_usd
from atlas_ray.selection.answer import Answer, AnswerError, parse
from atlas_ray.selection.budget import budget
from atlas_ray.selection.prompt import WORDING, Prompt, PromptTooLongError, Question, build, build_short, repair
from atlas_ray.trajectory import Selection, Trajectory, Usage

STAND_IN_NOTE = "chosen by the run's own base model in place of a capable selector; not to be trusted"


class Ask(Protocol):
    """Puts a question to the selector model."""

    async def __call__(self, question: Question) -> Reply:
        """The answer.

        Raises:
            CallError: this question got no answer.
            AtlasError: no question will get one: the endpoint refused for good, or the budget is spent.
        """
        ...


async def select(
    trajectory: Trajectory,
    ratio: float,
    seed: int,
    ask: Ask,
    *,
    model: str,
    max_prompt_chars: int,
    price_per_million: tuple[float, float],
    stand_in: bool = False,
) -> Selection:
    """The selector's choice, or an error row.

    Args:
        trajectory: what to judge.
        ratio: share of the steps.
        seed: not used; the selector decodes greedily by default.
        ask: answers questions.
        model: recorded.
        max_prompt_chars: see `prompt.build`.
        price_per_million: USD per million prompt and completion tokens.
        stand_in: use the short, constrained prompt of the model on board, and say so.

    Raises:
        AtlasError: no question will be answered any more.
    """
    del seed
    limit = budget(trajectory.n_steps, ratio)
    provenance: dict[str, Any] = {"model": model, "wording": WORDING}
    if stand_in:
        provenance |= {"stand_in": True, "note": STAND_IN_NOTE}
    if not limit:
        return _row(trajectory, ratio, provenance)
    try:
        prompt = ask_for(trajectory, limit, max_prompt_chars, stand_in=stand_in)
    except PromptTooLongError as error:
        return _row(trajectory, ratio, provenance, error=f"prompt_too_long: {error}")
    if prompt.elided:
        provenance["elided"] = prompt.elided
    replies: list[Reply] = []
    try:
        answer, failure = await _answer(trajectory.n_steps, limit, ask, prompt, replies)
    except CallError as error:
        answer, failure = None, str(error)
    usage = _usage(replies, price_per_million)
    if replies:
        provenance |= {"sampling": replies[-1].sampling, "answered_by": replies[-1].model}
    if len(replies) > 1:
        provenance["repaired"] = answer is not None
    return _row(trajectory, ratio, provenance, answer=answer, error=failure, usage=usage)


def ask_for(trajectory: Trajectory, limit: int, max_prompt_chars: int, *, stand_in: bool) -> Prompt:
    """The first question about a trajectory.

    Raises:
        PromptTooLongError: see `prompt.build`.
    """
    return build_short(trajectory, limit) if stand_in else build(trajectory, limit, max_prompt_chars)


async def _answer(
    n_steps: int, limit: int, ask: Ask, prompt: Prompt, replies: list[Reply]
) -> tuple[Answer | None, str | None]:
    """A valid answer, or what was wrong with the second one; every reply is appended to `replies`."""
    question, failure = prompt.question, ""
    for _ in range(2):
        reply = await ask(question)
        replies.append(reply)
        try:
            return _read(reply, n_steps, limit), None
        except AnswerError as error:
            failure = str(error)
            question = repair(prompt.question, reply.text, error.detail, n_steps, limit)
    return None, failure


def _read(reply: Reply, n_steps: int, limit: int) -> Answer:
    if reply.refusal is not None:
        raise AnswerError("refusal", " ".join(reply.refusal.split())[:200] or "the answer was withheld")
    try:
        return parse(reply.text, n_steps, limit)
    except AnswerError as error:
        if reply.finish_reason == "length":
            raise AnswerError("truncated", "the answer was cut at its maximum length; be brief") from error
        raise


def _usage(replies: Sequence[Reply], price_per_million: tuple[float, float]) -> Usage:
    prompt_tokens = sum(reply.prompt_tokens for reply in replies)
    completion_tokens = sum(reply.completion_tokens for reply in replies)
    cost = cost_usd(prompt_tokens, completion_tokens, price_per_million)
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cost_usd=round(cost, 9))


def _row(
    trajectory: Trajectory,
    ratio: float,
    provenance: dict[str, Any],
    *,
    answer: Answer | None = None,
    error: str | None = None,
    usage: Usage | None = None,
) -> Selection:
    return Selection(
        trajectory_id=trajectory.trajectory_id,
        method="llm",
        ratio=ratio,
        steps=answer.steps if answer else (),
        categories=answer.categories if answer else None,
        plan=answer.plan if answer else None,
        reason=answer.reason if answer else None,
        error=error,
        usage=usage or Usage(),
        provenance=provenance,
    )
