"""Parsing and formatting of replies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.react import NO_ACTION, ONE_ACTION, format_reply, parse_reply

line = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40).filter(
    lambda text: "action:" not in text.lower() and "thought:" not in text.lower()
)


@given(thought=line, action=line, rule=st.sampled_from(["one", "first", "last"]))
def test_what_is_formatted_is_parsed_back(thought, action, rule):
    assert parse_reply(format_reply(thought, action), rule) == (thought, action, None)


@given(text=st.text(max_size=300), rule=st.sampled_from(["one", "first", "last"]))
def test_any_text_gives_either_an_action_or_a_problem(text, rule):
    reply = parse_reply(text, rule)
    assert (reply.action is None) != (reply.problem is None)
    assert reply.action is None or reply.action == reply.action.strip() != ""


def test_agenttraj_form_with_labels_on_lines_of_their_own():
    text = "Thought:\nI need a lamp.\nIt is near.\n\nAction:\ngo to desk 1"
    assert parse_reply(text, "last") == ("I need a lamp.\nIt is near.", "go to desk 1", None)


@pytest.mark.parametrize(
    ("rule", "action", "problem"), [("one", None, ONE_ACTION), ("first", "a", None), ("last", "b", None)]
)
def test_two_actions_follow_the_environments_rule(rule, action, problem):
    reply = parse_reply("Thought: t\nAction: a\nAction: b", rule)
    assert (reply.action, reply.problem) == (action, problem)


@pytest.mark.parametrize("text", ["click[buy now]", "Action:\nclick[buy now]</s>", "I buy. click[buy now]</s>"])
def test_a_call_in_brackets_counts_without_a_label_for_rule_last(text):
    assert parse_reply(text, "last").action == text.removesuffix("</s>").removeprefix("Action:\n")
    assert parse_reply("I look around.", "last").problem == NO_ACTION


@pytest.mark.parametrize("rule", ["one", "first", "last"])
def test_an_end_of_sequence_mark_is_no_part_of_an_action(rule):
    assert parse_reply("Thought: t\nAction: go to desk 1</s>", rule).action == "go to desk 1"


def test_rule_one_takes_the_first_line_only():
    assert parse_reply("Action: get 2 planks\nThen I craft.", "one").action == "get 2 planks"


def test_a_bare_action_counts_for_rule_first_only():
    assert parse_reply("move up", "first").action == "move up"
    assert parse_reply("move up", "last").problem == NO_ACTION
    assert parse_reply("Thought: hm", "first").problem == NO_ACTION


@pytest.mark.parametrize("rule", ["one", "first", "last"])
def test_a_label_without_an_action_is_none(rule):
    assert parse_reply("Thought: hm\nAction: ", rule) == ("hm", None, NO_ACTION)
