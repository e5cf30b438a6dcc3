"""AgentTraj-L in and out."""

import json

import pytest

from atlas_ray.errors import DataError
from atlas_ray.formats import agenttraj
from tests.reference import reference

HUMAN = {"from": "human", "loss": None, "value": "Do it."}
OK = {"from": "gpt", "loss": False, "value": "OK."}
STEP = {"from": "gpt", "loss": True, "value": "Action: go"}


def write(path, rows):
    path.write_text(json.dumps(rows))
    return str(path)


def row(*turns, item_id="babyai_7"):
    return {"conversations": list(turns), "item_id": item_id}


def test_the_acknowledgement_is_no_step(tmp_path):
    (one,) = agenttraj.read(write(tmp_path / "a.json", [row(HUMAN, OK, HUMAN, STEP, HUMAN, STEP)]))
    assert [message.step for message in one.messages] == [None, None, None, 0, None, 1]
    assert (one.env, one.n_steps, one.source) == ("babyai", 2, "a.json")


def test_written_back_with_the_selection_as_loss(tmp_path):
    source = write(tmp_path / "a.json", [row(HUMAN, OK, HUMAN, STEP, HUMAN, STEP)])
    trajectories = agenttraj.read(source)
    agenttraj.write(str(tmp_path / "b.json"), trajectories, {trajectories[0].trajectory_id: [1]})
    (written,) = json.loads((tmp_path / "b.json").read_text())
    assert [turn["loss"] for turn in written["conversations"]] == [None, False, None, False, None, True]
    everything = {t.trajectory_id: range(t.n_steps) for t in trajectories}
    agenttraj.write(str(tmp_path / "c.json"), trajectories, everything)
    assert json.loads((tmp_path / "c.json").read_text()) == json.loads((tmp_path / "a.json").read_text())


def test_repeated_items_get_ids_of_their_own(tmp_path):
    rows = [row(HUMAN, STEP, item_id="lmrlgym_wordle_3")] * 3
    ids = [t.trajectory_id for t in agenttraj.read(write(tmp_path / "a.json", rows))]
    assert ids == ["lmrlgym_wordle_3", "lmrlgym_wordle_3#2", "lmrlgym_wordle_3#3"]


@pytest.mark.parametrize(
    ("item_id", "env"),
    [
        ("webshop_6", "webshop"), ("sciworld_12", "scienceworld"), ("lmrlgym_maze_3", "maze"), ("babyai_7", "babyai"),
        ("lmrlgym_wordle_3", "wordle"), ("BabyAI-7", "babyai"), ("textcraft_11", "textcraft"), ("todo_3", "todo"),
        ("look_at_obj_in_light-AlarmClock-None-DeskLamp-301_trial_T20190907_174127_043461", "alfworld"),
        ("pick_two_obj_and_place-Watch-None-Dresser-205_trial_T20190909_080229_101213", "alfworld"),
    ],
)  # fmt: skip
def test_environment_of_an_item(item_id, env):
    assert agenttraj.environment_of(item_id) == env


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({}, "expected one JSON list"),
        ([3], r"row 0: field \(row\)"),
        ([row(HUMAN, STEP), {"conversations": [HUMAN]}], "row 1: field item_id"),
        ([row()], "row 0: field conversations"),
        ([row(HUMAN, OK)], "at least one gpt turn with loss true"),
        ([row({"from": "bot", "loss": None, "value": "x"})], r"row 0: field conversations\[0\].from"),
        ([row({"from": "human", "loss": True, "value": "x"})], r"conversations\[0\].loss: expected null"),
        ([row(HUMAN, {"from": "gpt", "loss": None, "value": "x"})], r"conversations\[1\].loss: expected true or false"),
        ([row(HUMAN, {"from": "gpt", "loss": True, "value": 3})], r"conversations\[1\].value"),
    ],
)
def test_a_malformed_file_names_file_row_and_field(tmp_path, rows, says):
    with pytest.raises(DataError, match=f"bad.json.*{says}"):
        agenttraj.read(write(tmp_path / "bad.json", rows))


def test_missing_and_broken_files_are_one_line(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        agenttraj.read(str(tmp_path / "none*.json"))
    (tmp_path / "torn.json").write_text('[{"conversations": ')
    with pytest.raises(DataError, match="torn.json: line 1: not JSON"):
        agenttraj.read(str(tmp_path / "torn.json"))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        agenttraj.read(str(tmp_path / "binary.json"))


@reference("agenttraj/textcraft_sample.json")
def test_real_rows_of_agenttraj_shape(path):
    trajectories = agenttraj.read(path)
    assert len(trajectories) == 20
    assert all(
        t.env == "textcraft" and t.n_steps == sum(m.role == "assistant" for m in t.messages) - 1 for t in trajectories
    )


@reference("agenttraj/agenttraj_readme_sample.json")
def test_the_readme_sample_round_trips(path, tmp_path):
    trajectories = agenttraj.read(path)
    agenttraj.write(str(tmp_path / "o.json"), trajectories, {t.trajectory_id: range(t.n_steps) for t in trajectories})
    with open(path) as file:
        assert json.loads((tmp_path / "o.json").read_text()) == json.load(file)
