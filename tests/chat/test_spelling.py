"""Places of tokens by what they spell, against the tokenizer's own record of where they come from."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from atlas_ray.chat import encode
from atlas_ray.chat.spelling import Speller, speller
from tests.chat.talk import make
from tests.tokenizers import KINDS, of_kind

_PIECES = st.sampled_from(["<|im_start|>", "<|im_end|>", "<think>", " ", "\n", "Thought", "é", "e\u0301", "漢字", "😀"])
texts = st.lists(_PIECES | st.text(st.characters(exclude_categories=("Cs",)), max_size=12), max_size=12).map("".join)


@cache
def spelling(kind: str) -> Speller:
    found = speller(of_kind(kind, "chatml"))
    assert found is not None
    return found


@settings(deadline=None)
@given(kind=st.sampled_from(["byte-level", "split"]), text=texts)
def test_ids_and_places_are_those_that_the_tokenizer_records(kind: str, text: str) -> None:
    recorded = of_kind(kind, "chatml")(text, add_special_tokens=False)
    [ids] = spelling(kind).ids([text])
    assert ids == recorded["input_ids"]
    places = spelling(kind).places(text, ids)
    assert places is not None
    assert [places.char_to_token(char) for char in range(len(text))] == [
        recorded.char_to_token(char) for char in range(len(text))
    ]
    assert places.char_to_token(len(text)) is None


@pytest.mark.parametrize("kind", KINDS)
def test_only_byte_level_tokenizers_spell(kind: str) -> None:
    assert (speller(of_kind(kind, "chatml")) is None) == (kind not in ("byte-level", "split"))


def test_a_text_that_is_not_spelled_has_the_tokenizers_record() -> None:
    """One is normalised, and the control tokens of another swallow line breaks."""
    plain, swallowing = of_kind("byte-level", "chatml"), of_kind("byte-level", "phi3")
    composing = PreTrainedTokenizerFast(
        tokenizer_object=type(plain.backend_tokenizer).from_str(plain.backend_tokenizer.to_str()),
        chat_template=plain.chat_template, eos_token="<|im_end|>",
    )  # fmt: skip
    composing.backend_tokenizer.normalizer = normalizers.NFC()
    for tok, text in ((composing, "cafe\u0301"), (swallowing, "<|user|>\nhello")):
        found = speller(tok)
        assert found is not None
        assert found.places(text, *found.ids([text])) is None
    composed, decomposed = make(["Action: caf\u00e9"], ["o"]), make(["Action: cafe\u0301"], ["o"])
    assert encode(decomposed, composing) == encode(composed, composing) == encode(composed, plain)


def test_what_a_file_says_of_padding_and_truncation_does_not_count() -> None:
    tok = of_kind("byte-level", "chatml")
    padded = PreTrainedTokenizerFast(
        tokenizer_object=type(tok.backend_tokenizer).from_str(tok.backend_tokenizer.to_str()),
        chat_template=tok.chat_template, eos_token="<|im_end|>",
    )  # fmt: skip
    padded.backend_tokenizer.enable_padding(length=512)
    padded.backend_tokenizer.enable_truncation(4)
    assert encode(make(), padded) == encode(make(), tok)
