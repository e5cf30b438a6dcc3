"""The contract's checker names the clause that an environment breaks; `test_all.py` checks every environment."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest

from atlas_ray.environments import ContractError, TextEnv, check_env, names, registry
from atlas_ray.environments.contract import EnvironmentCard, Outcome, Split
from atlas_ray.trajectory import ToolCall


class _Expert:
    def __init__(self, env: Toy) -> None:
        self._env = env

    def next_action(self, observation: str) -> tuple[str, str]:
        return "The target is higher, so I add one.", "add" if self._env.total < 3 else "stop"


class Toy(TextEnv):
    """Add up to three, then stop."""

    def __init__(self, *, max_rounds: int | None = None) -> None:
        super().__init__(
            EnvironmentCard(
                name="toy",
                held_in=False,
                metric="progress_rate",
                max_rounds=8,
                instruction="Add up to three. Answer with Thought: and Action:.",
                n_train=4,
                n_test=2,
                source="this test",
                action_rule="last",
            ),
            max_rounds=max_rounds,
        )
        self.total = 0

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        self.total = 0
        return f"{split} {task}: the total is 0."

    def _act(self, action: str) -> Outcome:
        if action == "add":
            self.total += 1
        done = action == "stop" and self.total == 3
        return Outcome(f"The total is {self.total}.", min(1.0, self.total / 3), done, done)

    def valid_actions(self) -> list[str]:
        return ["add", "stop"] if self.running else []

    def expert(self) -> _Expert:
        return _Expert(self)

    def _save(self) -> int:
        return self.total

    def _load(self, inner: int) -> None:
        self.total = inner


class Forgetful(Toy):
    def _load(self, inner: int) -> None:
        self.total = max(0, inner - 1)


class Random(Toy):
    def _start(self, task: int, split: Split, seed: int | None) -> str:
        return super()._start(task, split, seed) + str(random.random())


class Unsorted(Toy):
    def valid_actions(self) -> list[str]:
        return super().valid_actions()[::-1]


class Clueless(Toy):
    def expert(self) -> Any:
        return type("E", (), {"next_action": lambda self, observation: ("I do not know.", "wait")})()


class Fragile(Toy):
    def _act(self, action: str) -> Outcome:
        if not action.isascii():
            self.total += 1
        return super()._act(action)


class Greedy(Toy):
    def _act(self, action: str) -> Outcome:
        return super()._act(action)._replace(score=2.0)


class Silent(Toy):
    def _act(self, action: str) -> Outcome:
        return super()._act(action)._replace(observation="")


class Restless(Toy):
    """A look that adds."""

    def looks(self) -> list[str]:
        return ["add"] if self.running and self.total == 0 else super().looks()


class Boastful(Toy):
    def looks(self) -> list[str]:
        return ["sing"] if self.running else []


class Moody(Toy):
    """A look that changes nothing but what the next action is answered."""

    def __init__(self, *, max_rounds: int | None = None) -> None:
        super().__init__(max_rounds=max_rounds)
        self.asked = False

    def valid_actions(self) -> list[str]:
        return ["add", "ask", "stop"] if self.running else []

    def looks(self) -> list[str]:
        return ["ask"] if self.running else []

    def _act(self, action: str) -> Outcome:
        found = super()._act(action)
        if action == "add" and self.asked:
            found, self.asked = found._replace(observation=f"{found.observation} You asked."), False
        self.asked |= action == "ask"
        return found

    def _save(self) -> Any:
        return self.total, self.asked

    def _load(self, inner: Any) -> None:
        self.total, self.asked = inner


class Tongue(Toy):
    """Publishes a function that no action is a call of."""

    def tools(self) -> list[dict[str, Any]]:
        return [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


class Deaf(Toy):
    def action_of(self, call: ToolCall) -> str:
        return super().action_of(call).upper()


class Denying(Toy):
    """Its errors begin otherwise than it says."""

    refusals = "I do not understand"


class Alarmed(Toy):
    """It calls every text an error."""

    refusals = ""


class Posthumous(Toy):
    def looks(self) -> list[str]:
        return ["stop"]


@pytest.fixture
def registered(request: pytest.FixtureRequest) -> Iterator[None]:
    registry.register("toy", f"{__name__}:{request.param}")
    yield
    del registry._CLASSES["toy"], gymnasium.registry["atlas/toy-v0"]


@pytest.mark.parametrize("registered", ["Toy"], indirect=True)
def test_a_sound_environment_passes(registered: None) -> None:
    check_env("toy")
    assert "toy" in names()


@pytest.mark.parametrize(
    ("registered", "clause"),
    [
        ("Forgetful", "snapshots|valid actions"),
        ("Random", "determinism .*two resets"),
        ("Unsorted", "not sorted"),
        ("Clueless", "expert: it solves 0 of 3 training tasks"),
        ("Fragile", "changed the"),
        ("Greedy", r"score 2.0 is not in \[0, 1\]"),
        ("Silent", "observation '' is not a text"),
        ("Restless", r"looks \(.*the look 'add' changed the score"),
        ("Boastful", r"looks \(.*an action that valid_actions does not"),
        ("Moody", r"looks \(.*the look 'ask' changed the state"),
        ("Tongue", r"tools \(.*no function on offer stands for 'add'"),
        ("Deaf", r"tools \(.*the call of 'add' is the action 'ADD'"),
        ("Posthumous", "life cycle: looks must be empty after the end"),
        ("Denying", r"valid actions and nonsense \(.*is no error by is_error"),
        ("Alarmed", "the first observation is an error by is_error"),
    ],
    indirect=["registered"],
)
def test_the_check_names_the_broken_clause(registered: None, clause: str) -> None:
    with pytest.raises(ContractError, match=clause):
        check_env("toy")


def test_looks_are_found_by_trying_every_valid_action() -> None:
    env = Toy()
    env.reset(options={"task": 0})
    assert env.looks() == ["stop"]  # it does nothing before the total is 3
    for _ in range(3):
        env.step("add")
    before = env.snapshot()
    assert env.looks() == []  # now it ends the episode
    assert env.snapshot() == before
    env.step("stop")
    assert env.looks() == []


def test_looks_are_not_tried_where_a_snapshot_is_a_replay() -> None:
    env = Toy()
    env._card = env.card.model_copy(update={"snapshot": "replay"})
    env.reset(options={"task": 0})
    assert env.looks() == []
