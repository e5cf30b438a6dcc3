"""Models that think: what they see before each step and what they write there, with thoughts, without, and mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.chat import Conversation, encode, encode_all, loss_mask
from atlas_ray.chat.thinking import split
from atlas_ray.errors import DataError
from atlas_ray.models import TEMPLATE_DATE
from atlas_ray.trajectory import Message, Trajectory
from tests.chat.talk import REPLIES, make
from tests.tokenizers import KINDS, THINKS, of_kind

THOUGHTS = ["I need logs.\nThen planks.", "Now 4 planks; Action: none yet.", "Look at what I have."]
MIXED = [THOUGHTS[0], None, THOUGHTS[2]]
FIRST = [THOUGHTS[0], None, None]
BYTE_KINDS = ("byte-level", "split")
KEEPING = {"qwen2.5": "<|im_end|>", "llama31": "<|eot_id|>", "mistral": "</s>", "gemma3": "<end_of_turn>"}
"""Templates that know no thinking, and how they end a turn."""


def fresh(tok: Any, messages: Sequence[Message], *, thinks: bool | None, header: bool = False) -> str:
    """The conversation as a chat server would render it from messages with their reasoning apart."""
    turns = [
        {"role": each.role, "content": each.content}
        | ({} if each.thinking is None or thinks is False else {"reasoning_content": each.thinking})
        for each in messages
    ]
    switch = {} if thinks is None else {"enable_thinking": thinks}
    return str(
        tok.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=header, strftime_now=TEMPLATE_DATE.strftime, **switch
        )
    )


def ids_of(tok: Any, text: str) -> list[int]:
    ids: list[int] = tok(text, add_special_tokens=False)["input_ids"]
    return ids


def written(template: str, thought: str | None, content: str, *, on: bool) -> str:
    """A reply as the makers of the models document it."""
    if template == "glm":
        return f"\n<think>{thought or ''}</think>\n{content}<|user|>" if on else f"\n{content}<|user|>"
    if template == "qwen3":
        return f"<think>\n{thought or ''}\n</think>\n\n{content}<|im_end|>" if on else f"{content}<|im_end|>"
    end = {"r1": "</s>", "qwen3-2507": "<|im_end|>", "qwen3.5": "<|im_end|>"}[template]
    if template == "qwen3.5" and not on:
        return f"{content}{end}"
    return f"{thought}\n</think>\n\n{content}{end}" if thought else f"</think>\n\n{content}{end}"


def check(tok: Any, trajectory: Trajectory, template: str, *, thinks: bool | None) -> None:
    """Every step stands after the ids of a fresh rendering, and is what the model writes there."""
    rows = list(encode(trajectory, tok, thinks=thinks))
    for index, message in enumerate(trajectory.messages):
        if message.step is None:
            continue
        [row] = [row for row in rows if message.step in row.spans]
        start, stop = row.spans[message.step]
        prompt = fresh(tok, trajectory.messages[:index], thinks=thinks, header=True)
        reply = written(template, message.thinking, message.content, on=thinks is not False)
        assert row.ids[:start] == ids_of(tok, prompt)
        assert row.ids[:stop] == ids_of(tok, prompt + reply)
        if template.startswith("qwen3"):  # which show the last turn as it was written
            shown = fresh(tok, trajectory.messages[: index + 1], thinks=thinks)
            assert row.ids[:stop] == ids_of(tok, shown.removesuffix("\n"))


@pytest.mark.parametrize("thoughts", [THOUGHTS, MIXED, FIRST], ids=["thoughts", "mixed", "first"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", THINKS)
def test_steps_have_the_ids_of_a_fresh_rendering(template: str, kind: str, thoughts: list[str | None]) -> None:
    if template in ("qwen3-2507", "qwen3.5") and thoughts is not THOUGHTS:
        pytest.skip("its template writes an empty thought that its tokens do not: see below")
    tok, trajectory = of_kind(kind, template), make(thoughts=thoughts)
    check(tok, trajectory, template, thinks=None)
    encoded = encode(trajectory, tok)
    trunk = tok.decode(encoded.ids[: encoded.paths[-1].end]).lower()  # as WordPiece has it
    assert "then planks" not in trunk  # an earlier thought
    assert trunk.count("look at what i have") == (thoughts[2] is not None)
    assert len(encoded.ids) < sum(len(row.ids) for row in encoded)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", ["qwen3", "qwen3.5", "glm"])
def test_thinking_off_shows_and_writes_none(template: str, kind: str) -> None:
    tok, trajectory = of_kind(kind, template), make(thoughts=MIXED)
    check(tok, trajectory, template, thinks=False)
    assert encode(trajectory, tok, thinks=False) == encode(make(), tok, thinks=False)
    if template != "qwen3.5":  # see below
        assert encode(trajectory, tok, thinks=True) == encode(trajectory, tok)


def test_thinking_off_ends_what_a_prompt_without_a_switch_begins() -> None:
    tok = of_kind("split", "r1")
    encoded = encode(make(thoughts=MIXED), tok, thinks=False)
    for row, reply in zip(encoded, REPLIES, strict=True):
        [(start, stop)] = row.spans.values()
        assert tok.decode(row.ids[:start]).endswith("<think>\n")
        assert tok.decode(row.ids[start:stop]) == f"</think>\n\n{reply}</s>"


@pytest.mark.parametrize("template", KEEPING)
def test_a_template_that_knows_no_thinking_gives_one_path_with_the_thoughts_in_the_text(template: str) -> None:
    tok, trajectory = of_kind("byte-level", template), make(thoughts=MIXED)
    encoded = encode(trajectory, tok)
    assert len(encoded.paths) == 1
    for reply, thought, (start, stop) in zip(REPLIES, MIXED, encoded.spans, strict=True):
        before = "" if thought is None else f"<think>\n{thought}\n</think>\n\n"
        assert tok.decode(encoded.ids[start:stop]).lstrip(" ") == before + reply + KEEPING[template]
    assert encode(trajectory, tok, thinks=False) == encode(make(), tok)


def test_thinking_may_stand_in_the_content_as_well() -> None:
    apart = make(thoughts=THOUGHTS)
    inside = make([f"<think>\n{one}\n</think>\n\n{reply}" for one, reply in zip(THOUGHTS, REPLIES, strict=True)])
    for template in THINKS:
        assert encode(inside, of_kind("split", template)) == encode(apart, of_kind("split", template))


@pytest.mark.parametrize("kind", BYTE_KINDS)
def test_the_analysis_of_harmony_is_its_thinking(kind: str) -> None:
    tok, trajectory = of_kind(kind, "harmony"), make(thoughts=MIXED)
    rows = list(encode(trajectory, tok))
    for index, message in enumerate(trajectory.messages):
        if message.step is not None:
            [row] = [row for row in rows if message.step in row.spans]
            start, stop = row.spans[message.step]
            assert row.ids[:start] == ids_of(tok, fresh(tok, trajectory.messages[:index], thinks=None, header=True))
            analysis = f"<|channel|>analysis<|message|>{message.thinking}<|end|><|start|>assistant"
            final = f"<|channel|>final<|message|>{message.content}<|return|>"
            assert tok.decode(row.ids[start:stop]) == (analysis if message.thinking else "") + final
            assert THOUGHTS[0] not in tok.decode(row.ids[:start])


def test_an_empty_thought_that_the_prompt_would_swallow_is_refused_with_the_reason() -> None:
    with pytest.raises(DataError, match=r"joins the end of the prompt .*<think>\\n' and the start of the step"):
        encode(make(), of_kind("split", "qwen3-2507"))


def test_the_end_of_turn_is_a_label_and_the_thought_ends_before_the_action() -> None:
    for template in THINKS:
        tok = of_kind("split", template)
        encoded = encode(make(thoughts=THOUGHTS), tok)
        mask = loss_mask(encoded, range(3))
        for row, (start, stop) in zip(encoded, encoded.spans, strict=True):
            assert mask[stop - 1]
            assert tok.decode(encoded.ids[stop - 1]) in ("<|im_end|>", "</s>", "<|user|>")
            [(step, action)] = row.actions.items()
            assert tok.decode(row.ids[action:]).startswith(REPLIES[step][REPLIES[step].index("Action:") :][:8])
            assert "</think>" in tok.decode(row.ids[row.spans[step][0] : action])
            assert stop - start == row.spans[step][1] - row.spans[step][0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", THINKS)
def test_inference_sees_the_prompts_of_training_and_keeps_thoughts_apart(template: str, kind: str) -> None:
    tok, trajectory = of_kind(kind, template), make(thoughts=THOUGHTS)
    rows = {step: (row.ids, span) for row in encode(trajectory, tok) for step, span in row.spans.items()}
    conversation = Conversation(tok)
    for message in trajectory.messages:
        if message.step is None:
            conversation.add(message)
            continue
        ids, (start, stop) = rows[message.step]
        prompt = conversation.prompt()
        assert prompt == ids[:start]
        reply = written(template, message.thinking, message.content, on=True)
        assert conversation.parts(reply[: reply.rindex("<")]) == (message.thinking, message.content)
        # as with a budget: the thinking is begun and ended for the model, in the tokens that training shows
        begun = conversation.opening_of_thinking()
        ended = conversation.opening("", message.thinking)
        assert ids[: start + len(begun)] == prompt + begun
        assert ids[: start + len(ended)] == prompt + ended
        conversation.reply(message.content, ids[start:stop], message.thinking)
        assert conversation.ids == ids[:stop]


text = st.text(st.characters(exclude_categories=("Cs",)), max_size=30).filter(lambda t: "<" not in t and "[" not in t)
turns_ = st.lists(st.tuples(text, st.none() | text, text.filter(str.strip)), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(KINDS), template=st.sampled_from(["qwen3", "r1", "glm"]), turns=turns_)
def test_any_text_gives_trees_whose_rows_are_those_of_inference(
    kind: str, template: str, turns: list[tuple[str, str | None, str]]
) -> None:
    tok = of_kind(kind, template)
    trajectory = make(
        [reply for *_, reply in turns], [observation for observation, *_ in turns], thoughts=[t for _, t, _ in turns]
    )
    [encoded] = encode_all([trajectory], tok)
    if isinstance(encoded, DataError):
        assert "the tokenizer joins the end of the prompt" in str(encoded)
        return
    rows = list(encoded)
    for index, message in enumerate(trajectory.messages):
        if message.step is not None:
            [row] = [row for row in rows if message.step in row.spans]
            start, _ = row.spans[message.step]
            assert row.ids[:start] == ids_of(tok, fresh(tok, trajectory.messages[:index], thinks=None, header=True))


def test_split() -> None:
    assert split("Action: x") == (None, "Action: x")
    assert split("<think>\na\n</think>\n\nAction: x") == ("a", "Action: x")
    assert split("a\n</think>\n\nAction: x", opened=True) == ("a", "Action: x")
    assert split("<think>\nand then", opened=False) == ("and then", "")
    assert split("and then", opened=True) == ("and then", "")
    assert split("see </think> there") == (None, "see </think> there")
