"""Thinking while an episode is played: budgets, thoughts apart from content, and what the model is given next."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from atlas_ray.config import Playing
from atlas_ray.environments import registry
from atlas_ray.inference.client import Client
from atlas_ray.inference.transport import Endpoint
from atlas_ray.inference.types import Generation, Reply
from atlas_ray.rollout.episode import play
from atlas_ray.rollout.policy import EndpointPolicy, ModelPolicy
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.trajectory import Episode, Message
from tests.endpoint_server import EndpointServer, Raw
from tests.tokenizers import of_kind

GOAL = Message(role="user", content="Goal: craft oak planks.")


class Scripted:
    """Continues prompts with given texts; keeps what it was asked."""

    def __init__(self, tok: Any, *texts: str) -> None:
        self.tok, self.texts, self.asked = tok, iter(texts), []

    def __call__(self, ids: list[int], **sampling: Any) -> Generation:
        text = next(self.texts)
        self.asked.append((self.tok.decode(ids), sampling["max_tokens"], sampling["stop"]))
        ids_of_text = self.tok(text, add_special_tokens=False)["input_ids"]
        return Generation(ids_of_text, text, True, len(ids), 0)


def policy(template: str, *texts: str, max_len: int = 500, **playing: Any) -> tuple[ModelPolicy, Scripted]:
    tok = of_kind("split", template)
    engine = Scripted(tok, *texts)
    spec = EpisodeSpec("m", "k", "textcraft", 0, "test", 0, playing=Playing(max_new_tokens=20, **playing))
    return ModelPolicy(tok, engine, max_len=max_len, spec=spec), engine


@pytest.mark.parametrize(("template", "begun"), [("qwen3", "<think>\n"), ("r1", ""), ("qwen3-2507", "")])
@pytest.mark.parametrize("thought", ["I need logs.\n", "I need logs.\n</think>\n\nAction: never"])
def test_a_budget_ends_the_thinking_and_leaves_the_answer_its_own_tokens(
    template: str, begun: str, thought: str
) -> None:
    playing, engine = policy(template, thought, "Action: inventory", thinking={"on": True, "max_tokens": 7})
    turn = playing.reply([GOAL], 10.0)
    assert (turn.thinking, turn.text) == ("I need logs.", "Action: inventory")
    (first, tokens, stop), (second, answer_tokens, no_stop) = engine.asked
    assert (tokens, stop, answer_tokens, no_stop) == (7, ["</think>"], 20, None)
    assert first.endswith(f"{begun}" or "<think>\n")
    assert second.endswith("<think>\nI need logs.\n</think>\n\n")
    assert turn.completion_tokens == sum(len(engine.tok(text)["input_ids"]) for text in (thought, "Action: inventory"))


def test_without_a_budget_the_model_thinks_by_itself() -> None:
    playing, engine = policy("qwen3", "<think>\nHm.\n</think>\n\nAction: a", "<think>\nand then", "Action: b", "x")
    assert playing.reply([GOAL], 10.0).thinking == "Hm."
    cut = playing.reply([Message(role="user", content="Seen.")], 10.0)
    assert (cut.thinking, cut.text) == ("and then", "")
    plain = playing.reply([Message(role="user", content="Seen again.")], 10.0)
    assert (plain.thinking, plain.text) == (None, "Action: b")
    playing.reply([GOAL], 10.0)
    assert "Hm." not in engine.asked[-1][0]
    assert "Action: a" in engine.asked[-1][0]


def test_thinking_off_asks_for_none_and_a_budget_has_nothing_to_limit() -> None:
    playing, engine = policy("qwen3", "Action: a", thinking={"on": False, "max_tokens": 7})
    assert playing.reply([GOAL], 10.0).thinking is None
    [(prompt, tokens, stop)] = engine.asked
    assert prompt.endswith("<think>\n\n</think>\n\n")
    assert (tokens, stop) == (20, None)


def test_a_model_without_thinking_is_not_made_to_think_unless_it_is_turned_on() -> None:
    playing, engine = policy("qwen2.5", "Action: a", thinking={"max_tokens": 7})
    assert playing.reply([GOAL], 10.0).text == "Action: a"
    texts = ("Hm.", "Action: a", "Hm again.", "Action: b")
    playing, engine = policy("qwen2.5", *texts, thinking={"on": True, "max_tokens": 7})
    assert playing.reply([GOAL], 10.0).thinking == "Hm."
    playing.reply([Message(role="user", content="Seen.")], 10.0)
    assert "<think>\nHm.\n</think>\n\nAction: a<|im_end|>" in engine.asked[-1][0]  # its history keeps thoughts


def test_two_calls_a_step_come_after_the_thinking() -> None:
    playing, engine = policy("qwen3", "Hm.", " go on\n", " a", calls_per_step=2, thinking={"max_tokens": 7})
    turn = playing.reply([GOAL], 10.0)
    assert (turn.thinking, turn.text) == ("Hm.", "Thought: go on\nAction: a")
    assert engine.asked[-1][0].endswith("<think>\nHm.\n</think>\n\nThought: go on\nAction:")


def test_the_context_must_hold_the_thinking_and_the_answer() -> None:
    tok = of_kind("split", "qwen3")
    turns = [{"role": GOAL.role, "content": GOAL.content}]
    prompt = tok.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    begun = len(tok(prompt + "<think>\n")["input_ids"])
    fits, _ = policy("qwen3", "Hm.", "Action: a", max_len=begun + 27, thinking={"max_tokens": 7})
    assert fits.reply([GOAL], 10.0).text == "Action: a"
    full, _ = policy("qwen3", max_len=begun + 26, thinking={"max_tokens": 7})
    assert full.reply([GOAL], 10.0).text is None


def test_an_episode_keeps_thoughts_beside_the_content_and_acts_on_the_content() -> None:
    texts: Iterator[str] = iter(["<think>\nAction: wrong\n</think>\n\nAction: inventory"] * 3)
    tok = of_kind("split", "qwen3")
    spec = EpisodeSpec(
        "m", "k", "textcraft", 0, "test", 0, options={"max_rounds": 2}, playing=Playing(max_new_tokens=20)
    )
    engine = Scripted(tok, *texts)
    env = registry.make("textcraft", max_rounds=2)
    episode = play(env, lambda _, spec: ModelPolicy(tok, engine, max_len=5000, spec=spec), spec)
    steps = [message for message in episode.messages if message.step is not None]
    assert [(step.thinking, step.content) for step in steps] == [("Action: wrong", "Action: inventory")] * 2
    assert episode.messages[4].content == "Inventory: You are not carrying anything."
    assert Episode.model_validate_json(episode.model_dump_json()) == episode


@pytest.mark.parametrize(
    "said",
    [
        {"content": "Action: a", "reasoning_content": "Hm.\n"}, {"content": "Action: a", "reasoning": "Hm."},
        {"content": "<think>\nHm.\n</think>\n\nAction: a"},
    ],
)  # fmt: skip
def test_the_thinking_of_an_endpoint_is_kept_apart_and_not_sent_back(said: dict[str, str]) -> None:
    def answer(body: dict[str, Any]) -> Any:
        choice = {"message": {"role": "assistant"} | said, "finish_reason": "stop"}
        return Raw(json.dumps({"model": "m", "choices": [choice], "usage": {}}).encode())

    async def complete(url: str, messages: Any, sampling: dict[str, Any]) -> Reply:
        client = Client(
            Endpoint(base_url=url, model="m", key=SecretStr("k")), timeout_s=9, max_retries=0, concurrency=1
        )
        try:
            return await client.complete(messages, **sampling)
        finally:
            await client.close()

    with EndpointServer(answer) as server:

        def ask(messages: Any, *, timeout_s: float, **sampling: Any) -> Reply:
            return asyncio.run(complete(server.url, messages, sampling))

        playing = EndpointPolicy(ask, EpisodeSpec("m", "k", "textcraft", 0, "test", 0))
        for _ in range(2):
            turn = playing.reply([GOAL], 10.0)
            assert (turn.thinking, turn.text) == ("Hm.", "Action: a")
        sent = json.dumps(server.requests[-1]["messages"])
    assert "Action: a" in sent
    assert "Hm." not in sent
