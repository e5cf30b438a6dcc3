"""The rows of a file, one after another in flat memory: JSON Lines, a JSON list, single objects, or Parquet.

A row that cannot be parsed is a `Problem` in its own position, and the rows after it are read. What a row means is
decided in `files.py`.
"""

from __future__ import annotations

import codecs
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from atlas_ray.errors import DataError
from atlas_ray.formats.sources import PARQUET, open_binary, unreadable

PIECE = 1 << 20
"""Bytes of a JSON list that are read at a time."""
MAX_ROW = 1 << 26
"""Characters that one row may have; a longer one is a problem, not more memory."""
MAX_DIGITS = 4300
"""Digits of an integer; Python itself refuses longer ones."""
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*("?)|[\[\]{}]', re.DOTALL)
_BETWEEN = re.compile(r"[\s,]*")
_CONTAINERS = ("train", "test", "validation", "data", "rows", "trajectories", "examples", "episodes", "instances")
_OPEN = (b"{", b"[", b",")
_TORN = (EOFError, zlib.error, lzma.LZMAError)
"""What a compressed file raises where it was cut off."""


@dataclass(frozen=True)
class Problem:
    """Why there is no row at this position."""

    text: str


SKIPPED = object()
"""Stands for a row that was not wanted."""
Wanted = Callable[[int], bool]
"""Whether the row at a position is read; several processes share a file by it."""


def rows(path: str, wanted: Wanted = lambda _: True) -> Iterator[tuple[int, Any]]:
    """Position (line or index, from 0) and value of every row, in order; `Problem` for one that cannot be parsed.

    Args:
        path: of the file.
        wanted: which positions are read; of the others the value is `SKIPPED`, and a line is not even parsed.

    Raises:
        DataError: the file cannot be opened, or is neither text nor Parquet.
    """
    number = 0
    try:
        head = _head(path)
        if head.startswith(PARQUET):
            yield from _parquet_rows(path, wanted)
            return
        as_list = head.startswith(b"[") and not _is_turn(_first(path))
        for number, row in _list_rows(path, wanted) if as_list else _line_rows(path, wanted):
            yield number, row
    except _TORN as error:
        yield number + 1, Problem(f"the compressed file ends too early ({error}); the rest is missing")
    except OSError as error:
        if error.errno is None:  # a decompressor's own error
            yield number + 1, Problem(f"the compressed file is damaged ({error}); the rest is missing")
        else:
            raise unreadable(path, error) from error


def _head(path: str) -> bytes:
    """The file's first bytes that are neither blank nor a byte order mark."""
    with open_binary(path) as stream:
        piece = stream.read(PIECE).removeprefix(codecs.BOM_UTF8)
        while piece and not piece.strip():
            piece = stream.read(PIECE)
    return piece.lstrip()[:4]


class _Decoder:
    """JSON with a word on what Python's own decoder refuses without one."""

    def __init__(self) -> None:
        self._digits = 0
        self._json = json.JSONDecoder(parse_int=self._integer, strict=False)

    def _integer(self, text: str) -> int:
        if len(text) > MAX_DIGITS:
            self._digits = len(text)
            return 0
        return int(text)

    def at(self, text: str, start: int) -> tuple[Any, int]:
        """The value that begins at `start`, and where it ends.

        Raises:
            json.JSONDecodeError: it is malformed or cut off.
        """
        self._digits = 0
        try:
            value, end = self._json.raw_decode(text, start)
        except RecursionError:
            closed = _end(text, start)
            if closed is None:
                raise json.JSONDecodeError("too deeply nested", text, start) from None
            return Problem("not JSON (too deeply nested)"), closed
        if self._digits:
            return Problem(f"an integer of {self._digits} digits, at most {MAX_DIGITS} are read"), end
        return value, end

    def whole(self, text: str) -> Any:
        """The value that is the whole text, or the problem with it."""
        body = text.strip()
        try:
            value, end = self.at(body, 0)
        except json.JSONDecodeError as error:
            return Problem(f"not JSON ({error})")
        return Problem(f"not JSON (more text at column {end + 1})") if end < len(body) else value


def _line_rows(path: str, wanted: Wanted) -> Iterator[tuple[int, Any]]:
    """JSON Lines; an object or a list over several lines is one row too."""
    decoder = _Decoder()
    with open_binary(path) as stream:
        waiting, first = "", 0
        for number, raw in enumerate(stream):
            if not waiting and not wanted(number) and raw.rstrip()[-1:] not in _OPEN:
                yield number, SKIPPED
                continue
            line = raw.decode("utf-8", "surrogateescape")
            if number == 0:
                line = line.removeprefix("\ufeff")
            if waiting:
                if line[:1] not in ("{", "[") or _may_go_on(waiting):
                    waiting += line
                    if len(waiting) > MAX_ROW:
                        yield first, Problem(f"not JSON (no end within {MAX_ROW} characters)")
                        waiting = ""
                    elif line[:1] in ("}", "]") and _end(waiting, 0) is not None:
                        yield from _unwrapped(first, decoder.whole(waiting), wanted)
                        waiting = ""
                    continue
                yield from _unwrapped(first, decoder.whole(waiting), wanted)
                waiting = ""
            text = line.strip()
            if not text:
                continue
            if text[0] in "{[" and text[-1] in "{[," and _end(text, 0) is None:
                waiting, first = text + "\n", number
            else:
                yield from _unwrapped(number, decoder.whole(text), wanted)
        if waiting:
            yield from _unwrapped(first, decoder.whole(waiting), wanted)


def _may_go_on(waiting: str) -> bool:
    """Whether an object over several lines may go on with a bracket; after its first line that begins a new row."""
    text = waiting.rstrip()
    return text[-1:] in ("[", ",") and "\n" in text


def _list_rows(path: str, wanted: Wanted) -> Iterator[tuple[int, Any]]:
    """The elements of one JSON list, decoded one by one from a buffer that moves over the file."""
    decoder, number = _Decoder(), 0
    keys: list[str] = []
    with open_binary(path) as stream:
        text = _Text(stream)
        start = text.buffer.index("[") + 1
        while True:
            start = _BETWEEN.match(text.buffer, start).end()  # type: ignore[union-attr]
            if start >= len(text.buffer):
                if not text.more(start):
                    yield number, Problem("not JSON (the list has no end; the file is cut off)")
                    return
                start = 0
                continue
            if text.buffer[start] == "]":
                if text.rest(start + 1).strip():
                    yield number, Problem("not JSON (more text after the end of the list)")
                return
            try:
                value, end = decoder.at(text.buffer, start)
                if end == len(text.buffer) and text.more(start):
                    start = 0
                    continue
                if isinstance(value, dict):
                    keys = list(value)
            except json.JSONDecodeError as error:
                problem = f"not JSON ({error.msg}, {error.pos - start} characters after the row's beginning)"
                found = _end(text.buffer, start)
                if found is None and len(text.buffer) - start < MAX_ROW and text.more(start):
                    start = 0
                    continue
                resumed = _resumed(decoder, text.buffer, start, found, keys)
                if resumed is None:
                    yield number, Problem(f"{problem}; nothing after it can be read")
                    return
                value, end = Problem(problem), resumed
            yield number, value if wanted(number) else SKIPPED
            number, start = number + 1, end


def _resumed(decoder: _Decoder, text: str, start: int, end: int | None, keys: list[str]) -> int | None:
    """Where rows go on after a malformed one: at an object with the keys of the row before, else at its last bracket.

    Args:
        decoder: of the file.
        text: the buffer.
        start: where the malformed row begins.
        end: where it ends by its brackets, which may be wrong, because one that is missing takes one of a later row.
        keys: of the last good row.
    """
    if keys:
        for found in re.compile(r'\{\s*"' + re.escape(keys[0]) + '"').finditer(text, start + 1, end or len(text)):
            try:
                value, _ = decoder.at(text, found.start())
            except json.JSONDecodeError:
                continue
            if isinstance(value, dict) and list(value) == keys:
                return found.start()
    return end


class _Text:
    """A file's text, a moving piece at a time; bytes that are no UTF-8 become lone surrogates, which rows refuse."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._size = PIECE
        self.buffer = ""
        while "[" not in self.buffer and self.more(0):
            pass

    def more(self, start: int) -> bool:
        """Drop what is before `start` and read on; twice as much when nothing could be dropped.

        At the end of the file nothing is dropped, and the answer is False.
        """
        self._size = PIECE if start else self._size * 2
        raw = self._stream.read(self._size)
        if not raw:
            self.buffer += self._decode(b"", final=True)
            return False
        self.buffer = self.buffer[start:] + self._decode(raw)
        return True

    def rest(self, start: int) -> str:
        """The first of the text from `start` on that is no blank, and at most a piece of it."""
        while not self.buffer[start:].strip() and self.more(start):
            start = 0
        return self.buffer[start:]


def _first(path: str) -> Any:
    return next((value for _, value in _list_rows(path, lambda _: True)), None)


def _is_turn(value: Any) -> bool:
    """Whether an element of a list is one turn of a conversation, so that the list is a row."""
    return isinstance(value, dict) and any(isinstance(value.get(key), str) for key in ("role", "from"))


def _unwrapped(number: int, value: Any, wanted: Wanted) -> Iterator[tuple[int, Any]]:
    """The row, or the rows that an object such as `{"train": [...]}` or `{"rows": [...]}` holds."""
    if isinstance(value, dict):
        for key in _CONTAINERS:
            inner = value.get(key)
            if isinstance(inner, list) and inner and isinstance(inner[0], dict) and not _is_turn(inner[0]):
                held = [each for name in _CONTAINERS if isinstance(value.get(name), list) for each in value[name]]
                for index, each in enumerate(held):
                    yield index, each if wanted(index) else SKIPPED
                return
    yield number, value if wanted(number) else SKIPPED


def _end(text: str, start: int) -> int | None:
    """Where the object or list that begins at `start` ends, by its brackets alone; None when it has no end here."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        mark = token.group()
        if mark[0] == '"':
            if not token.group(1):
                return None
        elif mark in "[{":
            depth += 1
        else:
            depth -= 1
            if depth <= 0:
                return token.end()
    return None


def _parquet_rows(path: str, wanted: Wanted) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(64):
                needed = any(wanted(index) for index in range(number, number + batch.num_rows))
                for row in batch.to_pylist() if needed else [SKIPPED] * batch.num_rows:
                    yield number, row if wanted(number) else SKIPPED
                    number += 1
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path}: no Parquet that can be read ({str(error).splitlines()[0]})") from error
