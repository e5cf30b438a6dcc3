"""ALFWorld: texts and rules, generated games, official games by path, the searching expert."""

from __future__ import annotations

import json
import lzma
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.environments import check_env
from atlas_ray.errors import AtlasError, ConfigError, DataError, EnvironmentError
from benchmarks import alfworld as compared
from benchmarks.alfworld import differences, engines, random_walk, walkthrough
from envs.alfworld import engine as engine_module
from envs.alfworld.data import FileGames, open_games
from envs.alfworld.env import ALFWorldEnv
from envs.alfworld.generate import N_TEST, N_TRAIN, TASK_TYPES, generate
from envs.alfworld.problem import read_problem
from envs.alfworld.rules import Household
from tests.reference import reference

HOUSE = """(define (problem small) (:domain alfred)
 (:objects agent1 - agent
  Shelf_bar_1 Fridge_bar_1 Drawer_bar_1 - receptacle  Mug_bar_1 Mug_bar_2 Apple_bar_1 Knife_bar_1 - object
  ShelfType FridgeType DrawerType - rtype  MugType AppleType KnifeType - otype
  loc_bar_0 loc_bar_1 loc_bar_2 - location)
 (:init (atLocation agent1 loc_bar_0)
  (receptacleType Shelf_bar_1 ShelfType) (receptacleAtLocation Shelf_bar_1 loc_bar_1)
  (receptacleType Drawer_bar_1 DrawerType) (receptacleAtLocation Drawer_bar_1 loc_bar_1) (openable Drawer_bar_1)
  (receptacleType Fridge_bar_1 FridgeType) (receptacleAtLocation Fridge_bar_1 loc_bar_2) (openable Fridge_bar_1)
  (objectType Mug_bar_1 MugType) (pickupable Mug_bar_1) (inReceptacle Mug_bar_1 Shelf_bar_1)
  (objectType Mug_bar_2 MugType) (pickupable Mug_bar_2) (inReceptacle Mug_bar_2 Drawer_bar_1)
  (objectType Apple_bar_1 AppleType) (pickupable Apple_bar_1) (coolable Apple_bar_1) (sliceable Apple_bar_1)
  (inReceptacle Apple_bar_1 Shelf_bar_1) (objectAtLocation Apple_bar_1 loc_bar_1)
  (objectType Knife_bar_1 KnifeType) (pickupable Knife_bar_1) (inReceptacle Knife_bar_1 Shelf_bar_1)
  (canContain DrawerType AppleType) (canContain ShelfType AppleType) (canContain DrawerType KnifeType))
 (:goal (and (exists (?r - receptacle) (exists (?o - object) (and (coolable ?o) (objectType ?o AppleType)
  (receptacleType ?r DrawerType) (isCool ?o) (inReceptacle ?o ?r)))))))"""


def _rows(path: str) -> list[bytes]:
    with lzma.open(path) as stream:
        return [next(stream) for _ in range(60)]


def test_contract() -> None:
    check_env("alfworld", tasks=range(6))
    check_env("alfworld", tasks=(7,), verbs="move")


