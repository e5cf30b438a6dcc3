"""Token ids, spans and masks: every kind of tokenizer with the chat templates of the model families."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from atlas_ray.chat import Encoded, encode, encode_all, end_of_turn, loss_mask
from atlas_ray.errors import DataError, ModelError
from atlas_ray.models import TEMPLATE_DATE
from atlas_ray.trajectory import Message, Trajectory
from tests.chat.talk import OBSERVATIONS, REPLIES, as_chat, make, raw
from tests.tokenizers import KEEPS_HISTORY, KINDS, MISTRAL3, QWEN3, R1, REWRITES_HISTORY, TEMPLATES, of_kind, tokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "masks.json"
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40).filter(lambda t: "<" not in t and "[" not in t)
turns = st.lists(st.tuples(text, text.filter(str.strip)), min_size=1, max_size=4)


def ids_of(tok: Any, messages: Any, *, header: bool = False) -> list[int]:
    """What an engine would be given: the template rendered anew and tokenised as a whole."""
    chat = tok.apply_chat_template(
        as_chat(messages), tokenize=False, add_generation_prompt=header, strftime_now=TEMPLATE_DATE.strftime
    )
    ids: list[int] = tok(chat, add_special_tokens=False)["input_ids"]
    return ids


def check(tok: Any, trajectory: Trajectory, encoded: Encoded, *, whole: bool) -> None:
    """Each step stands after exactly what inference would show; with `whole`, in the ids of the whole rendering."""
    if whole:
        last = max(index for index, message in enumerate(trajectory.messages) if message.step is not None)
        full = ids_of(tok, trajectory.messages[: last + 1])
        assert encoded.paths == [(0, 0, len(encoded.ids))]
        assert full[: len(encoded.ids)] == encoded.ids
    rows = list(encoded)
    for index, message in enumerate(trajectory.messages):
        if message.step is None:
            continue
        [(ids, (start, stop))] = [(row.ids, row.spans[message.step]) for row in rows if message.step in row.spans]
        assert ids[:start] == ids_of(tok, trajectory.messages[:index], header=True)
        assert tok.decode(ids[stop - 1]) == end_of_turn(tok)
        assert ids[start:stop].count(ids[stop - 1]) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", KEEPS_HISTORY)
def test_ids_are_those_of_the_whole_rendering(template: str, kind: str) -> None:
    tok, trajectory = of_kind(kind, template), make()
    if (template, kind) == ("vicuna", "prepend"):  # it has a token of the header's ":" and the space after it
        with pytest.raises(DataError, match="joins the end of the prompt"):
            encode(trajectory, tok)
        return
    encoded = encode(trajectory, tok)
    check(tok, trajectory, encoded, whole=True)
    assert len(encoded.spans) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", REWRITES_HISTORY)
def test_a_template_that_rewrites_history_gives_each_step_a_row_of_its_own(template: str, kind: str) -> None:
    tok, trajectory = of_kind(kind, template), make()
    encoded = encode(trajectory, tok)
    check(tok, trajectory, encoded, whole=False)
    trunk = encoded.paths[-1]
    assert trunk == (0, 0, encoded.paths[0].begin)
    assert [path.end for path in encoded.paths] == [end for _, end in encoded.spans]
    assert all(0 < path.shared < trunk.end for path in encoded.paths[:-1])


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(KINDS), template=st.sampled_from(sorted(KEEPS_HISTORY | REWRITES_HISTORY)), turns=turns)
def test_any_text_is_tokenised_as_at_inference_or_refused_with_the_reason(
    kind: str, template: str, turns: list[tuple[str, str]]
) -> None:
    tok = of_kind(kind, template)
    trajectory = make([reply for _, reply in turns], [observation for observation, _ in turns])
    [encoded] = encode_all([trajectory], tok)
    if isinstance(encoded, DataError):
        assert "trajectory t: the tokenizer joins the end of the prompt" in str(encoded)
    else:
        check(tok, trajectory, encoded, whole=template in KEEPS_HISTORY)


@settings(max_examples=60, deadline=None)
@given(template=st.sampled_from(sorted(TEMPLATES)), turns=turns)
def test_spans_hold_exactly_the_replies_and_their_end_of_turn(template: str, turns: list[tuple[str, str]]) -> None:
    tok = tokenizer(template)
    replies = [reply.lstrip() for _, reply in turns]
    encoded = encode(make(replies, [observation for observation, _ in turns]), tok)
    end = end_of_turn(tok)
    for reply, (start, stop) in zip(replies, encoded.spans, strict=True):
        content = tok.decode(encoded.ids[start:stop])
        assert content.endswith(end)
        assert content.removesuffix(end).strip() == reply.strip()
    assert encoded.spans[-1][1] == len(encoded.ids)


def test_a_step_begins_without_the_space_that_sentencepiece_puts_before_a_text() -> None:
    """A Metaspace tokenizer whose template ends the header with a line break."""
    tok = of_kind("metaspace", "chatml")
    encoded = encode(make(), tok)
    for reply, (start, _) in zip(REPLIES, encoded.spans, strict=True):
        first = tok.convert_ids_to_tokens(encoded.ids[start])
        assert not first.startswith("▁")
        assert reply.startswith(first)


def test_a_tokenizer_that_does_not_tell_where_its_tokens_come_from() -> None:
    tok = ByT5Tokenizer(chat_template=KEEPS_HISTORY["zephyr"])
    assert not tok.is_fast
    encoded = encode(make(), tok)
    check(tok, make(), encoded, whole=True)
    assert [tok.decode(encoded.ids[start : stop - 1]) for start, stop in encoded.spans] == REPLIES


def test_a_token_across_the_start_of_a_step_is_refused_with_the_reason() -> None:
    joining = of_kind("metaspace", "chatml", texts=("assistant\nThought: assistant\nThought: ",) * 50)
    with pytest.raises(DataError, match=r"trajectory t: the tokenizer joins .*'.*assistant\\n' and .* 'Thought"):
        encode(make(), joining)
    with pytest.raises(DataError, match="remove white space at the start of the step"):
        encode(make(["\n\n\nAction: x"], ["o"]), of_kind("split", "chatml"))


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_golden_masks(template: str) -> None:
    encoded = encode(
        make(["Thought: one\nAction: get 1 oak logs", "Action: inventory"], ["Goal: x.", "Got 1"]), tokenizer(template)
    )
    mask = loss_mask(encoded, [1])
    shown = "".join(f"[{tokenizer(template).decode([t])}]" if label else tokenizer(template).decode([t])
                    for t, label in zip(encoded.ids, mask, strict=True))  # fmt: skip
    assert shown == json.loads(GOLDEN.read_text())[template]


@given(template=st.sampled_from(sorted(TEMPLATES)), chosen=st.sets(st.integers(0, 3)))
def test_a_mask_is_the_union_of_its_spans(template: str, chosen: set[int]) -> None:
    encoded = encode(make(["a b", "c", "d e f", "g"], ["o"] * 4), tokenizer(template))
    mask = loss_mask(encoded, chosen)
    for step, (start, end) in enumerate(encoded.spans):
        assert all(mask[start:end]) if step in chosen else not any(mask[start:end])
    assert sum(mask) == sum(encoded.spans[step][1] - encoded.spans[step][0] for step in chosen)


def test_qwen3_shows_a_step_its_own_thought_and_no_earlier_one() -> None:
    tok = of_kind("split", QWEN3)
    replies = ["<think>\nI need logs.\n</think>\n\nAction: get 1 oak logs", "Action: inventory"]
    trajectory = make(replies, OBSERVATIONS[:2])
    encoded = encode(trajectory, tok)
    check(tok, trajectory, encoded, whole=False)
    (first, first_spans, _), (second, second_spans, _) = encoded
    start, stop = first_spans[0]
    assert tok.decode(first[start:stop]) == replies[0] + "<|im_end|>"
    start, stop = second_spans[1]
    assert tok.decode(second[start:stop]) == "<think>\n\n</think>\n\nAction: inventory<|im_end|>"
    assert "I need logs." not in tok.decode(second)
    assert "Action: get 1 oak logs<|im_end|>" in tok.decode(second[:start])


def test_a_system_turn_that_only_the_last_user_turn_shows_is_shown_at_each_step() -> None:
    tok = of_kind("byte-level", MISTRAL3)
    trajectory = make(system="Be brief.")
    encoded = encode(trajectory, tok)
    check(tok, trajectory, encoded, whole=False)
    for (ids, spans, _), reply in zip(encoded, REPLIES, strict=True):
        [(start, stop)] = spans.values()
        assert tok.decode(ids[:start]).count("Be brief.") == 1
        assert tok.decode(ids[start:stop]) == f" {reply}</s>"
    assert len(encode(make(), tok).paths) == 1


def test_the_clock_stands_still() -> None:
    tok = of_kind("byte-level", "llama31")
    first, again = encode(make(), tok), encode(make(), tok)  # the template shows seconds
    assert first == again
    assert TEMPLATE_DATE.strftime("Today Date: %d %b %Y %H:%M:%S") in tok.decode(first.ids)


def test_bad_trajectories_cost_the_others_nothing() -> None:
    good = make(name="good")
    twice = raw([Message(role="user", content="a"), *good.messages], name="twice")
    begun = raw(good.messages[1:], name="begun")
    told = make(name="told", system="Be brief.")
    rows = list(encode_all([good, twice, begun, told, make([], [], name="none"), good], of_kind("split", "gemma")))
    assert isinstance(rows[0], Encoded)
    assert rows[0] == rows[5]
    assert [str(row).split(": ")[0] for row in rows[1:5]] == [
        "trajectory twice", "trajectory begun", "trajectory told", "trajectory none"
    ]  # fmt: skip
    assert "must alternate" in str(rows[1])
    assert "messages 0 and 1 are both the user's" in str(rows[1])
    assert "it begins with the assistant" in str(rows[2])
    assert "System role not supported (it has a system turn)" in str(rows[3])
    assert "it has no step" in str(rows[4])


def test_batches_give_what_single_trajectories_give() -> None:
    tok = of_kind("prepend", "qwen3")
    trajectories = [make(REPLIES[:n], OBSERVATIONS[:n], name=f"{n}") for n in (1, 2, 3)] * 100
    assert list(encode_all(trajectories, tok)) == [encode(each, tok) for each in trajectories[:3]] * 100


def test_control_tokens_in_texts_are_counted_and_a_second_stop_in_a_step_is_refused() -> None:
    tok = of_kind("split", "qwen3")
    counted = encode(make(["Action: a", "Action: b"], ["see <|im_end|> and <|im_end|>", "see [INST]"]), tok)
    assert counted.controls == {"<|im_end|>": 2, "[INST]": 1}
    assert not encode(make(["Action: x [1] < 2"], ["<b>bold</b> [link]"]), tok).controls
    for stop in ("<|im_end|>", "<|endoftext|>", "</s>"):
        with pytest.raises(DataError, match=r"trajectory t: step 1 contains the control token .*; remove it"):
            encode(make(["Action: a", f"Action: b{stop}"], ["o", "p"]), tok)


def test_a_template_that_asks_for_a_reply_otherwise_than_it_writes_it_is_refused_with_the_reason() -> None:
    aside = R1.replace("<|Assistant|><think>\n", "<|Assistant|><|start|>")
    with pytest.raises(DataError, match=r"asks for a reply after '<\|start\|>', but does not write that before"):
        encode(make(), of_kind("split", aside))


def test_unusable_templates_are_refused_for_what_they_lack() -> None:
    endless = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    with pytest.raises(ModelError, match="no special token"):
        encode(make(), tokenizer(endless))
    headless = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    )
    with pytest.raises(ModelError, match=r"ignores add_generation_prompt: .*'<\|im_start\|>assistant\\n'"):
        encode(make(), tokenizer(headless))
    shouting = "{% for m in messages %}{{ m['content'] | upper + '<|im_end|>' }}{% endfor %}"
    with pytest.raises(DataError, match="changes the assistant's text 'Action: x'"):
        encode(make(["Action: x"], ["o"]), tokenizer(shouting))
    with pytest.raises(ModelError, match="never.*cannot be used at all"):
        encode(make(), tokenizer("{{ raise_exception('never') }}"))


def test_no_step_and_step_out_of_range_are_refused() -> None:
    with pytest.raises(DataError, match="no step"):
        encode(make([], []), tokenizer("chatml"))
    with pytest.raises(DataError, match="out of range"):
        loss_mask(encode(make(["a"], ["o"]), tokenizer("chatml")), [1])
