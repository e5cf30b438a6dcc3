"""AgentTraj-L in and out."""

import json

import pytest

from atlas_ray.formats import agenttraj
from atlas_ray.formats.files import BadRow, Options, read
from atlas_ray.formats.messages import to_chat
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
    (one,) = read(write(tmp_path / "a.json", [row(HUMAN, OK, HUMAN, STEP, HUMAN, STEP)]))
    assert [message.step for message in one.messages] == [None, None, None, 0, None, 1]
    assert (one.env, one.n_steps, one.source) == ("babyai", 2, "a.json")


def test_written_back_with_the_selection_as_loss(tmp_path):
    original = row(HUMAN, OK, HUMAN, STEP, HUMAN, STEP)
    (one,) = read(write(tmp_path / "a.json", [original]))
    assert [turn["loss"] for turn in agenttraj.to_row(one, [1])["conversations"]] == [
        None, False, None, False, None, True
    ]  # fmt: skip
    assert agenttraj.to_row(one, [0, 1]) == original


def test_thinking_stands_in_the_text_and_apart_in_chat_messages(tmp_path):
    said = {"role": "assistant", "content": "Action: go", "reasoning_content": "Hm."}
    path = write(tmp_path / "a.json", [{"messages": [{"role": "user", "content": "Do it."}, said]}])
    (one,) = read(path, Options(reasoning=True))
    assert agenttraj.to_row(one, [0])["conversations"][1]["value"] == "<think>\nHm.\n</think>\n\nAction: go"
    assert to_chat(one, {0: 1.0})["messages"][1] == said | {"weight": 1}


def test_repeated_items_get_ids_of_their_own(tmp_path):
    rows = [row(HUMAN, STEP, item_id="lmrlgym_wordle_3")] * 3
    ids = [t.trajectory_id for t in read(write(tmp_path / "a.json", rows))]
    assert ids == ["lmrlgym_wordle_3", "lmrlgym_wordle_3#2", "lmrlgym_wordle_3#3"]


@pytest.mark.parametrize(
    ("turns", "says"),
    [
        ([], "field conversations: expected a non-empty list"),
        ([HUMAN, OK], "at least one turn of the assistant that is trained on"),
        ([{"from": 3, "loss": None, "value": "x"}], "field conversations.0.from: expected a role's name, found 3"),
        ([HUMAN, {"from": "gpt", "loss": "maybe", "value": "x"}], "field conversations.1.loss: expected true, false"),
        ([HUMAN, {"from": "gpt", "loss": True, "value": 3}], "field conversations.1.value: expected a text, found 3"),
    ],
)
def test_a_bad_row_names_row_and_field(tmp_path, turns, says):
    good, bad = read(write(tmp_path / "bad.json", [row(HUMAN, STEP), row(*turns)]))
    assert isinstance(bad, BadRow)
    assert good.n_steps == 1
    assert f"bad.json: row 1: {says}" in str(bad) or says in str(bad)


@reference("agenttraj/textcraft_sample.json")
def test_real_rows_of_agenttraj_shape(path):
    trajectories = list(read(path))
    assert len(trajectories) == 20
    assert all(
        t.env == "textcraft" and t.n_steps == sum(m.role == "assistant" for m in t.messages) - 1 for t in trajectories
    )
    with open(path) as file:
        assert [agenttraj.to_row(t, range(t.n_steps)) for t in trajectories] == json.load(file)


@reference("agenttraj/agenttraj_readme_sample.json")
def test_the_readme_sample_round_trips(path):
    (one,) = read(path)
    assert (one.env, one.trajectory_id, one.n_steps) == ("webshop", "webshop_6", 2)
    with open(path) as file:
        assert [agenttraj.to_row(one, range(2))] == json.load(file)
