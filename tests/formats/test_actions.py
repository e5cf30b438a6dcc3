"""Actions of trajectories as text and as calls: in, converted, stored, and out again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlas_ray.environments import calling, make
from atlas_ray.formats.files import Options, blocks, read
from atlas_ray.formats.messages import to_chat
from atlas_ray.store import Store
from atlas_ray.trajectory import TRAJECTORY_SCHEMA, Trajectory, trajectories_to_table
from tests.reference import reference

FUNCTION = {"type": "function", "function": {"name": "craft", "parameters": {"type": "object", "properties": {}}}}
ANSWERS = ({"role": "tool", "tool_call_id": "b", "content": "2"}, {"role": "tool", "tool_call_id": "c", "content": "3"})


def call(identity: str, arguments: Any, name: str = "craft") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


NATIVE = {
    "messages": [
        {"role": "system", "content": "You craft."}, {"role": "user", "content": "An axe."},
        {"role": "assistant", "content": "", "tool_calls": [call("a", '{"item": "axe"}')], "weight": 1},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "assistant", "content": "Two\nmore.", "tool_calls": [call("b", "{}"), call("c", "{}")], "weight": 1},
        *ANSWERS,
        {"role": "assistant", "content": "Done.", "weight": 0},
    ],
    "tools": [FUNCTION],
}  # fmt: skip


def one(tmp_path: Path, row: Any, **options: Any) -> Trajectory:
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    (found,) = read(str(tmp_path / "mine.jsonl"), Options(**options))
    assert isinstance(found, Trajectory), found
    return found


def notes(tmp_path: Path, **options: Any) -> set[str]:
    return {note for _, tally in blocks(str(tmp_path / "mine.jsonl"), Options(**options)) for note in tally.notes}


def test_calls_answers_and_functions_come_in_as_data_and_go_out_as_they_were(tmp_path: Path) -> None:
    found = one(tmp_path, NATIVE)
    assert to_chat(found, {0: 1, 1: 1}) == NATIVE
    assert [message.role[0] for message in found.messages] == list("suauaua")
    only = {"messages": NATIVE["messages"][1:], "tools": [FUNCTION]}
    assert to_chat(one(tmp_path, only), {0: 1, 1: 1}) == only
    assert found.messages[4].content == "Thought: Two\nmore.\nAction: craft {}\ncraft {}"
    assert found.messages[5].content == "2\n\n3"
    store = Store(str(tmp_path / "run"))
    store.write_trajectories([found])
    assert store.read_trajectories() == [found]


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "assistant", "function_call": {"name": "craft", "arguments": "{}"}},
         {"role": "function", "name": "craft", "content": "1"}],
        [{"from": "function_call", "value": '{"name": "craft", "arguments": {}}'},
         {"from": "observation", "value": "1"}],
        [{"role": "assistant", "content": [{"type": "tool_use", "name": "craft", "input": {}}]},
         {"role": "user", "content": [{"type": "tool_result", "content": "1"}]}],
        [{"role": "assistant", "content": [{"toolUse": {"name": "craft", "input": {}}}]},
         {"role": "user", "content": [{"toolResult": {"content": [{"text": "1"}]}}]}],
        [{"role": "model", "parts": [{"functionCall": {"name": "craft", "args": {}}}]},
         {"role": "user", "parts": [{"functionResponse": {"name": "craft", "response": {"n": 1}}}]}],
    ],
)  # fmt: skip
def test_calls_of_every_shape_are_data_whose_answers_have_their_id(tmp_path: Path, turns: list[dict[str, Any]]) -> None:
    found = one(tmp_path, {"messages": [{"role": "user", "content": "Go."}, *turns]})
    _, said, heard = found.messages
    [made], [result] = said.tool_calls, heard.tool_results
    assert (made.name, made.arguments) == ("craft", "{}")
    assert made.id == result.id == "call00000"
    assert result.content == heard.content in ("1", '{"n": 1}')


def test_an_observation_that_answers_no_call_is_none_of_a_tool(tmp_path: Path) -> None:
    turns = [("human", "h"), ("gpt", "a"), ("observation", "o"), ("gpt", "b")]
    found = one(tmp_path, {"conversations": [{"from": who, "value": text} for who, text in turns]})
    assert not any(message.tool_results for message in found.messages)
    mixed = [{"type": "tool_result", "content": "1"}, {"type": "text", "text": "Go on."}]
    rest = [{"role": "user", "content": mixed}, {"role": "assistant", "content": "b"}]
    found = one(tmp_path, {"messages": [*NATIVE["messages"][1:3], *rest]})
    assert (found.messages[2].content, found.messages[2].tool_results) == ("1\n\nGo on.", ())


def test_gemini_and_bedrock_rows(tmp_path: Path) -> None:
    gemini = {
        "systemInstruction": {"parts": [{"text": "S"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
            {"role": "model", "parts": [{"text": "why", "thought": True}, {"text": "c"}]},
        ],
    }
    bedrock = {
        "system": [{"text": "S"}],
        "messages": [
            {"role": "user", "content": [{"text": "ab"}]},
            {"role": "assistant", "content": [{"reasoningContent": {"reasoningText": {"text": "why"}}}, {"text": "c"}]},
        ],
    }
    for row in (gemini, bedrock):
        found = one(tmp_path, row, reasoning=True)
        assert [(message.role, message.content) for message in found.messages] == [
            ("system", "S"), ("user", "ab"), ("assistant", "c")
        ]  # fmt: skip
        assert found.messages[2].thinking == "why"


def text_row(env: str, *steps: str) -> dict[str, Any]:
    turns = [("human", "Rules."), ("gpt", "OK.")]
    for step in steps:
        turns += [("human", "seen"), ("gpt", step)]
    return {"item_id": f"{env}_1", "conversations": [{"from": who, "value": text} for who, text in turns]}


def test_text_becomes_calls_of_the_environments_functions_and_text_again(tmp_path: Path) -> None:
    steps = ["Thought: I look.\nAction: inventory", "I think.", "Thought: So.\nAction: get 1 oak logs"]
    found = one(tmp_path, text_row("textcraft", *steps), action_format="tools")
    assert [message.content for message in found.steps] == steps
    made = [[call.arguments for call in message.tool_calls] for message in found.steps]
    assert made == [["{}"], [], ['{"count": "1", "item": "oak logs"}']]
    answered = [bool(message.tool_results) for message in found.messages if message.content == "seen"]
    assert answered == [False, True, False]
    assert json.loads(found.messages[0].tools or "") == make("textcraft").tools()
    assert found.messages[0].content == "Rules." + calling.NOTE
    assert "steps without an action that a function stands for: kept as text" in notes(tmp_path, action_format="tools")
    row = to_chat(found, {0: 1, 1: 1, 2: 1})
    again = one(tmp_path, row | {"task_name": "textcraft"}, action_format="react")
    assert [message.content for message in again.steps] == steps
    assert not any(message.tool_calls or message.tool_results or message.tools for message in again.messages)


def test_a_tool_environments_actions_are_calls_of_its_tools(tmp_path: Path) -> None:
    step = 'Thought: Where?\nAction: get_latitude_longitude with Action Input: {"name": "Lisbon"}'
    found = one(tmp_path, text_row("tool_weather", step), action_format="tools")
    [made] = found.steps[0].tool_calls
    assert (made.name, json.loads(made.arguments)) == ("get_latitude_longitude", {"name": "Lisbon"})
    native = {"task_name": "weather", "messages": [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "Where?", "tool_calls": [call("x", '{"name": "Lisbon"}', made.name)]},
    ]}  # fmt: skip
    assert one(tmp_path, native, action_format="react").steps[0].content == step
    both = one(tmp_path, native).steps[0]
    assert (both.content, both.tool_calls[0].id) == (step, "x")
    several = native["messages"][1] | {"tool_calls": [call("x", "{}"), call("y", "{}")]}  # type: ignore[operator]
    kept = one(tmp_path, native | {"messages": [native["messages"][0], several]}, action_format="react")
    assert kept.steps[0].content == "Thought: Where?\nAction: craft {}\ncraft {}"
    assert any("no single call" in note for note in notes(tmp_path, action_format="react"))


def test_actions_of_an_unknown_environment_stay_and_are_counted(tmp_path: Path) -> None:
    row = text_row("os", "Action: ls")
    assert one(tmp_path, row, action_format="tools") == one(tmp_path, row)
    assert any("cannot be made here" in note for note in notes(tmp_path, action_format="tools"))
    assert to_chat(one(tmp_path, NATIVE | {"task_name": "os"}, action_format="tools"), {0: 1, 1: 1}) == NATIVE


def test_trajectories_that_were_stored_without_calls_are_read(tmp_path: Path) -> None:
    plain = one(tmp_path, text_row("textcraft", "Action: inventory"))
    table = trajectories_to_table([plain])
    old = pa.struct([("role", pa.string()), ("content", pa.string()), ("step", pa.int32())])
    fields = [pa.field("messages", pa.list_(old)) if field.name == "messages" else field for field in TRAJECTORY_SCHEMA]
    rows = table.to_pylist()
    for row in rows:
        row["messages"] = [{name: turn[name] for name in ("role", "content", "step")} for turn in row["messages"]]
    (tmp_path / "run" / "trajectories").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), tmp_path / "run/trajectories/part-0.parquet")
    assert Store(str(tmp_path / "run")).read_trajectories() == [plain]
    assert list(read(str(tmp_path / "run" / "trajectories"))) == [plain]


@reference("agenttraj/textcraft_sample.json")
def test_agenttraj_goes_to_calls_and_back_without_loss(path: str) -> None:
    for text, tools in zip(read(path), read(path, Options(action_format="tools")), strict=True):
        assert isinstance(text, Trajectory)
        assert isinstance(tools, Trajectory)
        assert [message.content for message in tools.messages[1:]] == [message.content for message in text.messages[1:]]
        assert any(message.tool_calls for message in tools.steps)