def test_a_small_house() -> None:
    house = Household(read_problem(HOUSE, "small"), "put")
    room = "You are in the middle of a room. Looking quickly around you, you see"
    assert house.opening() == f"{room} a drawer 1, a fridge 1, and a shelf 1."
    assert house.act("look") == f"{room} nothing."
    assert house.act("go to cellar 1") == "Nothing happens."
    played = {
        "go to shelf 1": "On the shelf 1, you see a apple 1, a knife 1, and a mug 2.",
        "look": "You are facing the drawer 1, and shelf 1. Next to it, you see nothing.",
        "examine drawer 1": "The drawer 1 is closed.",
        "take knife 1 from shelf 1": "You pick up the knife 1 from the shelf 1.",
        "slice apple 1 with knife 1": "You sliced the apple 1 with the knife 1.",
        "open drawer 1": "You open the drawer 1. The drawer 1 is open. In it, you see a mug 1.",
        "put knife 1 in/on drawer 1": "You put the knife 1 in/on the drawer 1.",
        "take apple 1 from shelf 1": "You pick up the apple 1 from the shelf 1.",
        "inventory": "You are carrying: a apple 1.",
        "examine apple 1": "This is a sliced apple 1.",
        "go to fridge 1": "The fridge 1 is closed.",
        "cool apple 1 with fridge 1": "You cool the apple 1 using the fridge 1.",
        "examine  apple 1": "Nothing happens.",
    }
    for command, answer in played.items():
        assert house.act(command) == answer
    assert house.act("examine apple 1") == "This is a cool sliced apple 1."
    assert not house.won
    state = house.save()
    house.act("go to drawer 1")
    assert house.act("look") == "You are facing the drawer 1, and shelf 1. Next to it, you see a knife 1."
    assert "put apple 1 in/on shelf 1" in house.commands()
    house.act("put apple 1 in/on drawer 1")
    assert house.won
    house.load(state)
    assert not house.won
    assert sorted(c for c in house.commands() if c.startswith(("go", "open", "close"))) == [
        "go to drawer 1", "go to shelf 1", "open fridge 1",
    ]  # fmt: skip


def test_the_two_sets_of_verbs() -> None:
    problem = read_problem(HOUSE, "small")
    old, new = Household(problem, "put"), Household(problem, "move")
    for house in (old, new):
        house.act("go to shelf 1")
        house.act("take apple 1 from shelf 1")
    assert old.act("put apple 1 in/on shelf 1") == "You put the apple 1 in/on the shelf 1."
    assert new.act("put apple 1 in/on shelf 1") == "Nothing happens."
    assert new.act("move apple 1 to shelf 1") == "You move the apple 1 to the shelf 1."
    new.act("go to fridge 1")
    assert new.act("go to shelf 1").startswith("You arrive at shelf 1. On the shelf 1, you see a apple 1, ")
    assert "move (object) to (receptacle)" in new.act("help")
    assert old.act("help") == "Nothing happens."
    with pytest.raises(ConfigError, match="verbs is 'drop'"):
        ALFWorldEnv(verbs="drop")  # type: ignore[arg-type]


def test_the_first_observation_is_agentgyms() -> None:
    env = ALFWorldEnv()
    room, task, actions = env.reset(options={"task": 1})[0].split("\n")
    assert room.startswith("You are in the middle of a room. Looking quickly around you, you see a ")
    assert task.startswith("Your task is to: ")
    assert actions == "AVAILABLE ACTIONS: " + ",".join(env.valid_actions())
    assert env.step("take me away")[0] == "Nothing happens."
    assert env.step("xyzzy")[0].startswith("Nothing happens. An action is one line: go to, ")


def test_generated_games_are_many_and_the_splits_share_no_room() -> None:
    games = {split: [generate(split, task) for task in range(n)] for split, n in (("train", N_TRAIN), ("test", N_TEST))}  # type: ignore[arg-type]
    rooms = {split: {game.task.rpartition("-")[2] for game in its} for split, its in games.items()}
    assert len(rooms["train"]) > 80
    assert len(rooms["test"]) > 20
    assert not rooms["train"] & rooms["test"]
    every = [game for its in games.values() for game in its]
    assert len({game.problem.partition("(:objects")[2] for game in every}) == len(every) >= 634
    assert [game.task.partition("-")[0] for game in every[:6]] == list(TASK_TYPES)


@pytest.mark.parametrize(("split", "n"), [("train", 200), ("test", N_TEST)])
def test_the_expert_finds_its_way(split: str, n: int) -> None:
    env = ALFWorldEnv()
    solved = 0
    for task in range(n):
        observation, info = env.reset(options={"task": task, "split": split})
        expert = env.expert()
        while env.running:
            thought, action = expert.next_action(observation)
            assert 6 <= len(thought.split()) <= 60
            observation, *_, info = env.step(action)
            assert not observation.startswith("Nothing happens"), action
        solved += info["success"]
    assert solved >= 0.97 * n


