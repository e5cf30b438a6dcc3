"""Where the tokens of a byte-level tokenizer lie in their text, known by the bytes that they spell.

Such a tokenizer loses nothing: its tokens, one after the other, are the text. So it need not record where each came
from, which takes it a tenth of its time. That they do spell the text is the proof of every place. Left out: tokenizers
that change or drop characters, whose own record is asked (`encoding.py`).
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_KEPT = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
"""Bytes that byte-level vocabularies write as the character of the same number; the others follow from 256 on."""
_BYTES = {chr(byte): byte for byte in _KEPT} | {
    chr(256 + place): byte for place, byte in enumerate(sorted(set(range(256)).difference(_KEPT)))
}


class Spelled:
    """The tokens of a text that they spell; its one method is that of `tokenizers.Encoding`."""

    def __init__(self, text: str, ends: list[int]) -> None:
        self._text = text
        self._ends = ends
        self._is_ascii = text.isascii()

    def char_to_token(self, char: int) -> int | None:
        """Index of the token with the first byte of a character; None after the text."""
        byte = char if self._is_ascii else len(self._text[:char].encode())
        found = bisect_right(self._ends, byte)
        return found if found < len(self._ends) else None


class Speller:
    """The bytes of each token of a vocabulary.

    Args:
        tokenizer: see `speller`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
        vocabulary = tokenizer.get_vocab()
        self._bytes = [b""] * (1 + max(vocabulary.values()))
        for token, number in vocabulary.items():
            if number in added:
                self._bytes[number] = added[number].encode()
            elif all(letter in _BYTES for letter in token):
                self._bytes[number] = bytes(_BYTES[letter] for letter in token)
        self._widths = [len(each) for each in self._bytes]

    def ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, which are those of a call of the tokenizer."""
        backend = self._tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = self._tokenizer.split_special_tokens
        return [each.ids for each in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def places(self, text: str, ids: list[int]) -> Spelled | None:
        """Where the tokens lie in the text; None if they do not spell it (a tokenizer may normalise some texts)."""
        if b"".join(map(self._bytes.__getitem__, ids)) != text.encode():
            return None
        return Spelled(text, list(accumulate(map(self._widths.__getitem__, ids))))


def speller(tokenizer: PreTrainedTokenizerBase) -> Speller | None:
    """The speller of a byte-level tokenizer that is called as its class calls it; None for any other."""
    from transformers import PreTrainedTokenizerFast

    if not tokenizer.is_fast or type(tokenizer)._encode_plus is not PreTrainedTokenizerFast._encode_plus:
        return None
    return Speller(tokenizer) if type(tokenizer.backend_tokenizer.decoder).__name__ == "ByteLevel" else None
