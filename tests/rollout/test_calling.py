"""Episodes that are played with tool calls: what is offered, done, answered and recorded; over HTTP too."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import SecretStr

from atlas_ray.config import Playing
from atlas_ray.environments import calling, make
from atlas_ray.errors import ConfigError, EnvironmentError
from atlas_ray.inference.client import Client
from atlas_ray.inference.transport import Endpoint
from atlas_ray.react import parse_reply
from atlas_ray.rollout.episode import play
from atlas_ray.rollout.policy import EndpointPolicy, ExpertPolicy, PolicyTurn
from atlas_ray.rollout.spec import EpisodeSpec, Start
from atlas_ray.tool_calls import chat_turns, offered
from atlas_ray.trajectory import Message, ToolCall
from tests.endpoint_server import EndpointServer, Raw

TOOLS = Playing(action_format="tools")


def spec(env: str, **options: Any) -> EpisodeSpec:
    return EpisodeSpec(model="m", model_key="k", env=env, task=0, split="train", seed=0, playing=TOOLS, options=options)


class Caller:
    """Makes the given calls, a list for each turn, and says "So."."""

    def __init__(self, *turns: list[ToolCall]) -> None:
        self.turns = list(turns)

    def reply(self, turns: list[Message], timeout_s: float) -> PolicyTurn:
        return PolicyTurn("So.", calls=tuple(self.turns.pop(0)))


@pytest.mark.parametrize("name", ["textcraft", "weather"])
def test_an_expert_plays_with_calls_and_the_text_says_the_same(name: str) -> None:
    env = make(name)
    episode = play(env, lambda env, _: ExpertPolicy(env), spec(name))
    plain = play(env, lambda env, _: ExpertPolicy(env), EpisodeSpec("m", "k", name, 0, "train", 0))
    assert episode.success
    assert [message.content for message in episode.messages[1:]] == [message.content for message in plain.messages[1:]]
    first = episode.messages[0]
    assert offered([first]) == env.tools()
    assert first.content == plain.messages[0].content.rstrip() + calling.NOTE
    for said, heard in zip(episode.messages[3:-1:2], episode.messages[4::2], strict=True):
        [call] = said.tool_calls
        assert said.content.endswith(f"Action: {env.action_of(call)}")
        [result] = heard.tool_results
        assert (result.id, result.content) == (call.id, heard.content)


def test_what_is_no_single_call_of_a_function_on_offer_is_told_and_changes_nothing() -> None:
    look = ToolCall(name="inventory", arguments="{}")
    turns = [[], [look, look], [ToolCall(name="look")], [ToolCall(name="get", arguments="{")], [look]]
    episode = play(make("textcraft", max_rounds=5), lambda *_: Caller(*turns), spec("textcraft"))
    told = [message.content for message in episode.messages[4::2]]
    assert told[:2] == [calling.NO_CALL, calling.ONE_CALL]
    assert told[2] == "Error: there is no function 'look'; call one of get, craft, inventory."
    assert told[3] == "Error: get takes count (text of one line), item (text of one line)."
    assert told[4] == "Inventory: You are not carrying anything."
    assert (episode.rounds, episode.environment_steps, episode.stop) == (5, 1, "max_rounds")
    assert [len(message.tool_results) for message in episode.messages[4::2]] == [0, 2, 1, 1, 1]
    assert episode.messages[3].content == "So."
    assert len({call.id for message in episode.messages for call in message.tool_calls}) == 5
    assert episode.model_validate(episode.model_dump(mode="json")) == episode


@pytest.mark.parametrize("name", ["academia", "movie", "sheet", "todo", "weather"])
def test_tools_are_published_with_the_schemas_of_their_arguments(name: str) -> None:
    env = make(name)
    functions = {tool["function"]["name"]: tool["function"] for tool in env.tools()}
    assert {"finish", "check_valid_actions"} < functions.keys()
    assert "answer" in functions["finish"]["parameters"]["properties"] or name == "sheet"  # which wants none
    for function in functions.values():
        assert function["description"]
        assert function["parameters"]["type"] == "object"
        assert not function["parameters"]["additionalProperties"]
    json.dumps(env.tools())


def test_a_call_and_an_action_stand_for_each_other() -> None:
    weather, wordle = make("weather"), make("wordle")
    action = 'get_latitude_longitude with Action Input: {"name": "Zürich"}'
    call = weather.call_of(action)
    assert call == ToolCall(name="get_latitude_longitude", arguments='{"name": "Zürich"}')
    assert weather.action_of(call) == action
    assert weather.call_of("get_elevation with Action Input: {'latitude': 1}") == ToolCall(
        name="get_elevation", arguments='{"latitude": 1}'
    )
    assert weather.call_of("hello") is None
    assert wordle.action_of(wordle.call_of("c r a n e") or ToolCall(name="")) == "c r a n e"
    with pytest.raises(EnvironmentError, match="call the function act"):
        wordle.action_of(ToolCall(name="act", arguments='{"text": 3}'))


def test_an_endpoint_gets_functions_and_answers_with_calls() -> None:
    calls = [("inventory", {}), ("get", {"count": "0", "item": "oak logs"})]

    def play_turn(body: dict[str, Any]) -> Any:
        turn = sum(message["role"] == "assistant" for message in body["messages"]) - 1
        name, arguments = calls[turn]
        call = {"id": f"c{turn}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        message = {"role": "assistant", "content": None if turn else "I look.", "tool_calls": [call]}
        body = {"model": "m", "choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": {}}
        return Raw(json.dumps(body).encode())

    with EndpointServer(play_turn) as server:

        async def complete(messages: Any, **sampling: Any) -> Any:
            client = Client(Endpoint(base_url=server.url, model="m", key=SecretStr("k")), timeout_s=9, max_retries=0,
                            concurrency=1)  # fmt: skip
            try:
                return await client.complete(messages, **sampling)
            finally:
                await client.close()

        def ask(messages: Any, *, timeout_s: float, **sampling: Any) -> Any:
            return asyncio.run(complete(messages, **sampling))

        env = make("textcraft", max_rounds=2)
        episode = play(env, lambda _, spec: EndpointPolicy(ask, spec), spec("textcraft"))
        first, second = (json.loads(json.dumps(body)) for body in server.requests)
    assert episode.error is None
    assert first["tools"] == second["tools"] == env.tools()
    said, heard = second["messages"][-2:]
    assert said["content"] == "I look."
    assert said["tool_calls"][0]["function"] == {"name": "inventory", "arguments": "{}"}
    assert heard == {"role": "tool", "tool_call_id": "c0", "content": "Inventory: You are not carrying anything."}
    assert [message.content for message in episode.messages if message.step is not None] == [
        "Thought: I look.\nAction: inventory", "Thought: \nAction: get 0 oak logs",
    ]  # fmt: skip
    turns = [turn for message in episode.messages for turn in chat_turns(message, parsed=False)]
    assert turns[: len(second["messages"])] == second["messages"]


@pytest.mark.parametrize(("before", "after"), [("react", "tools"), ("tools", "react"), ("tools", "tools")])
def test_an_episode_goes_on_in_its_own_form_from_a_step_of_another(before: Any, after: Any) -> None:
    env = make("textcraft")
    first = play(env, lambda env, _: ExpertPolicy(env), EpisodeSpec(
        "m", "k", "textcraft", 2, "train", 0, playing=Playing(action_format=before)
    ))  # fmt: skip
    env.reset(options={"task": 2, "split": "train"})
    action = parse_reply(first.messages[3].content, env.card.action_rule).action
    env.step(action or "")
    start = Start(trajectory_id="t", step=1, state=env.snapshot(), messages=first.messages[:5])
    heard: list[Message] = []

    class Listener(Caller):
        def reply(self, turns: list[Message], timeout_s: float) -> PolicyTurn:
            heard.extend(turns)
            return PolicyTurn("Action: inventory")

    play(make("textcraft", max_rounds=2), lambda *_: Listener(), EpisodeSpec(
        "m", "k", "textcraft", 2, "train", 0, playing=Playing(action_format=after), start=start
    ))  # fmt: skip
    text = [message.content.removesuffix(calling.NOTE).rstrip() for message in first.messages[:5]]
    assert [message.content.removesuffix(calling.NOTE).rstrip() for message in heard[:5]] == text
    assert bool(heard[0].tools) == heard[0].content.endswith(calling.NOTE) == (after == "tools")
    assert bool(heard[3].tool_calls) == bool(heard[4].tool_results) == (before == after == "tools")


def test_two_calls_a_step_and_tool_calls_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="calls_per_step is 2 and action_format tools"):
        Playing(action_format="tools", calls_per_step=2)
