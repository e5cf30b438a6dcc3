"""Method `llm`: a selector model reads the numbered trajectory and names its critical steps (paper section 3.2).

The wording is in `prompt.py`, the parser of answers in `answer.py`; how the question is put is in `asking.py`.
"""

from __future__ import annotations

from typing import Any

from atlas_ray.selection.answer import parse
from atlas_ray.selection.asking import AskingMethod, SelectorOptions
from atlas_ray.selection.budget import budget
from atlas_ray.selection.prompt import ANSWER_SCHEMA, WORDING, Prompt, Question, build, build_short, repair
from atlas_ray.trajectory import Trajectory

_PLAN_TOKENS, _STEP_TOKENS = 80, 45
"""A typical answer: its plan, and each step with category and reason."""


class LlmOptions(SelectorOptions):
    """Method `llm`: the selector model (paper section 3.2), and how it is asked."""


class LlmSteps(AskingMethod):
    """The steps that a selector model names."""

    summary = "what a capable model, after making a plan, calls decisive; with reasons and categories"
    source = "paper 3.2"
    needs = "one question per trajectory"
    color = ("#0b66c3", "#6cb2ff")
    Options = LlmOptions
    WORDING = WORDING
    SCHEMA = ANSWER_SCHEMA

    def question(self, trajectory: Trajectory, *, stand_in: bool) -> Prompt:
        """See `AskingMethod.question`."""
        limit = self._limit(trajectory)
        return build_short(trajectory, limit) if stand_in else build(trajectory, limit, self.options.max_prompt_chars)

    def read(self, trajectory: Trajectory, text: str, *, cut: bool) -> dict[str, Any]:
        """See `AskingMethod.read`."""
        return parse(text, trajectory.n_steps, self._limit(trajectory), cut=cut)._asdict()

    def repair(self, question: Question, trajectory: Trajectory, answer: str, error: str) -> Question:
        """See `AskingMethod.repair`."""
        return repair(question, answer, error, trajectory.n_steps, self._limit(trajectory))

    def expected_tokens(self, trajectory: Trajectory) -> int:
        """See `AskingMethod.expected_tokens`."""
        return _PLAN_TOKENS + _STEP_TOKENS * self._limit(trajectory)

    def _limit(self, trajectory: Trajectory) -> int:
        return budget(trajectory.n_steps, self.spec.ratio)
