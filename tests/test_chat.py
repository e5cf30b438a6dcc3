"""Token ids, spans and masks, over the chat templates of three model families."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.chat import Conversation, encode, end_of_turn, loss_mask, main
from atlas_ray.errors import DataError, ModelError
from atlas_ray.store import Store
from atlas_ray.trajectory import Message, Selection, Trajectory
from tests.tokenizers import FORGETFUL, TEMPLATES, tokenizer

GOLDEN = Path(__file__).parent / "golden" / "masks.json"
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=60).filter(lambda t: "<" not in t and "[" not in t)
templates = st.sampled_from(sorted(TEMPLATES))


def make(replies: list[str], observations: list[str]) -> Trajectory:
    turns = [Message(role="user", content="Do the task."), Message(role="assistant", content="OK.")]
    for step, (observation, reply) in enumerate(zip(observations, replies, strict=True)):
        turns += [Message(role="user", content=observation), Message(role="assistant", content=reply, step=step)]
    return Trajectory(
        trajectory_id="t", env="e", item_id="e_0", source="test", messages=tuple(turns), n_steps=len(replies)
    )


@settings(max_examples=60, deadline=None)
@given(template=templates, turns=st.lists(st.tuples(text, text.filter(str.strip)), min_size=1, max_size=5))
def test_spans_hold_exactly_the_replies_and_their_end_of_turn(template, turns):
    tok = tokenizer(template)
    trajectory = make([reply for _, reply in turns], [observation for observation, _ in turns])
    encoded = encode(trajectory, tok)
    end = end_of_turn(tok)
    for (_, reply), (start, stop) in zip(turns, encoded.spans, strict=True):
        content = tok.decode(encoded.ids[start:stop])
        assert content.endswith(end)
        assert content.removesuffix(end).strip() == reply.strip()
    assert encoded.spans[-1][1] == len(encoded.ids)


@settings(max_examples=60, deadline=None)
@given(template=templates, turns=st.lists(st.tuples(text, text.filter(str.strip)), min_size=1, max_size=5))
def test_the_text_of_all_tokens_is_the_whole_rendering(template, turns):
    tok = tokenizer(template)
    trajectory = make([reply for _, reply in turns], [observation for observation, _ in turns])
    chat = [{"role": message.role, "content": message.content} for message in trajectory.messages]
    whole = tok.apply_chat_template(chat, tokenize=False)
    assert whole.startswith(tok.decode(encode(trajectory, tok).ids))


@given(template=templates, chosen=st.sets(st.integers(0, 3)))
def test_a_mask_is_the_union_of_its_spans(template, chosen):
    encoded = encode(make(["a b", "c", "d e f", "g"], ["o"] * 4), tokenizer(template))
    mask = loss_mask(encoded, chosen)
    for step, (start, end) in enumerate(encoded.spans):
        assert all(mask[start:end]) if step in chosen else not any(mask[start:end])
    assert sum(mask) == sum(encoded.spans[step][1] - encoded.spans[step][0] for step in chosen)


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_inference_sees_the_prompt_that_training_saw(template):
    """What a model is given before each of its turns is a prefix of the training ids, token for token."""
    tok = tokenizer(template)
    trajectory = make(
        ["Thought: t\nAction: get 1 oak logs", "Action: craft"], ["Goal: craft oak planks.", "Got 1 oak logs"]
    )
    encoded = encode(trajectory, tok)
    conversation, step = Conversation(tok), 0
    for message in trajectory.messages:
        if message.step is None:
            conversation.add(message)
            continue
        prompt = list(conversation.prompt())
        start, end = encoded.spans[step]
        assert prompt == encoded.ids[:start]
        conversation.reply(message.content, encoded.ids[start:end])
        step += 1
    assert conversation.ids == encoded.ids


def test_a_generated_turn_keeps_its_tokens_and_gets_an_end():
    tok = tokenizer("chatml")
    conversation = Conversation(tok)
    conversation.add(Message(role="user", content="hi"))
    before = list(conversation.prompt())
    odd = [token for letter in "get" for token in tok(letter)["input_ids"]]  # not how "get" would be tokenised
    assert odd != tok("get")["input_ids"]
    conversation.reply("get", odd)
    assert conversation.ids == before + odd + tok("<|im_end|>")["input_ids"]


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_golden_masks(template):
    encoded = encode(
        make(["Thought: one\nAction: get 1 oak logs", "Action: inventory"], ["Goal: x.", "Got 1"]), tokenizer(template)
    )
    mask = loss_mask(encoded, [1])
    shown = "".join(f"[{tokenizer(template).decode([t])}]" if label else tokenizer(template).decode([t])
                    for t, label in zip(encoded.ids, mask, strict=True))  # fmt: skip
    assert shown == json.loads(GOLDEN.read_text())[template]


def test_a_template_that_rewrites_history_is_refused():
    with pytest.raises(ModelError, match="rewrites earlier turns"):
        encode(make(["a", "b"], ["o", "p"]), tokenizer(FORGETFUL))


def test_a_template_without_an_end_of_turn_is_refused():
    endless = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    with pytest.raises(ModelError, match="no special token"):
        encode(make(["a"], ["o"]), tokenizer(endless))


def test_no_step_and_step_out_of_range_are_refused():
    with pytest.raises(DataError, match="no step"):
        encode(make([], []), tokenizer("chatml"))
    with pytest.raises(DataError, match="out of range"):
        loss_mask(encode(make(["a"], ["o"]), tokenizer("chatml")), [1])


def test_the_command_shows_a_trajectory_that_the_selection_has(tmp_path, tiny_model, monkeypatch, capsys):
    store = Store(str(tmp_path / "run"))
    several = [make(["a", "b"], ["o", "p"]).model_copy(update={"trajectory_id": key}) for key in "uvw"]
    store.write_trajectories(several)
    rows = [{"trajectory_id": "u", "error": "invalid: x"}, {"trajectory_id": "v", "steps": (1,)}]
    store.write_selections("mine", [Selection(method="random", ratio=0.5, **row) for row in rows])

    def show(*options):
        monkeypatch.setattr(sys, "argv", ["chat", "--show", store.url, "--model", tiny_model, *options])
        main()
        return " ".join(capsys.readouterr().out.split())

    assert show("--selection", "mine").endswith("tokens carry loss, steps [1] of 2 (mine)")
    assert "u: " in show()
    with pytest.raises(SystemExit, match="no 'w' in the selection 'mine'; the first is 'v'"):
        show("--selection", "mine", "--id", "w")