def test_the_expert_takes_over_with_the_wrong_thing_in_hand() -> None:
    env = ALFWorldEnv(max_rounds=60)
    env.reset(options={"task": 6})
    while not (take := [action for action in env.valid_actions() if action.startswith("take ")]):
        unseen = [action for action in env.valid_actions() if action.startswith("open ")]
        env.step(unseen[0] if unseen else env.expert().next_action("")[1])
    observation = env.step(take[-1])[0]
    expert, info = env.expert(), {"success": False}
    while env.running:
        observation, *_, info = env.step(expert.next_action(observation)[1])
    assert info["success"]


# -- official games by path ----------------------------------------------------------------------------------------


def _write_game(folder: Path, split: str, task: int) -> None:
    game = generate("train", task)
    path = folder / split / game.task / f"trial_T{task}" / "game.tw-pddl"
    path.parent.mkdir(parents=True)
    grammar = f'grammar :: """ {{"task": [{{"rhs": "Your task is to: {game.goal}."}}]}} """;'
    path.write_text(json.dumps({"pddl_domain": "", "grammar": grammar, "pddl_problem": game.problem}))


def test_directories_of_games(tmp_path: Path) -> None:
    for split, task in (("train", 3), ("train", 1), ("valid_seen", 4), ("valid_unseen", 5)):
        _write_game(tmp_path / "json_2.1.1", split, task)
    env = ALFWorldEnv(data=tmp_path)
    assert (env.card.n_train, env.card.n_test) == (2, 1)
    env.reset(options={"task": 0, "split": "test"})
    assert env.opening.endswith(f"Your task is to: {generate('train', 5).goal}.")
    assert env.locate(f"{generate('train', 1).task}_trial_T1")[0] == "train"
    (tmp_path / "mappings_test.json").write_text(
        json.dumps([{"item_id": 2420, "task_type": generate("train", 5).task, "task_id": "trial_T5"}])
    )
    assert env.locate("alfworld_2420") == ("test", 0)
    for item, complaint in ((2620, "items are 0 to 2619"), ("x_trial_T9", "do not hold"), (7, "mappings_train.json")):
        with pytest.raises(EnvironmentError, match=complaint):
            env.locate(item)
    plain = ALFWorldEnv(data=str(tmp_path / "json_2.1.1" / "train"))
    assert (plain.card.n_train, plain.card.n_test) == (2, 2)
    with pytest.raises(EnvironmentError, match="give the games with data=PATH"):
        ALFWorldEnv().locate(3)


_GOOD = {"split": "train", "task": "t", "trial": "trial_1", "goal": "put a mug in shelf", "pddl_problem": HOUSE}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("{", "games.jsonl, row 2: not JSON"),
        ("[]", "games.jsonl, row 2: a game is a JSON object"),
        (_GOOD | {"goal": " "}, "row 2: field goal is missing"),
        (_GOOD | {"pddl_problem": 3}, "row 2: field pddl_problem is missing"),
        (_GOOD | {"pddl_problem": HOUSE.replace("alfred", "gripper")}, "not a problem of domain alfred"),
        (_GOOD | {"pddl_problem": HOUSE.replace("(openable D", "(openable Shelf_bar_1 D")}, "openable takes 1 things"),
        (_GOOD | {"pddl_problem": HOUSE.replace("(openable D", "(openable X")}, "'xrawer_bar_1' of init"),
        (_GOOD | {"pddl_problem": HOUSE.replace("(atLocation agent1 loc_bar_0)", "")}, "place one agent"),
        (_GOOD | {"pddl_problem": HOUSE.replace("(isCool ?o)", "(or (isCool ?o))")}, "its goal holds"),
        (_GOOD | {"pddl_problem": HOUSE[:-6]}, "parentheses of its goal"),
    ],
)
def test_a_bad_row_is_an_error_of_its_own(tmp_path: Path, row: Any, complaint: str) -> None:
    path = tmp_path / "games.jsonl"
    path.write_text(f"{json.dumps(_GOOD)}\n{row if isinstance(row, str) else json.dumps(row)}\n")
    env = ALFWorldEnv(data=path)
    assert env.card.n_train == 2
    with pytest.raises(DataError, match=complaint):
        env.reset(options={"task": 1, "split": "test"})
    env.reset(options={"task": 0, "split": "test"})
    assert env.step("go to shelf 1")[0].startswith("On the shelf 1, you see a apple 1")


