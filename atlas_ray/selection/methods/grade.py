"""Method `grade`: a selector model grades every step, and the best are chosen (WebSTAR, 2512.10962).

A step's score is its grade, 0 to 10. Either the budget's number of steps with the highest grades is chosen, or those
with at least `threshold`, of which the budget keeps the best. Wording and parser are in `selection/grading.py`; how the
question is put is in `asking.py`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from atlas_ray.selection import grading
from atlas_ray.selection.asking import AskingMethod, SelectorOptions
from atlas_ray.selection.budget import highest
from atlas_ray.selection.prompt import Prompt, Question
from atlas_ray.trajectory import Trajectory

_ASSESSMENT_TOKENS, _STEP_TOKENS = 80, 12
"""A typical answer: its assessment, and each step with its grade."""


class GradeOptions(SelectorOptions):
    """Method `grade`: the selector model that grades every step (2512.10962), and how it is asked."""

    threshold: int | None = Field(None, ge=0, le=grading.HIGHEST)
    """Only steps with this grade or a higher one are chosen, up to the budget; None: the budget's number of steps."""


class GradeSteps(AskingMethod):
    """The budget's number of steps with the highest grades, or fewer with a threshold; of equal steps the earlier."""

    summary = "the steps that a capable model, which grades every step, grades highest"
    source = "WebSTAR, 2512.10962"
    needs = "one question per trajectory"
    color = ("#3949ab", "#9fa8da")
    Options = GradeOptions
    WORDING = grading.WORDING
    SCHEMA = grading.SCHEMA

    def question(self, trajectory: Trajectory, *, stand_in: bool) -> Prompt:
        """See `AskingMethod.question`."""
        if stand_in:
            return grading.build_short(trajectory)
        return grading.build(trajectory, self.options.max_prompt_chars)

    def read(self, trajectory: Trajectory, text: str, *, cut: bool) -> dict[str, Any]:
        """See `AskingMethod.read`."""
        grades, assessment = grading.parse(text, trajectory.n_steps, cut=cut)
        threshold = self.options.threshold
        steps = highest(grades, self.spec.ratio)
        if threshold is not None:
            steps = tuple(step for step in steps if grades[step] >= threshold)
        return {"steps": steps, "scores": grades, "reason": assessment}

    def repair(self, question: Question, trajectory: Trajectory, answer: str, error: str) -> Question:
        """See `AskingMethod.repair`."""
        return grading.repair(question, trajectory, answer, error)

    def expected_tokens(self, trajectory: Trajectory) -> int:
        """See `AskingMethod.expected_tokens`."""
        return _ASSESSMENT_TOKENS + _STEP_TOKENS * trajectory.n_steps
