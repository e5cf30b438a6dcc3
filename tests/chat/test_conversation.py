"""Conversations at inference: what a model is given is what training shows it."""

from __future__ import annotations

import pytest

from atlas_ray.chat import Conversation, encode
from atlas_ray.trajectory import Message
from tests.chat.talk import OBSERVATIONS, as_chat, make
from tests.tokenizers import KEEPS_HISTORY, KINDS, REWRITES_HISTORY, of_kind, tokenizer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", [*KEEPS_HISTORY, *REWRITES_HISTORY])
def test_inference_sees_the_prompt_that_training_saw(template: str, kind: str) -> None:
    if (template, kind) == ("vicuna", "prepend"):
        pytest.skip("training refuses this pair")
    tok = of_kind(kind, template)
    trajectory = make()
    rows = {step: (row.ids, span) for row in encode(trajectory, tok) for step, span in row.spans.items()}
    conversation = Conversation(tok)
    for message in trajectory.messages:
        if message.step is None:
            conversation.add(message)
            continue
        ids, (start, stop) = rows[message.step]
        assert conversation.prompt() == ids[:start]
        conversation.reply(message.content, ids[start:stop])
        assert conversation.ids == ids[:stop]


def test_a_conversation_that_begins_with_an_experts_steps_is_tokenised_as_a_whole() -> None:
    tok, trajectory = of_kind("metaspace", "chatml"), make()
    encoded, conversation = encode(trajectory, tok), Conversation(tok)
    for message in trajectory.messages[:-1]:
        conversation.add(message)
    assert conversation.prompt() == encoded.ids[: encoded.spans[-1][0]]


def test_a_generated_turn_keeps_its_tokens_and_gets_an_end() -> None:
    tok = tokenizer("chatml")
    conversation = Conversation(tok)
    conversation.add(Message(role="user", content="hi"))
    before = list(conversation.prompt())
    odd = [token for letter in "get" for token in tok(letter)["input_ids"]]  # not how "get" would be tokenised
    assert odd != tok("get")["input_ids"]
    conversation.reply("get", odd)
    kept = before + odd + tok("<|im_end|>")["input_ids"]
    assert conversation.ids == kept
    conversation.add(Message(role="user", content=OBSERVATIONS[0]))
    assert conversation.prompt()[: len(kept)] == kept


def test_a_reply_that_the_template_shows_otherwise_is_given_as_the_template_shows_it() -> None:
    shouting = (
        "{% for m in messages %}{{ '<|im_start|>' + (m['content'] | upper if loop.index0 == 1 else m['content']) "
        "+ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}"
    )
    tok = tokenizer(shouting.replace("loop.index0 == 1", "m['content'] == 'get'"))
    conversation = Conversation(tok)
    conversation.add(Message(role="user", content="hi"))
    conversation.prompt()
    conversation.reply("get", tok("get")["input_ids"])
    conversation.add(Message(role="user", content="more"))
    assert (
        tok.decode(conversation.prompt())
        == "<|im_start|>hi<|im_end|><|im_start|>GET<|im_end|><|im_start|>more<|im_end|><|im_start|>"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", ["chatml", "mistral", "qwen3", "phi3"])
def test_a_beginning_that_is_written_for_the_model_has_its_tokens_in_context(template: str, kind: str) -> None:
    tok, conversation = of_kind(kind, template), Conversation(of_kind(kind, template))
    for message in make().messages[:3]:
        conversation.add(message)
    head = conversation.prompt() + conversation.opening("Thought:")
    chat = tok.apply_chat_template(as_chat(conversation.messages), tokenize=False, add_generation_prompt=True)
    before = {"mistral": " ", "qwen3": "<think>\n\n</think>\n\n"}.get(template, "")
    assert head == tok(f"{chat}{before}Thought:", add_special_tokens=False)["input_ids"]