_pieces = st.sampled_from(["", "(", ")", "exists", "and", "not", "=", "?o", "mug_bar_1", "- object", "(:goal"])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, len(HOUSE)), st.integers(0, 60), _pieces), min_size=1, max_size=3))
def test_a_damaged_problem_is_read_or_refused(damage: list[tuple[int, int, str]]) -> None:
    text = HOUSE
    for start, length, piece in damage:
        text = text[:start] + piece + text[start + length :]
    try:
        house = Household(read_problem(text, "here"), "put")
    except DataError as error:
        complaint = str(error)
        assert complaint == " ".join(complaint.split())
        return
    for command in sorted(house.commands()):
        assert house.act(command)
        assert isinstance(house.won, bool)


def test_bad_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "games.jsonl.xz").write_bytes(lzma.compress(b"{}\n" * 5000)[:-30])
    (tmp_path / "games.csv").touch()
    (tmp_path / "empty.jsonl").touch()
    for data, complaint in (
        (tmp_path / "absent", "does not exist"),
        (tmp_path / "games.csv", "neither a directory nor"),
        (tmp_path / "empty.jsonl", "no game in it"),
        (tmp_path / "games.jsonl.xz", "not a whole xz file"),
        (tmp_path, "no game.tw-pddl file"),
        (3, "give a path"),
    ):
        with pytest.raises(AtlasError, match=complaint):
            ALFWorldEnv(data=data)  # type: ignore[arg-type]


@reference("alfworld/games.jsonl.xz")
def test_agentgyms_items(path: str, tmp_path: Path) -> None:
    names = ("mappings_train.json", "mappings_test.json")
    for name in names:
        shutil.copy(Path(path).with_name(name), tmp_path)
    rows = _rows(path)
    (tmp_path / "some.jsonl").write_bytes(b"".join(rows))
    games = FileGames(tmp_path / "some.jsonl")
    env = ALFWorldEnv(data=tmp_path / "some.jsonl")
    found = 0
    for item in json.loads((tmp_path / names[0]).read_text())[:40]:
        located = games.find(item["task_type"], item["task_id"])
        if located is not None:
            assert env.locate(item["item_id"]) == located == env.locate(f"{item['task_type']}_{item['task_id']}")
            found += 1
    assert found > 20


