"""Jericho: generated games, own stories with and without sub-goals, Zork I to its last point, and what is missing."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atlas_ray.errors import ConfigError, EnvironmentError
from envs.jericho import tasks
from envs.jericho.env import JerichoEnv
from envs.jericho.tasks import generated_game
from tests.reference import reference

for _package in ("jericho", "textworld"):
    if importlib.util.find_spec(_package) is None:
        pytest.skip(f"{_package} is not installed (make engines)", allow_module_level=True)


@pytest.fixture(scope="module")
def env() -> Iterator[JerichoEnv]:
    env = JerichoEnv()
    yield env
    env._engine.close()


def play_expert(env: JerichoEnv, task: int, split: str) -> dict[str, Any]:
    observation, info = env.reset(options={"task": task, "split": split})
    expert, scores = env.expert(), [0.0]
    while env.running:
        thought, action = expert.next_action(observation)
        assert thought
        observation, *_, info = env.step(action)
        scores.append(info["score"])
    assert scores == sorted(scores)
    return info


@pytest.mark.parametrize(("split", "task"), [("train", 0), ("test", 0), ("train", 3)])
def test_the_expert_reaches_all_sub_goals(env: JerichoEnv, split: str, task: int) -> None:
    info = play_expert(env, task, split)
    assert (info["score"], info["success"]) == (1.0, True)
    assert info["rounds"] <= 12


def test_progress_is_the_share_of_sub_goals_and_looking_around_is_none(env: JerichoEnv) -> None:
    observation, _ = env.reset(options={"task": 0})
    assert observation.startswith(f"Goal: {env.task.goal}\nObservation: -= ")
    for action in ("look", "inventory", "check valid actions"):
        assert env.step(action)[4]["score"] == 0
    n = len(env.task.subgoals)
    env.step(env.task.walkthrough[0])
    score = env.step("look")[4]["score"]
    assert score in (0.0, 1 / n)


def test_valid_actions_change_nothing_and_are_listed_on_demand(env: JerichoEnv) -> None:
    env.reset(options={"task": 0})
    before = env.snapshot()
    valid = env.valid_actions()
    assert {"inventory", "look"} < set(valid)
    assert env.snapshot() == before
    assert env.step("Check valid  actions")[0] == "You can take the following actions: " + ", ".join(valid)
    assert env.snapshot().inner == before.inner
    for action in valid:
        env.restore(before)
        assert "can't" not in env.step(action)[0]


@pytest.mark.parametrize("action", ["save", "look. quit", "restart", "#record", "RESTORE", "\\\\help", "()", "a" * 191])
def test_commands_about_the_program_are_answered_by_us(env: JerichoEnv, action: str) -> None:
    env.reset(options={"task": 0})
    before = env.snapshot().inner
    observation, _, terminated, *_ = env.step(action)
    assert "valid" in observation
    assert not terminated
    assert env.snapshot().inner == before


def test_a_killed_engine_is_an_error_and_the_next_reset_works(env: JerichoEnv) -> None:
    first, _ = env.reset(options={"task": 0})
    env.step("look")
    state = env.snapshot()
    assert env._engine.pid is not None
    os.kill(env._engine.pid, signal.SIGKILL)
    with pytest.raises(EnvironmentError, match=r"^jericho: task 0 \(train\), step 1: its engine's process was killed"):
        env.step("look")
    with pytest.raises(EnvironmentError, match="before reset"):
        env.step("look")
    assert env.reset(options={"task": 0})[0] == first
    other = JerichoEnv()
    other.restore(state)
    assert other.rounds == 1
    other.step("look")


def test_an_own_story_with_sub_goals(tmp_path: Path) -> None:
    story, game = generated_game(0)
    first, *rest = game.walkthrough
    file = tmp_path / "goals.json"
    task = {"goal": "Win.", "start": [first], "subgoals": [{"score": 1}], "walkthrough": rest}
    file.write_text(json.dumps({"tasks": [task, task]}))
    env = JerichoEnv(story=story, subgoals=file)
    assert (env.card.n_train, env.card.n_test) == (2, 2)
    info = play_expert(env, 1, "test")
    assert (info["score"], info["success"], info["rounds"]) == (1.0, True, len(rest))
    assert "examine" in " ".join(env.valid_actions() or ["examine"])


def test_a_story_without_sub_goals_is_scored_by_its_own_points() -> None:
    story, game = generated_game(0)
    env = JerichoEnv(story=story)
    env.reset()
    assert env.points()[:2] == (0, 1)
    for command in game.walkthrough:
        *_, terminated, _, info = env.step(command)
    assert terminated
    assert (info["score"], info["success"]) == (1.0, True)


@reference("jericho/zork1.z3")
def test_zork_plays_jerichos_walkthrough_to_350_points(path: str) -> None:
    from jericho.game_info import zork1

    commands = [command.strip().lower() for command in zork1["walkthrough"].split("/")]
    env = JerichoEnv(story=path, max_rounds=10**4)
    observation, _ = env.reset(seed=zork1["seed"] - 2)
    assert "West of House" in observation
    assert {"open mailbox", "north", "south"} <= {action[:12] for action in env.valid_actions()}
    for command in commands:
        observation, *_, info = env.step(command)
        assert "Moves:" not in observation
        if not env.running:
            break
    assert env.points() == (350, 350, info["rounds"] - 1)
    assert (info["score"], info["success"]) == (1.0, True)


def test_what_is_missing_or_wrong_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^jericho: story .*none.z5 is not there; give the path"):
        JerichoEnv(story=tmp_path / "none.z5")
    other = tmp_path / "text.z5"
    other.write_text("no story")
    with pytest.raises(ConfigError, match="is no Z-machine story"):
        JerichoEnv(story=other)
    with pytest.raises(ConfigError, match="subgoals needs a story"):
        JerichoEnv(subgoals=tmp_path / "goals.json")
    story, _ = generated_game(0)
    goals = tmp_path / "goals.json"
    with pytest.raises(ConfigError, match=r"goals.json cannot be read"):
        JerichoEnv(story=story, subgoals=goals)
    goals.write_text('{"tasks": [{"goal": "Win.", "subgoals": [{"text": "a", "score": 1}]}]}')
    with pytest.raises(ConfigError, match=r"goals.json: tasks.0.subgoals.0: .*give either text or score"):
        JerichoEnv(story=story, subgoals=goals)
    monkeypatch.setenv("ATLAS_CACHE", str(tmp_path))
    monkeypatch.setattr(tasks.shutil, "which", lambda *args, **more: None)
    with pytest.raises(EnvironmentError, match=r"^jericho: TextWorld's tw-make is not there .* run `make engines`"):
        generated_game.__wrapped__(1)
    assert not list(tmp_path.glob("jericho/*/*"))
    # A Python path on which `jericho` cannot be imported.
    (tmp_path / "jericho.py").write_text("raise ImportError('no jericho')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(EnvironmentError, match=r"^jericho: the package jericho cannot be imported .* `make engines`"):
        JerichoEnv().reset()
