"""PDDL: reach the goal of a planning problem with actions in words (AgentBoard's PDDL tasks).

The engine is in `strips.py`, the wording in `words.py`, problems in `tasks.py`, the expert in `expert.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from atlas_ray.environments.contract import EnvironmentCard, Outcome, Split, TextEnv
from atlas_ray.errors import ConfigError
from envs.pddl.expert import PDDLExpert
from envs.pddl.strips import State, Task
from envs.pddl.tasks import Entry, check_domains, from_paths, shipped, task_of
from envs.pddl.words import Wording, find_action, wording

INSTRUCTION = """\
Reach the goal by the actions that are described. Answer each observation with a thought and one action:
Thought: your reasoning
Action: an action with the objects it is about, or check valid actions"""

_INVALID = "The action is not valid now and changes nothing. Mind what it needs; you can also check valid actions."
_UNKNOWN = "This is not an action here and changes nothing. An action is a verb and its objects; check valid actions."


class PDDLEnv(TextEnv):
    """Tasks are problems; `info["score"]` is the largest share of the goal's facts that held after any action so far.

    Args:
        domains: Only these of the four domains; tasks then take turns among them.
        domain: A domain file of your own, with `problems`.
        problems: A problem file, or a directory of them in sorted order; task i is the i-th, whatever the split.
        max_rounds: Rounds before truncation, the paper's 20 unless given.

    `valid_actions` lists what can be done and changes something. A task has nothing random, so `seed` changes nothing.
    """

    refusals: ClassVar[str] = r"The action is not valid|This is not an action"

    def __init__(
        self,
        *,
        domains: Sequence[str] | None = None,
        domain: str | Path | None = None,
        problems: str | Path | None = None,
        max_rounds: int | None = None,
    ) -> None:
        self._entries: dict[Split, tuple[Entry, ...]]
        if domain is not None and problems is not None and domains is None:
            own = from_paths(domain, problems)
            self._entries = {"train": own, "test": own}
        elif domain is not None or problems is not None:
            raise ConfigError("pddl: give domain=FILE and problems=FILE or DIRECTORY together, and no domains")
        else:
            chosen = check_domains(domains)
            self._entries = {"train": shipped(chosen, "train"), "test": shipped(chosen, "test")}
        card = EnvironmentCard(
            name="pddl",
            held_in=False,
            metric="progress_rate",
            max_rounds=20,
            instruction=INSTRUCTION,
            n_train=len(self._entries["train"]),
            n_test=len(self._entries["test"]),
            source="rules of AgentBoard's PDDL tasks; domains, problems and engine are our own",
            action_rule="first",
        )
        super().__init__(card, max_rounds=max_rounds)
        self._entry: Entry
        self._current: Task
        self._wording: Wording
        self._state: State = frozenset()

    @property
    def task(self) -> Task:
        """The problem of the running episode."""
        return self._current

    @property
    def state(self) -> State:
        """The facts that hold."""
        return self._state

    @property
    def wording(self) -> Wording:
        """The words of the domain."""
        return self._wording

    @property
    def known_plan(self) -> list[tuple[str, tuple[str, ...]]]:
        """A plan from the start, as name and objects a step; empty for problems of your own."""
        return [(name, tuple(objects)) for name, *objects in map(str.split, self._entry.plan)]

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        self._enter(self._entries[split][task])
        self._state = self._current.problem.start
        return f"{self._wording.rules(self._entry.domain)}\n\n{self._goal()}\nObservation: {self._facts(self._state)}"

    def _enter(self, entry: Entry) -> None:
        self._entry, self._current, self._wording = entry, task_of(entry), wording(entry.domain)

    def _goal(self) -> str:
        problem = self._current.problem
        facts = [f"{self._wording.fact(fact)}." for fact in problem.goal]
        facts += [f"not: {self._wording.fact(fact)}." for fact in problem.goal_not]
        return f"The goal is to satisfy the following conditions: {', '.join(sorted(facts))}"

    def _facts(self, facts: State) -> str:
        return self._wording.sentences(facts) or "Nothing."

    def _act(self, action: str) -> Outcome:
        text = action.strip().rstrip(".").lower()
        if text in ("check valid actions", "check"):
            return self._same(f"Valid actions are: {', '.join(self.valid_actions())}")
        if text == "look around":
            return self._same(self._facts(self._state))
        found = find_action(text, self._current.arities, self._current.problem.objects)
        if found is None:
            return self._same(_UNKNOWN)
        operator = self._current.operators.get(found)
        if operator is None or not operator.applies(self._state):
            return self._same(_INVALID)
        after = operator.after(self._state)
        if after == self._state:
            return self._same(_INVALID)
        before, self._state = self._state, after
        progress = self._current.progress(after)
        seen = self._facts(after - before) if self._wording.brief else self._facts(after)
        if progress < 1:
            return Outcome(seen, max(self._score, progress))
        return Outcome(f"{seen} The goal is satisfied.", 1.0, success=True, done=True)

    def _same(self, observation: str) -> Outcome:
        return Outcome(observation, self._score)

    def _explain_format(self) -> str:
        return _UNKNOWN

    def valid_actions(self) -> list[str]:
        if not self.running:
            return []
        actions = {self._wording.operator(operator) for operator in self._current.applicable(self._state)}
        return sorted(actions | {"check valid actions", "look around"})

    def expert(self) -> PDDLExpert:
        return PDDLExpert(self)

    def _save(self) -> tuple[int, Split, State]:
        return self._task, self._split, self._state

    def _load(self, inner: tuple[int, Split, State]) -> None:
        task, split, self._state = inner
        self._enter(self._entries[split][task])
