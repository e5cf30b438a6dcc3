"""The view of a trajectory with its labels."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from atlas_ray.chat.show import main, marked
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection
from tests.chat.talk import make
from tests.tokenizers import tokenizer


def test_labels_are_marked_with_and_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    tok = tokenizer("chatml")
    ids = tok("Goal: craft", add_special_tokens=False)["input_ids"]
    labels = [False] * len(ids) + [True] * len(own := tok("get<|im_end|>", add_special_tokens=False)["input_ids"])
    ids += own
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;30;42mget<|im_end|>\x1b[0m" in marked(tok, ids, labels)
    monkeypatch.setenv("NO_COLOR", "1")
    assert marked(tok, ids, labels) == "Goal: craft⟦get<|im_end|>⟧"
    assert marked(tok, ids, labels, around=3) == f" [... {labels.count(False)} tokens ...] aft⟦get<|im_end|>⟧"


def test_the_command_shows_a_trajectory_that_the_selection_has(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(str(tmp_path / "run"))
    several = [make([], [], name="none"), *(make(["a", "b"], ["o", "p <|im_start|>"], name=key) for key in "uvw")]
    store.write_trajectories(several)
    rows = [{"trajectory_id": "u", "error": "invalid: x"}, {"trajectory_id": "v", "steps": (1,)}]
    store.write_selections("mine", [Selection(method="random", ratio=0.5, **row) for row in rows])
    monkeypatch.setenv("NO_COLOR", "1")

    def show(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", ["chat", "--show", store.url, "--model", str(tiny_model), *options])
        main()
        return capsys.readouterr().out

    one = show("--selection", "mine")
    assert "tokens carry loss, steps [1] of 2 (mine)\n" in one
    assert one.count("⟦") == 1
    assert "⟦b" in one
    assert "control tokens inside texts: <|im_start|> x 1" in one
    assert "u: " in show()
    with pytest.raises(SystemExit, match="no 'w' in the selection 'mine'; the first is 'v'"):
        show("--selection", "mine", "--id", "w")
    with pytest.raises(SystemExit, match="error: .*"):
        show("--selection", "other")


def test_the_runs_own_span_and_thinking_are_shown(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(str(tmp_path / "run"))
    store.write_trajectories([make(["<think>\nhm\n</think>\n\nThought: a\nAction: go"], ["o"], name="t")])
    options = f"model: {tiny_model}\ntrain: {{span: action}}\nevaluate: {{thinking: {{'on': false}}}}\n"
    (tmp_path / "run" / "config.yaml").write_text(options)
    monkeypatch.setenv("NO_COLOR", "1")
    main(["--show", store.url])
    shown = capsys.readouterr().out
    assert "Thought: a\n⟦Action: go<|im_end|>⟧" in shown
    assert "hm" not in shown
    assert "train.span is action: the thought of a step carries no loss\n" in shown
    assert "evaluate.thinking.on is false: the model is shown no thinking\n" in shown