@reference("alfworld/games.jsonl.xz")
def test_walkthroughs_of_official_games_win(path: str, tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_bytes(b"".join(_rows(path)))
    env = ALFWorldEnv(data=tmp_path / "some.jsonl", verbs="move")
    for task, line in enumerate(_rows(path)):
        env.reset(options={"task": task})
        info: dict[str, Any] = {}
        for command in json.loads(line)["walkthrough"]:
            assert command in env.valid_actions()
            info = env.step(command)[4]
        assert info["success"], task


# -- the TextWorld engine ------------------------------------------------------------------------------------------

needs_engine = pytest.mark.skipif(
    find_spec("textworld") is None or find_spec("fast_downward") is None,
    reason="the TextWorld engine is not installed (make engines)",
)


@needs_engine
@reference("alfworld/games.jsonl.xz")
def test_official_games_read_as_in_the_engine(path: str) -> None:
    games = open_games(path)
    tasks = range(0, games.count("train"), games.count("train") // 60)
    pool = engines(2)

    def play(number: int) -> tuple[int, list[str]]:
        game = games.game("train", tasks[number % len(tasks)])
        choose = walkthrough(game) if number < len(tasks) else random_walk(game, 15)
        engine = pool.get()
        engine.start()
        try:
            return differences(engine, game, choose)
        finally:
            pool.put(engine)

    with ThreadPoolExecutor(2) as threads:
        played = list(threads.map(play, range(len(tasks) + 4)))
    assert len(tasks) >= 60
    assert [found for _, found in played if found] == []
    assert sum(commands for commands, _ in played) > 250


@needs_engine
@reference("alfworld/games.jsonl.xz")
def test_a_difference_to_the_engine_is_recorded_and_printed(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Louder(Household):
        def act(self, command: str) -> str:
            return f"{super().act(command)}{'!' * command.startswith(('take', 'use'))}"

    (tmp_path / "one.jsonl").write_bytes(_rows(path)[0])
    monkeypatch.setattr(compared, "GAMES", tmp_path / "one.jsonl")
    monkeypatch.setattr(compared, "OUTCOMES", tmp_path / "outcomes.jsonl")
    monkeypatch.setattr(compared, "Household", Louder)
    monkeypatch.setattr(compared, "RANDOM_COMMANDS", 0)
    result = compared.all_games(600.0)
    assert (result.value, result.holds) == (1, False)
    rows = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert [(row["play"], row["task"]) for row in rows] == [("random", 0), ("walkthrough", 0)]
    printed = capsys.readouterr().out
    assert printed.splitlines() == [f"walkthrough of game 0: {text}" for text in rows[1]["differences"]]
    assert all(text.startswith(("take", "use")) for text in rows[1]["differences"])
    assert compared.all_games(600.0) == result  # what was compared is not compared again, nor forgotten


@needs_engine
@pytest.mark.parametrize("verbs", ["put", "move"])
def test_the_engine_plays_generated_games_in_our_stead(verbs: Any) -> None:
    ours, theirs = ALFWorldEnv(verbs=verbs), ALFWorldEnv(verbs=verbs, backend="textworld")
    assert (theirs.card.snapshot, theirs.card.isolated) == ("replay", True)
    observation, _ = ours.reset(options={"task": 5, "split": "test"})
    assert theirs.reset(options={"task": 5, "split": "test"})[0] == observation
    expert, states = ours.expert(), []
    for command in ("help", "dance", "look"):
        assert ours.step(command) == theirs.step(command)
    while ours.running:
        states.append((ours.snapshot(), theirs.snapshot()))
        command = expert.next_action(observation)[1]
        event = ours.step(command)
        assert theirs.step(command) == event
        assert theirs.valid_actions() == ours.valid_actions()
        observation = event[0]
    assert event[4]["success"]
    for env, state in zip((ours, theirs), states[-1]):
        env.restore(state)
    assert theirs.valid_actions() == ours.valid_actions()
    assert theirs.step(command) == ours.step(command) == event


@needs_engine
def test_an_engine_that_dies_is_an_error_and_the_next_reset_works() -> None:
    env = ALFWorldEnv(backend="textworld")
    first, _ = env.reset(options={"task": 1})
    state = env.snapshot()
    env.step("look")
    assert env._engine is not None
    os.kill(env._engine.pid, signal.SIGKILL)  # type: ignore[arg-type]
    with pytest.raises(EnvironmentError, match=r"alfworld: task 1 \(train\), step 1: .*SIGKILL.* next reset"):
        env.step("look")
    env.restore(state)
    assert env.step("look")[0].endswith("you see nothing.")
    assert env.reset(options={"task": 1})[0] == first


def test_a_missing_engine_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs the package textworld; run: make engines"):
        ALFWorldEnv(backend="textworld")
    with pytest.raises(ConfigError, match="backend is 'thor'"):
        ALFWorldEnv(backend="thor")  # type: ignore[arg-type]
