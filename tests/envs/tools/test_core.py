"""What the tool environments share: the grammar, signatures, answers, upstream's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.errors import DataError
from envs.tools.files import read_tasks
from envs.tools.grammar import (
    MAX_OBSERVATION_CHARS,
    ArgumentError,
    format_call,
    parse_arguments,
    parse_call,
    show,
)
from envs.tools.tasks import Answer
from envs.tools.toolbox import Parameter, Tool, Toolbox
from tests.reference import reference

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "action",
    [
        'get_elevation with Action Input: {"latitude": 1.5}',
        'Action: get_elevation with Action Input: {"latitude": 1.5}',
        "get_elevation withAction Input:{'latitude': 1.5}",
        'Thought: hm\nAction: get_elevation\nwith  Action Input: {\n"latitude": 1.5}\n',
    ],
)
def test_calls_are_read(action: str) -> None:
    call = parse_call(action)
    assert call is not None
    assert call.name == "get_elevation"
    assert parse_arguments(call.arguments) == {"latitude": 1.5}


@pytest.mark.parametrize("action", ["get_elevation", "with Action Input: {}", "Action: with Action Input: {}", ""])
def test_what_has_not_the_form_is_no_call(action: str) -> None:
    assert parse_call(action) is None


@given(arguments=st.dictionaries(st.text(min_size=1), _json, max_size=4))
def test_what_is_written_is_read_back(arguments: dict[str, Any]) -> None:
    call = parse_call(format_call("tool", arguments))
    assert call is not None
    assert parse_arguments(call.arguments) == json.loads(json.dumps(arguments))


@settings(max_examples=300)
@given(
    text=st.text(max_size=200)
    | st.text(alphabet="[](){}'\"\\,:-+ 019eE.jbuxNTF", max_size=60)
    | _json.map(json.dumps)
    | _json.map(repr)
)
def test_any_argument_text_is_an_object_or_an_error(text: str) -> None:
    try:
        value = parse_arguments(text)
    except ArgumentError:
        return
    json.dumps(value, allow_nan=False).encode()


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "{'a': open('x')}",
        "{**{}}",
        "{'a': [1 for _ in ()]}",
        "{'a': b'x'}",
        "{'a': {1, 2}}",
        "{'a': 1j}",
        "{1: 2}",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"a": ' + "[" * 30 + "]" * 30 + "}",
        '{"a": ' + "[" * 5000,
        "{'a': " + "-" * 9000 + "1}",
        "{'a': 1" + "+1" * 4000 + "}",
        "(" * 9000,
        "9" * 9999,
        "[]",
        "",
    ],
    ids=lambda text: text[:24],
)
def test_bad_argument_texts_are_errors(text: str) -> None:
    with pytest.raises(ArgumentError):
        parse_arguments(text)


_TOOLBOX = Toolbox(
    [
        Tool(
            "paint",
            "Paint something.",
            {
                "what": Parameter(str, "string", "The thing."),
                "size": Parameter(float, "number"),
                "colour": Parameter(Literal["red", "blue"], "string", default="red"),
            },
            returns="The painted thing.",
        )
    ]
)


def test_arguments_are_checked_against_the_signature() -> None:
    assert _TOOLBOX.check("paint", {"what": 7, "size": "2.5"}) == {"what": "7", "size": 2.5, "colour": "red"}
    for arguments, said in (
        ({"size": 1}, "what: Field required; paint takes what (string), size (number), colour (string)"),
        ({"what": "x", "size": "big"}, "size: Input should be a valid number"),
        ({"what": ["x"], "size": 1}, "what: Input should be a valid string"),
        ({"what": "x", "size": 1, "colour": "green"}, "colour: Input should be 'red' or 'blue'"),
        ({"what": "x", "size": 1, "x" * 100: 1}, "x" * 40 + "...: Extra inputs are not permitted"),
    ):
        with pytest.raises(ArgumentError) as error:
            _TOOLBOX.check("paint", arguments)
        assert str(error.value).startswith(said)
    with pytest.raises(ArgumentError, match="check_valid_actions takes no arguments"):
        _TOOLBOX.check("check_valid_actions", {"a": 1})


def test_the_instruction_names_every_tool_and_the_format() -> None:
    text = _TOOLBOX.instruction("Paint well.", "Goal: paint")
    assert "Name: paint(what, size, colour)\nDescription: Paint something.\nParameters:\n- what (Type: string)" in text
    assert "Name: finish(answer)" in text
    assert "Action: [your action] with Action Input: [your action input]" in text


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("Forrest Gump", ["forrest  gump", "'Forrest Gump'", "Forrest Gump."], ["Gump", None, ["Forrest Gump"], {}]),
        ("Yes", ["yes", "YES"], ["No", True, 1]),
        ("2021", ["2021", 2021], ["2022", 2021.5, True]),
        (18.5, [18.5, "18.5", 18.5000001], [18.6, "18.5 C", True, [18.5], "nan", "9" * 400]),
        (160000000, [160000000, "1.6e8"], [160000001]),
        (["a", "B"], [["b", "a"], ["B", "a"]], [["a"], ["a", "b", "b"], "a, b", ["a", "a"]]),
        ([4.9, 7.9], [[7.9, 4.9], ["4.9", 7.9]], [[4.9, 8.9]]),
    ],
)
def test_answers(gold: Any, right: list[Any], wrong: list[Any]) -> None:
    assert all(Answer(gold).accepts(given) for given in right)
    assert not any(Answer(gold).accepts(given) for given in wrong)


def test_tolerance_and_alternatives() -> None:
    assert Answer(10.0, tolerance=0.06).accepts(10.05)
    assert not Answer(10.0, tolerance=0.06).accepts(10.1)
    assert Answer(6.399999999, alternatives=("about six",)).accepts("About six")


def test_shown_values_are_printable_and_bounded() -> None:
    assert show({"daily_units": "°C"}) == "{'daily_units': '°C'}"
    assert show("a\nb\x1b[0m") == "a\nb\\x1b[0m"
    assert show("x" * 10**6) == "x" * MAX_OBSERVATION_CHARS + "... (984000 more characters)"


def _file(path: Path, **changes: Any) -> Path:
    info = {"answer": "No", "init_config": None, "goal_type": 0, "tool": "movie"} | changes.pop("info", {})
    row = {"id": 0, "goal": "Is it?", "subgoals": ["No"], "additional_info": info, "difficulty": "easy"} | changes
    path.write_text(json.dumps(row) + "\n")
    return path


def test_files_that_are_wrong_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    (task,) = read_tasks(_file(path), "movie").test
    assert task.answer == Answer("No")
    assert task.origin == f"{path}, line 1"
    for changes, said in (
        ({"goal": ""}, "line 1: field goal"),
        ({"subgoals": 3}, "line 1: field subgoals"),
        ({"info": {"tool": "todo"}}, "this is a file for 'movie' tasks"),
        ({"info": {"init_config": 3}}, "line 1: field additional_info.init_config"),
    ):
        with pytest.raises(DataError, match=said) as error:
            read_tasks(_file(path, **changes), "movie")
        assert "\n" not in str(error.value)
    path.write_text("{]\n")
    with pytest.raises(DataError, match="line 1: is no JSON"):
        read_tasks(path, "movie")
    path.write_text("\n")
    with pytest.raises(DataError, match="holds no task"):
        read_tasks(path, "movie")
    with pytest.raises(DataError, match="cannot be read"):
        read_tasks(tmp_path / "none.jsonl", "movie")


@reference("tools/todo.jsonl")
def test_upstreams_file_loads(path: str) -> None:
    tasks = read_tasks(path, "todo").test
    assert len(tasks) == 155
    assert tasks[0].answer == Answer("2015-06-01")
    assert tasks[0].setting == {"current_date": "2015-05-31", "current_location": "New York"}
    assert len(tasks[0].final["tasks"]) == 15
