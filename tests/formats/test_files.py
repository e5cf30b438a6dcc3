"""Every shape in, row by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.errors import DataError
from atlas_ray.formats.files import BLOCK_ROWS, SHAPE, BadRow, Options, blocks, read
from atlas_ray.store import Store
from atlas_ray.trajectory import Trajectory, to_row
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
    assert (one.env, one.source, one.trajectory_id) == ("textcraft", "textcraft_train.jsonl", "textcraft_train:0")


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
        ({"text": "x"}, 'expected a list of turns under one of messages, conversations, conversation, content, found'),
        ({"messages": []}, "field messages: expected a non-empty list"),
        ({"messages": "hello"}, "field messages: expected a list of turns"),
        ({"messages": [ASK, STEP | {"weight": 2}]}, "field messages.1.weight: "),
        ({"messages": [ASK, {"role": "assistant", "content": None}]}, "field messages.1.content: expected a text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages.0.content"),
        ({"messages": [ASK, STEP], "images": ["a.png"]}, "field images: expected none"),
        ({"messages": [ASK, OK]}, "at least one turn of the assistant that is trained on"),
        ({"conversations": [{"from": "human", "value": 3}]}, "field conversations.0.value: "),
        ({"chosen": [ASK, STEP], "rejected": [ASK, STEP]}, "expected one conversation, found a pair of a preference"),
        ({"messages": [ASK, STEP | {"content": "\ud83d"}]}, "messages.1.content: expected Unicode text, found the"),
        ({"messages": [ASK, STEP], "id": "a\ud83d"}, "expected Unicode text, found the lone surrogate U+D83D"),
        ('{"messages": [], "n": %s}' % ("1" * 5000), "an integer of 5000 digits"),
        ({"id": "a", "content": [{"class_": "image_observation", "content": "x"}]}, "field content.0: "),
        ({"id": "a", "content": [{"class_": "api_action", "function": "f"}]}, "content.0.api_action.kwargs: "),
    ],
)  # fmt: skip
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
            st.sampled_from(
                "messages conversations content id from value role class_ loss weight tool_calls function type text "
                "reward success metadata tools system prompt completion trajectory task_name row".split()
            ),
            inner | st.sampled_from(["user", "assistant", "human", "gpt", "text_observation", "message_action"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(row=JSON)
def test_any_json_is_a_trajectory_or_a_bad_row(tmp_path_factory: pytest.TempPathFactory, row: Any) -> None:
    found = rows(tmp_path_factory.getbasetemp(), {"messages": [ASK, STEP]}, json.dumps(row), name="any.jsonl")
    assert len(found) == 2
    assert all(isinstance(one, Trajectory | BadRow) for one in found)


def test_bytes_that_are_no_utf8_cost_their_row_alone(tmp_path: Path) -> None:
    good = json.dumps({"messages": [ASK, STEP]}).encode()
    for text in (
        b"\n".join([good, good.replace(b"go", b"g\xff"), good]),
        b"[%b, %b, %b]" % (good, good.replace(b"go", b"\xff"), good),
    ):
        (tmp_path / "maze.json").write_bytes(text)
        first, bad, last = read(str(tmp_path / "maze.json"))
        assert isinstance(bad, BadRow)
        assert "found the byte 0xff, which is no UTF-8" in str(bad)
        assert isinstance(first, Trajectory)
        assert isinstance(last, Trajectory)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(read(str(tmp_path / "none")))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        list(read(str(tmp_path / "binary.json")))


def one_of(tmp_path: Path, row: Any, **options: Any) -> Trajectory:
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    (found,) = read(str(tmp_path / "mine.jsonl"), Options(**options))
    assert isinstance(found, Trajectory), found
    return found


TURNS = {
    "human": {"from": "human", "value": "h"},
    "ok": {"from": "gpt", "value": "OK."},
    "gpt": {"from": "gpt", "value": "a"},
}
LIST = [TURNS["human"], TURNS["ok"], TURNS["human"], TURNS["gpt"]]


@pytest.mark.parametrize("key", ["messages", "conversations", "conversation", "trajectory", "history", "anything"])
@pytest.mark.parametrize("form", [lambda turns: turns, json.dumps])
def test_turns_are_found_under_any_name_and_inside_text(tmp_path: Path, key: str, form: Any) -> None:
    found = one_of(tmp_path, {key: form(LIST), "id": "maze_1"})
    assert (found.n_steps, found.env, found.item_id) == (1, "maze", "maze_1")


@pytest.mark.parametrize(
    ("row", "identity", "env"),
    [
        ({"item_id": "tool_sheet_3"}, "tool_sheet_3", "sheet"), ({"id": "webshop_3"}, "webshop_3", "webshop"),
        ({"id": 7, "task_name": "maze"}, "7", "maze"), ({"id": 7, "env": "ALFWorld"}, "7", "alfworld"),
        ({"metadata": {"env": "sciworld"}, "uuid": "u"}, "u", "scienceworld"), ({}, "mine:0", "mine"),
        ({"task_id": "os_3"}, "os_3", "os"), ({"item_id": "", "id": "babyai_1"}, "babyai_1", "babyai"),
    ],
)  # fmt: skip
def test_loss_flags_with_any_id_or_none(tmp_path: Path, row: dict[str, Any], identity: str, env: str) -> None:
    flagged = [turn | {"loss": None if turn["from"] == "human" else turn["value"] == "a"} for turn in LIST]
    found = one_of(tmp_path, {"conversations": flagged} | row)
    assert (found.trajectory_id, found.env, found.n_steps) == (identity, env, 1)


@pytest.mark.parametrize(
    ("row", "reward", "success"),
    [
        ({"reward": 0.5, "success": 0}, 0.5, False), ({"reward": 1, "success": 1}, 1.0, True),
        ({"score": "0.25", "is_success": "True"}, 0.25, True), ({"reward": True}, 1.0, None),
        ({"reward": 57}, None, None), ({"reward": -100, "success": False}, 0.0, False),
        ({"reward": [0, 1], "resolved": True}, None, True), ({"outcome": "failure"}, None, False),
        ({"metadata": {"reward": 0.75, "success": True}}, 0.75, True), ({"info": '{"reward": 0.75}'}, 0.75, None),
        ({"reward": None, "success": None}, None, None), ({"success": 0.5}, None, None), ({}, None, None),
    ],
)  # fmt: skip
def test_reward_and_success(tmp_path: Path, row: dict[str, Any], reward: float | None, success: bool | None) -> None:
    found = one_of(tmp_path, {"conversations": LIST} | row)
    assert (found.reward, found.success) == (reward, success)


def test_no_number_is_no_reward(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(f'{{"conversations": {json.dumps(LIST)}, "reward": NaN, "score": 1e999}}')
    (found,) = read(str(tmp_path / "x.jsonl"))
    assert isinstance(found, Trajectory)
    assert found.reward is None


def test_the_rows_system_text_and_tools_open_the_conversation(tmp_path: Path) -> None:
    found = one_of(tmp_path, {"conversations": LIST, "system": "Be good.", "tools": [{"name": "f"}]})
    assert said(found)[0] == ("system", 'Be good.\n\nTools:\n[{"name": "f"}]', None)
    own = [{"from": "system", "value": "Own."}, *LIST]
    found = one_of(tmp_path, {"conversations": own, "system": "Be good.", "tools": "[]"})
    assert said(found)[:2] == [("system", "Be good.\n\nOwn.", None), ("user", "h", None)]
    assert said(one_of(tmp_path, {"conversations": own, "system": "Own."}))[0] == ("system", "Own.", None)


def test_prompt_and_completion(tmp_path: Path) -> None:
    found = one_of(tmp_path, {"prompt": [ASK, STEP, ASK], "completion": [STEP]})
    assert [step for _, _, step in said(found)] == [None, None, None, 0]


def test_ids_are_distinct_whatever_they_are(tmp_path: Path) -> None:
    ids = ["a", "a#2", "a", "a", "a#2", "b"]
    found = rows(tmp_path, *({"messages": [ASK, STEP], "id": identity} for identity in ids))
    assert [one.trajectory_id for one in found if isinstance(one, Trajectory)] == [
        "a",
        "a#2",
        "a#3",
        "a#4",
        "a#2#2",
        "b",
    ]


def test_what_a_row_has_besides_is_kept_where_it_is_short_and_counted_where_it_is_not(tmp_path: Path) -> None:
    row = {"messages": [ASK, STEP], "model": "m", "task": "Find it.", "embedding": [0.5] * 500, "empty": []}
    assert one_of(tmp_path, row).metadata == {"row": {"model": "m", "task": "Find it."}}
    assert notes_of(tmp_path) == {"field 'embedding' of a row: no place for it": 1}


def notes_of(tmp_path: Path, **options: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for _, tally in blocks(str(tmp_path / "mine.jsonl"), Options(**options)):
        found |= {note: count for note, count in tally.notes.items() if not note.startswith(SHAPE)}
    return found


def test_environments_are_counted_where_they_are_called_otherwise(tmp_path: Path) -> None:
    rows(tmp_path, *({"messages": [ASK, STEP], "item_id": f"tool_sheet_{n}"} for n in range(3)), name="mine.jsonl")
    assert notes_of(tmp_path) == {"environment 'tool_sheet' is 'sheet' here": 3}
    rows(tmp_path, {"messages": [ASK, STEP], "item_id": "babyai_3", "task_name": "webshop"}, name="mine.jsonl")
    assert notes_of(tmp_path) == {"its id is of babyai, its task_name of webshop: the latter counts": 1}
    rows(tmp_path, {"messages": [ASK, STEP], "task_name": "os"}, name="mine.jsonl")
    assert notes_of(tmp_path, environments={"os": "maze"}) == {"environment 'os' is 'maze' here": 1}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_of_several_processes_taken_in_turn_are_the_whole(tmp_path: Path, count: int) -> None:
    for name, size in (("a", 2 * BLOCK_ROWS + 7), ("b", 3), ("c", BLOCK_ROWS)):
        lines = [json.dumps({"messages": [ASK, STEP], "id": f"{name}{n}"}) for n in range(size)]
        text = "\n".join(lines) if name != "c" else f"[{','.join(lines)}]"
        (tmp_path / f"{name}.json").write_text(text)
    expected = [one.trajectory_id for one in read(str(tmp_path)) if isinstance(one, Trajectory)]
    shares = [list(blocks(str(tmp_path), Options(), (number, count))) for number in range(count)]
    found, total = [], 0
    for turn in range(max(map(len, shares))):
        for share in shares:
            if turn < len(share):
                table, tally = share[turn]
                found += table["trajectory_id"].to_pylist()
                total += tally.rows
    assert found == expected
    assert total == len(expected)


@reference("agentgym_runs")
def test_real_episodes_of_agentgyms_environments(path: str) -> None:
    found = list(read(path))
    assert len(found) == 38
    raw = [json.loads(line) for file in sorted(Path(path).glob("*.jsonl")) for line in file.read_text().splitlines()]
    for one, row in zip(found, raw, strict=True):
        assert isinstance(one, Trajectory)
        turns = row["conversations"]
        assert [(message.role, message.content) for message in one.messages] == [
            (t["role"], t["content"]) for t in turns
        ]
        assert one.messages[1].step is None  # "OK.", or one of AgentGym's longer forms of it
        assert one.n_steps == sum(turn["role"] == "assistant" for turn in turns) - 1
        assert (one.env, one.item_id) == (row["task_name"], row["item_id"])
        assert (one.reward, one.success) == (row["reward"], row["success"] == 1)
    assert len({one.trajectory_id for one in found if isinstance(one, Trajectory)}) == 38


def test_trajectories_of_a_run_come_in_as_they_are(tmp_path: Path) -> None:
    messages = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "look", "step": None},
                {"role": "assistant", "content": "go", "step": 0})  # fmt: skip
    own = Trajectory.model_validate(
        {"trajectory_id": "t", "env": "maze", "item_id": "maze_1", "split": "test", "source": "expert",
         "messages": messages, "n_steps": 1, "reward": 1.0, "success": True, "metadata": {"task": 3}}
    )  # fmt: skip
    Store(str(tmp_path / "run")).write_trajectories([own])
    assert list(read(str(tmp_path / "run" / "trajectories"))) == [own]
    row = to_row(own)
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, [row, row | {"n_steps": 2}, row | {"messages": 3}])))
    again, *bad = read(str(tmp_path / "x.jsonl"))
    assert again == own
    assert [isinstance(one, BadRow) for one in bad] == [True, True]
