"""Every shape in, row by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.config import CollectConfig, PipelineConfig
from atlas_ray.errors import DataError
from atlas_ray.formats import agenttraj
from atlas_ray.formats.files import BadRow, fingerprint, read
from atlas_ray.pipeline.collect import collect
from atlas_ray.trajectory import Trajectory
from tests.reference import reference

ASK, OK, STEP = (
    {"role": "user", "content": "Do it."}, {"role": "assistant", "content": "OK.", "weight": 0},
    {"role": "assistant", "content": "Action: go", "weight": 1},
)  # fmt: skip


def rows(tmp_path: Path, *lines: Any, name: str = "textcraft_train.jsonl") -> list[Trajectory | BadRow]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (tmp_path / name).write_text(text)
    return list(read(str(tmp_path / name)))


def said(trajectory: Trajectory | BadRow) -> list[tuple[str, str, int | None]]:
    assert isinstance(trajectory, Trajectory), trajectory
    return [(message.role, message.content, message.step) for message in trajectory.messages]


def test_chat_messages_with_weights_parts_tools_and_a_system_message(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "craft", "arguments": '{"item": "axe"}'}}
    (one,) = rows(
        tmp_path,
        {"messages": [
            {"role": "system", "content": "You craft."}, ASK, OK,
            {"role": "user", "content": [{"type": "text", "text": "Go"}]}, STEP,
            {"role": "tool", "tool_call_id": "c", "content": "Done"},
            {"role": "assistant", "content": "Now craft.", "tool_calls": [call]},
        ], "tools": []},
    )  # fmt: skip
    assert said(one) == [
        ("system", "You craft.", None), ("user", "Do it.", None), ("assistant", "OK.", None), ("user", "Go", None),
        ("assistant", "Action: go", 0), ("user", "Done", None),
        ("assistant", 'Thought: Now craft.\nAction: craft {"item": "axe"}', 1),
    ]  # fmt: skip
    assert isinstance(one, Trajectory)
    assert (one.env, one.source, one.trajectory_id) == ("textcraft", "textcraft_train.jsonl", "textcraft_0")


def test_sharegpt_and_axolotl(tmp_path: Path) -> None:
    turns = [
        {"from": "system", "value": "s"}, {"from": "human", "value": "h"}, {"from": "gpt", "value": "a"},
        {"from": "observation", "value": "o"}, {"from": "function_call", "value": "b"},
    ]  # fmt: skip
    flagged = [turn | {"train": turn["value"] == "b"} for turn in turns]
    plain, chosen = rows(tmp_path, {"conversations": turns, "id": "x1"}, {"conversations": flagged, "id": "x1"})
    assert [step for _, _, step in said(plain)] == [None, None, 0, None, 1]
    assert [step for _, _, step in said(chosen)] == [None, None, None, None, 0]
    assert isinstance(chosen, Trajectory)
    assert chosen.trajectory_id == "x1#2"


def test_agent_data_protocol(tmp_path: Path) -> None:
    content = [
        {"class_": "text_observation", "content": "Book a table", "source": "user"},
        {"class_": "api_action", "function": "search", "kwargs": {"q": "café", "n": 2}, "description": "Look first.",
         "tool_call_id": "1"},
        {"class_": "text_observation", "content": "two found", "source": "system"},
        {"class_": "web_observation", "html": "<p>", "axtree": "[1] link", "url": "http://x", "viewport_size": None,
         "image_observation": None},
        {"class_": "code_action", "language": "python", "content": "print(1)", "description": None},
        {"class_": "message_action", "content": "Booked."},
    ]  # fmt: skip
    (one,) = rows(tmp_path, {"id": "adp-1", "content": content, "details": {}, "schema_version": "2.0"})
    assert said(one) == [
        ("user", "Book a table", None),
        ("assistant", 'Thought: Look first.\nAction: search(q="café", n=2)', 0),
        ("user", "two found\n\nhttp://x\n[1] link", None),
        ("assistant", "Thought: \nAction: python\nprint(1)", 1),
        ("assistant", "Booked.", 2),
    ]


def test_a_json_list_and_agenttraj_rows(tmp_path: Path) -> None:
    row = {"conversations": [
        {"from": "human", "loss": None, "value": "h"}, {"from": "gpt", "loss": True, "value": "a"}
    ], "item_id": "babyai_7"}  # fmt: skip
    found = rows(tmp_path, json.dumps([row, {"messages": [ASK, STEP]}, 3], indent=1), name="mixed.json")
    assert [type(one) for one in found] == [Trajectory, Trajectory, BadRow]
    assert isinstance(found[0], Trajectory)
    assert found[0].env == "babyai"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{torn", "not JSON"),
        ("3", "expected an object, found 3"),
        ({"text": "x"}, "expected one of the fields messages, conversations, content, found ['text']"),
        ({"messages": []}, "field messages: "),
        ({"messages": [{"role": "bot", "content": "x"}]}, "field messages.0.role: "),
        ({"messages": [ASK | {"weight": 1}, STEP]}, "only an assistant's message has a weight"),
        ({"messages": [ASK, STEP | {"weight": 2}]}, "field messages.1.weight: "),
        ({"messages": [ASK, {"role": "assistant", "content": None}]}, "content is missing"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages.0.content"),
        ({"messages": [ASK, OK]}, "at least one assistant turn that is trained on"),
        ({"conversations": [{"from": "human", "value": 3}]}, "field conversations.0.value: "),
        ({"conversations": [{"from": "human", "loss": None, "value": "h"}]}, "field item_id"),
        ({"id": "a", "content": [{"class_": "image_observation", "content": "x"}]}, "field content.0: "),
        ({"id": "a", "content": [{"class_": "api_action", "function": "f"}]}, "content.0.api_action.kwargs: "),
        ({"content": [{"class_": "message_action", "content": "f"}]}, "field id: "),
    ],
)
def test_a_bad_row_names_file_row_and_field_and_the_others_are_read(tmp_path: Path, line: Any, says: str) -> None:
    good = {"messages": [ASK, STEP]}
    first, bad, last = rows(tmp_path, good, line, good)
    assert isinstance(bad, BadRow)
    assert "textcraft_train.jsonl: row 1: " in str(bad)
    assert says in str(bad)
    assert "\n" not in str(bad)
    assert isinstance(first, Trajectory)
    assert isinstance(last, Trajectory)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from("messages conversations content id from value role class_ loss weight".split()),
            inner | st.sampled_from(["user", "assistant", "human", "gpt", "text_observation", "message_action"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(row=JSON)
def test_any_json_is_a_trajectory_or_a_bad_row(tmp_path_factory: pytest.TempPathFactory, row: Any) -> None:
    found = rows(tmp_path_factory.getbasetemp(), {"messages": [ASK, STEP]}, json.dumps(row), name="any.jsonl")
    assert len(found) == 2
    assert all(isinstance(one, Trajectory | BadRow) for one in found)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(read(str(tmp_path / "none")))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        list(read(str(tmp_path / "binary.json")))
    (tmp_path / "torn.json").write_text("[{")
    with pytest.raises(DataError, match="torn.json: not JSON"):
        list(read(str(tmp_path / "torn.json")))
    (tmp_path / "empty.json").write_text("")
    assert list(read(str(tmp_path / "empty.json"))) == []


def test_a_fingerprint_changes_with_the_content(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    before = fingerprint(str(tmp_path / "*.json"))
    (tmp_path / "a.json").write_text("[ ]")
    assert fingerprint(str(tmp_path / "*.json")) != before


def test_an_import_counts_its_bad_rows_and_keeps_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = {"messages": [ASK, STEP]}
    rows(tmp_path, good, {"messages": []}, "{torn", good)
    config = PipelineConfig(collect=CollectConfig(source=str(tmp_path / "*.jsonl")))
    trajectories, facts = collect(config)
    assert [one.trajectory_id for one in trajectories] == ["textcraft_0", "textcraft_3"]
    assert facts == {"trajectories": 2, "dropped": {"malformed row": 2}}
    assert "textcraft_train.jsonl: row 1: field messages" in capsys.readouterr().out


@reference("agenttraj/textcraft_sample.json")
def test_real_rows_read_as_agenttraj_reads_them(path: str) -> None:
    assert list(read(path)) == agenttraj.read(path)
