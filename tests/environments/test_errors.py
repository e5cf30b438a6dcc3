"""What an environment says of errors (`TextEnv.is_error`), against what happened to its state."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from atlas_ray.environments import make, names
from atlas_ray.environments.registry import _load_class
from envs.tools.env import ToolEnv
from envs.tools.grammar import format_call

TOOLS = [name for name in names() if issubclass(_load_class(name), ToolEnv)]
JUNK = ["moon", -1, 0, 3, "2023-02-30", "2021-01-01", [["a"]], ["A1"], "A1", "", 1e9, True, {"a": 1}, [], "B2", [1]]
OWN = [
    "academia", "alfworld", "babyai", "jericho", "maze", "movie", "pddl", "scienceworld", "sheet", "textcraft", "todo",
    "weather", "webshop", "wordle",
]  # fmt: skip


def test_all_fourteen_tell_their_errors() -> None:
    assert all(_load_class(name).refusals for name in OWN)


@pytest.mark.parametrize("name", ["textcraft", "pddl"])
def test_what_changes_nothing_and_is_no_look_was_refused(name: str) -> None:
    draw, env, refused = random.Random(name), make(name, max_rounds=100), 0
    for task in range(4):
        env.reset(options={"task": task})
        for _ in range(40):
            if not env.running:
                break
            looks = env.looks()
            action = draw.choice([*draw.sample(env.valid_actions(), 2), "get 1 moon", "sing", "craft 1 x using 1 y"])
            before = env.snapshot().inner
            observation = env.step(action)[0]
            is_refused = env.snapshot().inner == before and action not in looks
            assert env.is_error(observation) is is_refused, (action, observation)
            refused += is_refused
    assert refused > 20


@pytest.mark.parametrize("name", TOOLS)
def test_a_call_that_failed_is_an_error_and_no_other(name: str) -> None:
    draw, refused = random.Random(name), 0
    env = make(name, max_rounds=10_000)
    assert isinstance(env, ToolEnv)
    with contextlib.closing(env):
        for task in range(4):
            observation, _ = env.reset(options={"task": task})
            assert not env.is_error(observation)
            for _ in range(80):
                tool = draw.choice([each for each in env.toolbox.names if each != "finish"])
                parameters = env.toolbox.get(tool).parameters  # type: ignore[union-attr]
                action = format_call(tool, {key: draw.choice(JUNK) for key in parameters if draw.random() < 0.95})
                if draw.random() < 0.3 and not (own := env.expert().next_action(observation)[1]).startswith("finish"):
                    action = own
                before = len(env.log)
                observation = env.step(action)[0]
                failed = len(env.log) == before and not action.startswith("check_valid_actions")
                assert env.is_error(observation) is failed, (action, observation)
                refused += failed
    assert refused > 20


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("alfworld", "Nothing happens.\nAVAILABLE ACTIONS: look", True),
        ("alfworld", "You see nothing special.", False),
        ("babyai", "You cannot see any objects within sight. The room has walls around you.", False),
        ("babyai", "You cannot drop the object, as you are not carrying anything.\nAvailable actions: []", True),
        ("jericho", "(the box) That's fixed in place.", True),
        ("jericho", "You can't see any such thing.", True),
        ("jericho", "-= Workshop =- You can't help noticing a locker.", False),
        ("jericho", "You open the locker.", False),
        ("maze", 'Your possible actions are "move up\\n", "move down\\n".', True),
        ("scienceworld", "No known action matches that input.", True),
        ("scienceworld", "The door is now open.", False),
        ("scienceworld", "The door is not open.", True),
        ("scienceworld", "Ambiguous request: Please enter the number for the action you intended", False),
        ("webshop", "Invalid Action!\n\nWebShop [SEP] Search", True),
        ("wordle", "invalid word", True),
        ("wordle", "b y g b b", False),
    ],
)
def test_texts_of_ours_and_of_agentgym(name: str, text: str, expected: Any) -> None:
    is_error = _load_class(name).is_error
    assert is_error(_load_class(name), text) is expected  # type: ignore[arg-type]  # the class's words decide
