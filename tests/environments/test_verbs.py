"""Verbs as functions: an action becomes a call and that action again; what is no call of them is told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.environments import make, registry, verbs
from atlas_ray.environments.contract import TextEnv
from atlas_ray.environments.verbs import Verb
from atlas_ray.errors import AtlasError, EnvironmentError
from atlas_ray.trajectory import ToolCall


def with_grammar() -> dict[str, TextEnv]:
    found = {}
    for name in registry.names():
        try:
            env = make(name)
        except AtlasError:  # its engine is not installed here
            continue
        if env.grammar:
            found[name] = env
    return found


ENVIRONMENTS = with_grammar()
VERBS = sorted({verb.form: verb for env in ENVIRONMENTS.values() for verb in env.grammar}.items())
LINE = st.text(st.characters(exclude_characters="\n"), min_size=1, max_size=20)


@settings(deadline=None)
@given(st.sampled_from(VERBS), st.data())
def test_a_call_and_its_action_stand_for_each_other(drawn: tuple[str, Verb], data: st.DataObject) -> None:
    verb = drawn[1]
    parts = {
        part: data.draw(st.sampled_from(list(verb.choices[part])) if part in verb.choices else LINE)
        for part in verb.parts
    }
    action = verb.written(parts)
    call = verbs.call_of([verb], action)
    assert call is not None
    assert verbs.action_of([verb], call) == action
    assert verbs.action_of([verb], ToolCall(name=verb.name, arguments=json.dumps(parts))) == action


@settings(deadline=None)
@given(st.sampled_from(sorted(ENVIRONMENTS)), LINE)
def test_no_text_becomes_another_action(name: str, text: str) -> None:
    env = ENVIRONMENTS[name]
    call = env.call_of(text)
    assert call is None or env.action_of(call) == text


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_experts_and_valid_actions_are_calls_of_functions_with_names_of_their_own(name: str) -> None:
    env = ENVIRONMENTS[name]
    functions = {tool["function"]["name"]: tool["function"]["parameters"] for tool in env.tools()}
    assert len(functions) == len(env.grammar)
    for task in range(3):
        observation, _ = env.reset(options={"task": task, "split": "train"})
        expert = env.expert()
        while env.running:
            action = expert.next_action(observation)[1]
            for each in (action, *env.valid_actions()):
                call = env.call_of(each)
                assert call is not None, each
                assert env.action_of(call) == each
                assert list(json.loads(call.arguments)) == functions[call.name]["required"]
            observation = env.step(action)[0]


def test_what_is_no_call_is_told() -> None:
    maze = make("maze")
    for name, arguments, says in (
        ("fly", "{}", "there is no function 'fly'; call one of move."),
        ("move", '{"direction": "away"}', r"move takes direction \(up or down or left or right\)."),
        ("move", '{"direction": 3}', "move takes direction"),
        ("move", '{"direction": "up", "far": "2"}', "move takes direction"),
        ("move", "[", "move takes direction"),
    ):
        with pytest.raises(EnvironmentError, match=says):
            maze.action_of(ToolCall(name=name, arguments=arguments))
    with pytest.raises(EnvironmentError, match=r"go_to takes place \(text of one line\)."):
        make("alfworld").action_of(ToolCall(name="go_to", arguments='{"place": "shelf 1\\nlook"}'))
    assert maze.call_of("move away") is None
