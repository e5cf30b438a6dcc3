"""Hashes of content: what tells two results apart, and the draws that are the same in any process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any


def content_hash(value: Any) -> str:
    """SHA-256 (first 16 hex digits) of `value` as canonical JSON: equal content, equal hash, in any process."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def draw(candidates: Sequence[int], count: int, *key: str | int) -> tuple[int, ...]:
    """`count` of `candidates` (all of them where there are fewer), ascending.

    A hash of `key` and the candidate decides, so the draw is the same in any process, order and Python version, and a
    draw with a larger count contains the smaller one.
    """

    def rank(candidate: int) -> bytes:
        return hashlib.sha256(json.dumps([*key, candidate]).encode()).digest()

    return tuple(sorted(sorted(candidates, key=rank)[:count]))
