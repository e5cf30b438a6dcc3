"""Other people's names of the environments."""

import pytest

from atlas_ray.formats.names import Named, Names


@pytest.mark.parametrize(
    ("item_id", "env"),
    [
        ("webshop_6", "webshop"), ("sciworld_12", "scienceworld"), ("lmrlgym_maze_3", "maze"), ("babyai_7", "babyai"),
        ("lmrlgym_wordle_3", "wordle"), ("BabyAI-7", "babyai"), ("textcraft_11", "textcraft"), ("todo_3", "todo"),
        ("tool_academia_0", "academia"), ("tool_sheet_3", "sheet"), ("tool_weather_1", "weather"),
        ("tool-todo/4", "todo"), ("movie_2", "movie"), ("agenttuning_alfworld_9", "alfworld"),
        ("agenttuning_webshop#2", "webshop"), ("ScienceWorld:3", "scienceworld"), ("science_world_3", "scienceworld"),
        ("AgentInstruct/alfworld_1", "alfworld"), ("jericho_zork1_0", "jericho"), ("pddl_gripper_3", "pddl"),
        ("gripper_3", "pddl"),
        ("look_at_obj_in_light-AlarmClock-None-DeskLamp-301_trial_T20190907_174127_0434", "alfworld"),
        ("pick_two_obj_and_place-Watch-None-Dresser-205_trial_T20190909_080229_101213", "alfworld"),
        ("json_2.1.1/train/pick_heat_then_place_in_recep-Egg-None-Fridge-13/trial_T2019/game.tw-pddl", "alfworld"),
    ],
)  # fmt: skip
def test_environment_of_an_item(item_id, env):
    assert Names({}).of_item(item_id).env == env


@pytest.mark.parametrize(
    "name", ["os_3", "mind2web_1", "movie_reviews_3", "weather_chat_2", "my_maze_runner", "webshop_or_alfworld", "x1"]
)
def test_an_ordinary_word_in_a_name_is_no_environment(name):
    assert Names({}).known(name) is None


def of_row(path="/data/rows.jsonl", identity=None, given=None, **said):
    return Names(given or {}).of_row(said, identity, path)


def test_what_the_row_says_counts_before_its_id_and_its_file():
    assert of_row("/d/maze.jsonl", "babyai_1", task_name="textcraft") == Named(
        "textcraft", "textcraft", "its id is of babyai, its task_name of textcraft"
    )
    assert of_row("/d/maze.jsonl", "babyai_1").env == "babyai"
    assert of_row("/d/maze_train.jsonl", "a").env == "maze"
    assert of_row("/d/maze.jsonl", "a", task="Put the apple on the table").env == "maze"
    assert of_row(task_name="os", identity="os_4") == Named("os", "os")


def test_shards_have_the_name_of_their_folder():
    for path in ("/d/alfworld/train-00000-of-00002.jsonl", "/d/agenttuning_alfworld/full_std.jsonl.gz",
                 "/d/eto-alfworld/data/train-00001-of-00002.parquet"):  # fmt: skip
        assert of_row(path, "1").env == "alfworld"
    shards = {of_row(f"/d/shop/train-0000{n}-of-00002.jsonl").env for n in range(2)}
    assert shards == {"shop"}


def test_given_names_count_first():
    given = {"OS": "textcraft", "train_runs": "maze", "alfworld": "babyai"}
    assert of_row(task_name="os", given=given).env == "textcraft"
    assert of_row(identity="os_3", given=given).env == "textcraft"
    assert of_row("/d/train_runs.jsonl", given=given).env == "maze"
    assert of_row(identity="alfworld_3", given=given).env == "babyai"
    assert of_row("/d/shop/train-0.jsonl", given={"shop": "webshop"}).env == "webshop"


@pytest.mark.parametrize(
    "identity", ["7f3e1a2b-4a1b-9c0d-12", "a3f1c9e0_12", "traj 2024-05-01 12", "s" * 60 + "_1", "17", "1_2"]
)
def test_ids_of_no_environment_do_not_make_one_each(identity):
    assert of_row("/d/shop.jsonl", identity).env == "shop"
    assert of_row("/d/shop.jsonl", task=identity, source=identity, env=identity).env == "shop"
