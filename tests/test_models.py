"""Models by name: counting tokens, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas_ray.errors import ModelError
from atlas_ray.models import load_tokenizer, token_counter


def test_tokens_are_counted_as_the_tokenizer_would(tiny_model: str) -> None:
    texts = ["Thought: I need it.\nAction: get 1 log", "", "日本 \n\n <|im_end|>", "a" * 5000]
    ids = load_tokenizer(tiny_model)(texts, add_special_tokens=False)["input_ids"]
    assert token_counter(tiny_model)(texts) == [len(each) for each in ids]
    assert token_counter(tiny_model)([]) == []


def test_a_tokenizer_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(ModelError, match=r"tokenizer.json cannot be read: [^\n]+$"):
        token_counter(str(tmp_path))
