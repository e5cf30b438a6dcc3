"""Conversations in the shapes that people have."""

from __future__ import annotations

from typing import Any

import pytest

from atlas_ray.formats.turns import FLAGS, Malformed, conversation

USER, AGENT = {"role": "user", "content": "Go."}, {"role": "assistant", "content": "Action: go"}


def said(*turns: Any, notes: set[str] | None = None, reasoning: bool = False) -> list[tuple[str, str, int | None]]:
    found = conversation(turns, "messages", set() if notes is None else notes, reasoning=reasoning)
    return [(message["role"], message["content"], message["step"]) for message in found]


def steps(*turns: Any) -> list[int | None]:
    return [step for role, _, step in said(*turns) if role == "assistant"]


@pytest.mark.parametrize(
    "text",
    [
        "OK.", "Ok.", "ok", "Okay!", "OK. I'll follow your instructions and try my best to solve the task.", "Sure.",
        "Understood. I will do that.", "Got it, let's start.", "I understand.", "Ok, I\u2019m ready.", "Yes.",
    ],
)  # fmt: skip
def test_the_acknowledgement_that_opens_an_episode_is_no_step(text: str) -> None:
    assert steps(USER, {"role": "assistant", "content": text}, USER, AGENT) == [None, 0]
    assert steps(USER, AGENT, USER, {"role": "assistant", "content": text}, USER) == [0, 1]  # not the first: a step


@pytest.mark.parametrize(
    "text",
    ["okra", "look", "Action: go", "OK, go north", "OK. search[red shoes]", "Sure.\nAction: wait", "yesterday",
     "go. ok", "OK: look()", "Thought: OK.\nAction: go"],
)  # fmt: skip
def test_an_action_is_a_step_however_it_begins(text: str) -> None:
    assert steps(USER, {"role": "assistant", "content": text}, USER, AGENT) == [0, 1]


def test_an_acknowledgement_that_nothing_follows_or_that_is_flagged_is_a_step() -> None:
    ok = {"role": "assistant", "content": "OK."}
    assert steps(USER, ok) == [0]
    assert steps(USER, ok, AGENT) == [0, 1]
    assert steps(USER, ok | {"train": True}, USER, AGENT) == [0, 1]


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize(("off", "on"), [(False, True), (0, 1), (0.0, 0.5), ("false", "true")])
def test_a_training_flag_under_any_of_its_names(flag: str, off: Any, on: Any) -> None:
    assert steps(USER, AGENT | {flag: off}, USER, AGENT | {flag: on}, USER, AGENT) == [None, 0, 1]
    assert steps(USER, AGENT | {flag: None}) == [0]
    with pytest.raises(Malformed, match=rf"field messages.0.{flag}: expected true, false, or a weight from 0 to 1"):
        said(AGENT | {flag: 2})


def test_flags_that_have_no_place_are_noted() -> None:
    notes: set[str] = set()
    said(USER | {"weight": 1}, AGENT | {"weight": 0.5}, notes=notes)
    assert notes == {
        "training flags on turns that are not the assistant's: ignored",
        "training weights between 0 and 1: read as steps, the weight has no place",
    }


def call(arguments: Any) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": "take", "arguments": arguments}}


@pytest.mark.parametrize(
    "turn",
    [
        {"tool_calls": [call('{"object": "drawer"}')]},
        {"tool_calls": [call({"object": "drawer"})]},
        {"tool_calls": [{"name": "take", "arguments": {"object": "drawer"}}]},
        {"tool_calls": '[{"name": "take", "arguments": {"object": "drawer"}}]'},
        {"function_call": {"name": "take", "arguments": '{"object": "drawer"}'}},
        {"content": [{"type": "tool_use", "id": "c", "name": "take", "input": {"object": "drawer"}}]},
    ],
)
def test_a_tool_call_in_any_form_is_an_action(turn: dict[str, Any]) -> None:
    action = 'Thought: {}\nAction: take {{"object": "drawer"}}'
    base: dict[str, Any] = {"role": "assistant", "content": None}
    assert said(USER, base | turn)[1:] == [("assistant", action.format(""), 0)]
    thinking = base | turn | {"reasoning_content": "It is closed."}
    assert said(USER, thinking)[1:] == [("assistant", action.format("It is closed."), 0)]


