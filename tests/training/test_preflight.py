"""What is shown before training starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atlas_ray.config import TrainConfig
from atlas_ray.training.examples import prepare
from atlas_ray.training.preflight import preflight
from tests.tokenizers import of_kind, tokenizer
from tests.training.tiny import trajectory

TOKENIZER = tokenizer("chatml")


def test_labels_counts_and_control_tokens_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    one = trajectory(0, 6)
    first, *others = one.messages
    one = one.model_copy(
        update={"messages": (first.model_copy(update={"content": "never <|im_start|> write"}), *others)}
    )
    examples, report = prepare([one], {"t000": dict.fromkeys((1, 2, 4, 5), 1.0)}, TOKENIZER, TrainConfig())
    shown = preflight(examples, report, TOKENIZER, str(tmp_path))
    assert shown.startswith("pre-flight: t000, the marked tokens carry loss\n")
    assert [f"⟦{one.steps[step].content}<|im_end|>⟧" in shown for step in range(6)] == [
        False, True, True, False, True, False
    ]  # fmt: skip
    assert "[... 1 more steps ...]" in shown
    assert f"labelled: {report.labelled_tokens} of {report.tokens} tokens" in shown
    assert "4 of 4 steps end with '<|im_end|>'" in shown
    assert "control tokens inside texts, which the model takes for its own: '<|im_start|>' x 1" in shown
    assert "do not stop" not in shown
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b[1;30;42m" in preflight(examples, report, TOKENIZER, str(tmp_path))


def test_a_model_that_does_not_stop_at_the_end_of_turn_is_told(tmp_path: Path) -> None:
    gemma = of_kind("split", "gemma")  # its eos token is </s>, and its turns end with another
    examples, report = prepare([trajectory(0, 2)], {"t000": {1: 1.0}}, gemma, TrainConfig())
    end = gemma.convert_tokens_to_ids("<end_of_turn>")
    told = f"engines do not stop at '<end_of_turn>', so answers will be cut by their length: add {end} to eos_token_id"
    assert told in preflight(examples, report, gemma, str(tmp_path))
    settings = tmp_path / "generation_config.json"
    for stops, is_told in ((1, True), (end, False), ([1, end], False)):
        settings.write_text(json.dumps({"eos_token_id": stops}))
        assert (told in preflight(examples, report, gemma, str(tmp_path))) == is_told
