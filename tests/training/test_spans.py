"""Which tokens of a step carry loss: thought, action, or both, weighted apart; golden masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.chat import encode
from atlas_ray.config import TrainConfig
from atlas_ray.errors import DataError, TrainingError
from atlas_ray.react import action_begin
from atlas_ray.training.examples import prepare
from atlas_ray.training.spans import labelled, token_weights
from atlas_ray.trajectory import Message, Trajectory
from tests.tokenizers import TEMPLATES, of_kind, tokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "spans.json"
REPLIES = {
    "plain": "Thought: I need wood — été.\nAction: get 1 oak log",
    "paragraphs": "Thought:\nLook first.\n\nAction:\nlook",
    "no thought": "Action: go north",
    "unlabelled": "take the lamp",
    "thought alone": "Thought: what now?",
    "two labels": "Thought: a\nAction: b\nAction: c",
    "lower case": "thought: a\naction: b",
    "thinks": "<think>\nAction: wait? No.\n</think>\n\nThought: t\nAction: go",
}


def of(reply: str) -> Trajectory:
    said = [("user", "Do it.", None), ("assistant", "Thought: first\nAction: one", 0), ("user", "ok", None)]
    messages = [Message(role=role, content=text, step=step) for role, text, step in said]  # type: ignore[arg-type]
    return Trajectory(
        trajectory_id="t", env="none", item_id="none_0", source="test", n_steps=2,
        messages=(*messages, Message(role="assistant", content=reply, step=1)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        (REPLIES["plain"], "Thought: I need wood — été.\n"),
        (REPLIES["paragraphs"], "Thought:\nLook first.\n\n"),
        (REPLIES["no thought"], ""),
        (REPLIES["unlabelled"], ""),
        (REPLIES["thought alone"], REPLIES["thought alone"]),
        (REPLIES["two labels"], "Thought: a\n"),
        (REPLIES["lower case"], "thought: a\n"),
        (REPLIES["thinks"], "<think>\nAction: wait? No.\n</think>\n\nThought: t\n"),
        ("<think>\nhm\n</think>\n\nlook", "<think>\nhm\n</think>\n\n"),
        ("", ""),
    ],
)
def test_where_the_action_begins(text: str, thought: str) -> None:
    assert text[: action_begin(text)] == thought


def shown(template: str, reply: str, span: str) -> str:
    """The last step's tokens, those that carry loss between brackets."""
    tok = of_kind("split", template) if template == "qwen3" else tokenizer(template)
    subject = of(reply)
    encoded = encode(subject, tok)
    *_, row = encoded
    start, stop = row.spans[1]
    first, last = labelled((start, stop), row.actions[1], TrainConfig(span=span))
    texts = [tok.decode([token]) for token in row.ids[start:stop]]
    return "".join(f"[{text}]" if first <= start + n < last else text for n, text in enumerate(texts))


@pytest.mark.parametrize("template", [*sorted(TEMPLATES), "qwen3"])
def test_golden_masks(template: str) -> None:
    golden = json.loads(GOLDEN.read_text())[template]
    assert {
        name: [shown(template, text, span) for span in ("thought", "action")] for name, text in REPLIES.items()
    } == golden


@pytest.mark.parametrize("kind", ["metaspace", "prepend", "wordpiece", "unigram", "byte-level", "split"])
def test_in_every_kind_of_tokenizer_the_end_of_turn_token_is_the_actions(kind: str) -> None:
    tok = of_kind(kind, "zephyr")
    for reply in REPLIES.values():
        [row] = encode(of(reply), tok)
        start, stop = row.spans[1]
        assert start <= row.actions[1] < stop
        action = tok.decode(row.ids[row.actions[1] : stop])
        is_labelled = "Action:" in reply
        assert action.replace(" ", "").lower().startswith("action:") == (is_labelled or reply == REPLIES["lower case"])


@settings(deadline=None)  # the machine may be busy
@given(
    start=st.integers(1, 5), thought=st.integers(0, 6), action=st.integers(1, 6), weight=st.floats(0.01, 1),
    span=st.sampled_from(["both", "thought", "action"]), share=st.floats(0.1, 3),
    loss=st.sampled_from(["token_mean", "step_mean"]),
)  # fmt: skip
def test_thought_and_action_are_weighted_apart(
    start: int, thought: int, action: int, weight: float, span: str, share: float, loss: str
) -> None:
    options = TrainConfig(span=span, thought_weight=share, loss=loss)
    place, end = start + thought, start + thought + action
    first, last = labelled((start, end), place, options)
    if first == last:
        assert (span, thought) == ("thought", 0)
        return
    weights = token_weights((start, end), place, weight, options)
    expected = {
        "both": [share] * thought + [1.0] * action,
        "thought": [1.0] * thought + [0.0] * action,
        "action": [0.0] * thought + [1.0] * action,
    }[span]
    total = sum(expected) if loss == "step_mean" else 1.0
    assert weights == pytest.approx([weight * each / total for each in expected])
    assert [bool(each) for each in weights] == [first <= n < last for n in range(start, end)]


@pytest.mark.parametrize("span", ["both", "thought", "action"])
def test_examples_hold_the_labels_of_the_span_and_end_with_the_last(span: str) -> None:
    tok, subject = tokenizer("chatml"), of(REPLIES["plain"])
    [row] = encode(subject, tok)
    [example], report = prepare([subject], {"t": {0: 0.5, 1: 1.0}}, tok, TrainConfig(span=span, thought_weight=0.25))
    weights = np.zeros(len(row.ids), dtype=np.float32)
    for step, weight in ((0, 0.5), (1, 1.0)):
        (start, stop), action = row.spans[step], row.actions[step]
        if span != "action":
            weights[start:action] = weight * (0.25 if span == "both" else 1)
        if span != "thought":
            weights[action:stop] = weight
    end = int(np.flatnonzero(weights)[-1]) + 1
    assert example.ids.tolist() == row.ids[:end]
    assert example.weights.tolist() == weights[:end].tolist()
    assert report.end_tokens == (0 if span == "thought" else 2)
    assert (report.critical_steps, report.unlabelled_steps, report.dropped_steps) == (2, 0, 0)


def test_steps_without_a_thought_are_counted_and_left_out() -> None:
    tok, subject = tokenizer("chatml"), of(REPLIES["no thought"])
    options = TrainConfig(span="thought")
    _, report = prepare([subject], {"t": {0: 1.0, 1: 1.0}}, tok, options)
    assert (report.critical_steps, report.unlabelled_steps, report.dropped_steps) == (1, 1, 0)
    assert "1 critical steps have no thought to learn from" in str(report)
    with pytest.raises(TrainingError, match="1 critical steps have no thought; change train.span"):
        prepare([subject], {"t": {1: 1.0}}, tok, options)
    with pytest.raises(DataError, match="too small for fp32"):
        prepare([subject], {"t": {0: 1.0}}, tok, TrainConfig(thought_weight=1e-60))


def test_the_warm_up_learns_whole_steps() -> None:
    options = TrainConfig(span="action", thought_weight=0.5, warmup={"fraction": 0.5}).for_warmup()
    assert (options.span, options.thought_weight) == ("both", 1.0)
