"""Maze: upstream's double T, random mazes, the texts, the expert."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from atlas_ray.errors import ConfigError, EnvironmentError
from envs.maze.env import MazeEnv
from envs.maze.tasks import DOUBLE_T, DOUBLE_T_GOAL, DOUBLE_T_STARTS, distances, random_maze


def _free(rows: tuple[str, ...]) -> frozenset[tuple[int, int]]:
    return frozenset((r, c) for r, row in enumerate(rows) for c, cell in enumerate(row) if cell == ".")


def test_double_t_has_25_starts() -> None:
    free = _free(DOUBLE_T)
    assert set(DOUBLE_T_STARTS) == free - {DOUBLE_T_GOAL}
    assert len(DOUBLE_T_STARTS) == 25
    assert max(distances(free, DOUBLE_T_GOAL).values()) == 12


def test_texts() -> None:
    env = MazeEnv()
    observation, _ = env.reset(options={"task": 0, "split": "test"})
    assert observation.split("\n")[-1] == (
        "The goal is at position 8, 6. Your current position is at position 1, 1. "
        "There are walls to your left, above you, below you."
    )
    assert env.step("move up")[0].startswith("The goal is at position 8, 6. Your current position is at position 1, 1.")
    wrong = env.step("move diagonally")[0]
    assert wrong.startswith('Your possible actions are "move up", "move down", "move left", "move right". The goal is')
    env.reset(options={"task": 2, "split": "test"})
    assert env.step("move down")[0].endswith("position 2, 3. There are walls to your right, to your left.")
    env.reset(options={"task": 16, "split": "test"})
    assert env.position == (5, 6)
    assert env.step("move left")[0].endswith("position 5, 5. There are walls above you, below you.")
    assert env.step("move right")[0].endswith("position 5, 6. There is a wall above you.")
    for _ in range(2):
        env.step("move down")
    observation, reward, terminated, truncated, info = env.step("move down")
    assert (observation, reward, terminated, truncated, info["success"]) == ("Success", 1.0, True, False, True)


def test_no_walls_have_a_text_of_their_own() -> None:
    env = MazeEnv(layout="random")
    for task in range(200):
        env.reset(options={"task": task})
        for row, column in sorted(_free(env.maze.rows)):
            if all(env.maze.free((row + r, column + c)) for r, c in ((0, 1), (1, 0), (0, -1), (-1, 0))):
                env.restore(replace(env.snapshot(), inner=(env.maze, (row, column))))
                assert env.step("wait")[0].endswith("There are no walls near you.")
                return
    raise AssertionError("no maze has a crossing")


@pytest.mark.parametrize("options", [{}, {"layout": "random"}])
def test_the_expert_takes_a_shortest_way_from_everywhere(options: dict[str, Any]) -> None:
    env = MazeEnv(**options)
    for split, n in (("train", 60), ("test", 25)):
        for task in range(n):
            observation, _ = env.reset(options={"task": task, "split": split})
            shortest = distances(_free(env.maze.rows), env.maze.goal)[env.position]
            expert = env.expert()
            info: dict[str, Any] = {}
            while env.running:
                thought, action = expert.next_action(observation)
                assert 10 <= len(thought.split()) <= 35
                observation, *_, info = env.step(action)
            assert info["success"]
            assert info["rounds"] == shortest <= 12


def test_random_mazes_are_bordered_and_differ() -> None:
    mazes = [random_maze(split, task) for split in ("train", "test") for task in range(100)]
    assert len({(maze.rows, maze.start, maze.goal) for maze in mazes}) == len(mazes)
    for maze in mazes:
        assert set(maze.rows[0]) | set(maze.rows[-1]) == {"#"}
        assert {row[0] + row[-1] for row in maze.rows} == {"##"}
        assert maze.free(maze.start)
        assert maze.free(maze.goal)


def test_items_of_agentgym() -> None:
    env = MazeEnv()
    assert env.locate("maze_24") == env.locate("lmrlgym_maze_24") == env.locate(24) == ("test", 24)
    assert (env.card.n_train, env.card.n_test) == (1000, 25)
    for item in ("maze_26", "maze_" + "9" * 5000, "maze_-1", "babyai_3"):
        with pytest.raises(EnvironmentError, match="no item .*; they are maze_0 to maze_25"):
            env.locate(item)
    with pytest.raises(EnvironmentError, match="use layout='double_t'"):
        MazeEnv(layout="random").locate(3)
    with pytest.raises(ConfigError, match="maze: layout is 'u'; choose 'double_t' or 'random'"):
        MazeEnv(layout="u")


@pytest.mark.parametrize("action", ["move down", "move left", "jump", "move up"])
def test_agentgyms_last_item_starts_on_the_goal(action: str) -> None:
    env = MazeEnv()
    split, task = env.locate("lmrlgym_maze_25")
    assert task >= env.card.n_tasks(split), "it is no task of a split, as its list has 25"
    observation, info = env.reset(options={"task": task, "split": split})
    assert observation.split("\n")[-1] == (
        "The goal is at position 8, 6. Your current position is at position 8, 6. "
        "There are walls to your right, to your left, below you."
    )
    assert not info["success"]
    text, reward, done, *_ = env.step(action)
    assert (text == "Success", reward, done) == ((True, 1.0, True) if action != "move up" else (False, 0.0, False))
    env.reset(options={"task": task, "split": split})
    assert env.step(env.expert().next_action("")[1])[2], "the expert stays"
    with pytest.raises(EnvironmentError, match="its tasks are 0 to 24"):
        env.reset(options={"task": task + 1, "split": split})