def test_calls_together_and_their_answers() -> None:
    both = {"role": "assistant", "content": "Both.", "tool_calls": [call({"a": 1}), call("")]}
    answers = [{"role": "tool", "tool_call_id": "c", "content": text} for text in ("one", "two")]
    assert said(USER, both, *answers, USER) == [
        ("user", "Go.", None), ("assistant", 'Thought: Both.\nAction: take {"a": 1}\ntake', 0),
        ("user", "one\n\ntwo", None), ("user", "Go.", None),
    ]  # fmt: skip
    results = [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "one"}]},
               {"type": "tool_result", "tool_use_id": "d", "content": "two"}]  # fmt: skip
    assert said({"role": "user", "content": results}) == [("user", "one\n\ntwo", None)]
    assert said({"role": "tool", "content": {"found": 2}}) == [("user", '{"found": 2}', None)]


def test_items_of_the_responses_api() -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Go."}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "take", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "taken"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done."}]},
    ]
    notes: set[str] = set()
    assert said(*items, notes=notes)[1:] == [
        ("assistant", "Thought: \nAction: take {}", 0), ("user", "taken", None), ("assistant", "Done.", 1)
    ]  # fmt: skip
    assert not notes


def test_reasoning_is_noted_or_kept() -> None:
    notes: set[str] = set()
    turn = AGENT | {"reasoning_content": "Why not."}
    assert said(USER, turn, notes=notes)[1] == ("assistant", "Action: go", 0)
    assert notes == {"reasoning beside an assistant's text: left out; collect.reasoning keeps it"}
    kept = {"role": "assistant", "content": "Action: go", "step": 0, "thinking": "Why not."}
    assert conversation([USER, turn], "messages", set(), reasoning=True)[1] == kept
    parts = [{"type": "thinking", "thinking": "Why not.", "signature": "s"}, {"type": "text", "text": "Action: go"}]
    assert conversation([USER, AGENT | {"content": parts}], "messages", set(), reasoning=True)[1] == kept


def test_roles_of_many_names_and_unknown_ones() -> None:
    names = ["system", "human", "gpt", "observation", "model", "environment", "agent", "ipython", "bot", "developer"]
    roles = [role for role, _, _ in said(*({"from": name, "value": "x"} for name in names))]
    assert roles == "system user assistant user assistant user assistant user assistant system".split()
    notes: set[str] = set()
    assert said(USER, AGENT, {"role": "critic", "content": "Bad."}, notes=notes)[2] == ("user", "Bad.", None)
    assert notes == {"unknown role 'critic': read as an observation"}


def test_fields_without_a_place_are_noted_and_empty_ones_are_not() -> None:
    notes: set[str] = set()
    said(USER | {"name": None, "audio": {}}, AGENT | {"logprobs": [1], "tool_calls": [], "refusal": ""}, notes=notes)
    assert notes == {"field 'logprobs' of a turn: no place for it"}


def test_an_empty_turn_of_the_agent_is_a_step_and_noted() -> None:
    notes: set[str] = set()
    assert said(USER, AGENT | {"content": ""}, notes=notes)[1] == ("assistant", "", 0)
    assert notes == {"assistant's turns without text: read as steps"}


@pytest.mark.parametrize(
    ("turn", "says"),
    [
        (3, "field messages.0: expected a turn"),
        ({"content": "x"}, "field messages.0.role: expected a role's name, found null"),
        ({"role": 3, "content": "x"}, "field messages.0.role: expected a role's name, found 3"),
        ({"role": "user", "content": None}, "field messages.0.content: expected a text, found null"),
        ({"role": "user", "content": {"a": 1}}, "field messages.0.content: expected a text"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages.0.content.0.type: expected"),
        ({"role": "user", "content": [3]}, "messages.0.content.0: expected a part with a text"),
        ({"role": "assistant", "content": None}, "field messages.0.content: expected a text, found null"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "messages.0.tool_calls.0.name: expected a"),
        ({"role": "assistant", "tool_calls": 3}, "messages.0.tool_calls: expected a list"),
        ({"role": "user", "content": "x", "tool_calls": [call("")]}, "tool_calls: expected none in a turn"),
    ],
)  # fmt: skip
def test_a_malformed_turn_names_its_field(turn: Any, says: str) -> None:
    with pytest.raises(Malformed) as error:
        said(turn)
    assert says in str(error.value)
