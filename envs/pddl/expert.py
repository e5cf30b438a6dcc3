"""The PDDL expert: follows a plan and explains what each action is for.

It follows the shipped plan while the episode does; from any other state it searches for a plan. The explanation comes
from the plan: the goal that the action reaches, or the later action that needs its effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from envs.pddl.parser import Fact
from envs.pddl.planner import plan
from envs.pddl.strips import Operator, State

if TYPE_CHECKING:
    from envs.pddl.env import PDDLEnv


class PDDLExpert:
    """Keeps the rest of its plan, and the state in which that rest begins."""

    def __init__(self, env: PDDLEnv) -> None:
        self._env = env
        self._plan = [env.task.operators[step] for step in env.known_plan]
        self._expected = env.task.problem.start

    def next_action(self, observation: str) -> tuple[str, str]:
        """The next action of the plan; see `Expert`."""
        state = self._env.state
        if not self._plan or self._expected != state:
            self._plan = plan(self._env.task, state) or []
        if not self._plan:
            return "I do not find a way to the goal from here, so I look what can be done.", "check valid actions"
        operator = self._plan.pop(0)
        self._expected = operator.after(state)
        words = self._env.wording
        return self._reason(operator, state), words.operator(operator)

    def _said(self, facts: Iterable[Fact]) -> list[str]:
        """Facts as the expert says them, sorted."""
        return sorted(re.sub("^you ", "I ", self._env.wording.fact(fact)) for fact in facts)

    def _reason(self, operator: Operator, state: State) -> str:
        words, goal = self._env.wording, self._env.task.problem.goal
        action = words.operator(operator)
        opening = ""
        if self._env.rounds == 0:
            missing = "; ".join(self._said(goal - state))
            opening = f"What is missing: {missing}. " if missing else ""
        reached = self._said(operator.adds & goal - state)
        if reached:
            return f"{opening}The goal asks that {' and '.join(reached)}, and I can do that now: {action}."
        new = operator.adds - state
        for later in self._plan:
            wanted = self._said(later.needs & new)
            if wanted:
                return f"{opening}To {words.operator(later)}, I need that {' and '.join(wanted)}. So I {action}."
        return f"{opening}Nothing must be in the way of the next steps, so I {action}."
