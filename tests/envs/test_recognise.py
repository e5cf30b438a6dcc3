"""Recognising tasks in other people's trajectories by their own texts, and playing those trajectories again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from atlas_ray.environments import registry
from atlas_ray.formats import files
from atlas_ray.react import format_reply, last_line
from atlas_ray.rollout.episode import EpisodeRecorder
from atlas_ray.rollout.replay import Replay, ReplaySpec, replay
from atlas_ray.trajectory import Message, Trajectory
from tests.reference import FOLDER, reference


def _played(name: str, split: str, task: int, options: dict[str, Any]) -> list[Message]:
    """An expert's episode as someone else might have stored it."""
    env = registry.make(name, **options)
    observation, _ = env.reset(options={"task": task, "split": split})
    messages = [Message(role="user", content=f"Some other instruction.\n{observation}")]
    expert = env.expert()
    while env.running:
        thought, action = expert.next_action(observation)
        messages.append(Message(role="assistant", content=format_reply(thought, action), step=len(messages) // 2))
        observation = env.step(action)[0]
        messages.append(Message(role="user", content=observation))
    env.close()
    return messages


def _import(env: str, messages: Sequence[Message], **fields: Any) -> Trajectory:
    steps = sum(message.step is not None for message in messages)
    values: dict[str, Any] = {"trajectory_id": "t", "item_id": "wrong_99999", "split": "train", "source": "import"}
    values |= {"reward": 1.0, "success": True}
    return Trajectory(env=env, messages=tuple(messages), n_steps=steps, **(values | fields))


def _replay(trajectory: Trajectory, **options: Any) -> Replay:
    env = registry.make(trajectory.env, **options)
    try:
        return replay(env, ReplaySpec(trajectory), EpisodeRecorder())
    finally:
        env.close()


CASES = [
    ("textcraft", "train", 17, {}), ("textcraft", "test", 3, {}), ("maze", "test", 4, {}), ("webshop", "train", 8, {}),
    ("webshop", "test", 2, {}), ("wordle", "train", 30, {}), ("wordle", "test", 5, {}), ("weather", "train", 3, {}),
    ("movie", "test", 6, {}), ("academia", "train", 1, {}), ("todo", "train", 9, {}), ("sheet", "test", 11, {}),
    ("alfworld", "test", 21, {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "split", "task", "options"), CASES)
def test_a_trajectory_with_a_wrong_id_is_recognised_and_played_again(
    name: str, split: str, task: int, options: dict[str, Any]
) -> None:
    found = _replay(_import(name, _played(name, split, task, options)), **options)
    assert found.error is None
    assert (found.split, found.task, found.outcome) == (split, task, 1.0)
    assert found.compared > 0
    assert (found.differing, found.difference) == (0, None)
    assert sorted(found.starts) == list(range(len(found.starts)))


def test_what_is_not_recognised_is_located_by_its_id_and_its_beginning_is_checked() -> None:
    messages = _played("babyai", "train", 83, {})
    assert _replay(_import("babyai", messages, item_id="babyai_83", reward=None)).error is None
    error = _replay(_import("babyai", messages, item_id="babyai_84")).error
    assert error is not None
    assert "item 'babyai_84' is another task: 'Your goal: " in error
    error = _replay(_import("textcraft", messages, item_id="textcraft_3")).error
    assert error is not None
    assert "textcraft: item 'textcraft_3' cannot be mapped" in error


def test_other_answers_are_counted_and_the_first_is_told() -> None:
    messages = _played("maze", "test", 4, {})
    messages[2] = Message(role="user", content="The goal is somewhere else.")
    found = _replay(_import("maze", messages))
    assert (found.error, found.differing) == (None, 1)
    assert found.difference is not None
    assert found.difference.startswith("before step 1: 'The goal is at position 8, 6.")


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("> think: I need logs.\nOK.\n\n> get 2 oak logs", "get 2 oak logs"),
        ("> get 2 oak logs\nOK.", "get 2 oak logs"),
        ("I will look.\ninventory", "inventory"),
        ("> think: done\nOK.", None),
    ],
)
def test_the_last_line_of_a_reply_without_labels(text: str, action: str | None) -> None:
    assert last_line(text) == action


@reference("agentgym_runs/textcraft.jsonl")
def test_real_textcraft_episodes_are_played_again_with_equal_answers(path: str) -> None:
    replays = [_replay(each, max_rounds=100) for each in files.read(path) if isinstance(each, Trajectory)]
    assert [each.error for each in replays] == [None] * 16
    assert sum(each.compared for each in replays) == 135
    differences = [each.difference for each in replays if each.difference is not None]
    assert sum(each.differing for each in replays) == len(differences) == 1
    assert "'Could not execute ' in the trajectory" in differences[0], "an empty action, which is explained here"


@reference("alfworld/games.jsonl.xz")
def test_an_official_game_is_recognised_by_its_task_and_room(path: str) -> None:
    options = {"data": path}
    found = _replay(_import("alfworld", _played("alfworld", "test", 7, options)), **options)
    assert (found.error, found.task, found.differing) == (None, 7, 0)


@pytest.mark.skipif(not (FOLDER / "tools/todo.jsonl").exists(), reason="the reference tasks are not there")
def test_a_question_of_a_task_file_is_recognised() -> None:
    env = registry.make("todo", data=str(FOLDER / "tools/todo.jsonl"))
    text, _ = env.reset(options={"task": 42, "split": "test"})
    assert env.recognise([Message(role="user", content=text)]) == ("test", 42)


def test_a_question_that_two_tasks_ask_is_not_recognised() -> None:
    env = registry.make("weather")
    text, _ = env.reset(options={"task": 12})
    assert env.reset(options={"task": 186})[0] == text, "they differ in date and place, which are hidden"
    assert env.recognise([Message(role="user", content=text)]) is None
