"""Rows in memory, filtered by columns and words: an Arrow table, so that a hundred thousand take milliseconds.

What the rows are of is `index.py`'s.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from atlas_ray.errors import DataError
from atlas_ray.plugins import nearest

TEXT = "text"
"""The column that words are looked for in."""
_POOL = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="search")
_KEPT = 32
"""Answers that are kept: paging asks the same question again."""


@dataclass(frozen=True)
class Query:
    """Which rows, and in which order."""

    equal: tuple[tuple[str, str], ...] = ()
    """Columns and the value that they must have; a column of booleans must be true, whatever the value."""
    words: tuple[str, ...] = ()
    """Each must be in the text, in whatever case."""
    order: str | None = None
    """A column, largest first; None: as they are."""


class Rows:
    """A table that is not changed any more.

    Args:
        table: strings, numbers and booleans; one column is `TEXT`.
        live: the rows that count; None: all.
    """

    def __init__(self, table: pa.Table, live: pa.Array | None = None) -> None:
        self._table, self._live = table, live
        self.find = lru_cache(_KEPT)(self._find)
        self.total = table.num_rows if live is None else int(pc.sum(live).as_py() or 0)

    @property
    def names(self) -> list[str]:
        """Of the columns that can be filtered and shown."""
        return [name for name in self._table.column_names if name != TEXT]

    def values(self, column: str) -> list[str]:
        """The different values of a column of strings among the rows that count, sorted."""
        found = self._table[column] if self._live is None else self._table[column].filter(self._live)
        return sorted(value for value in pc.unique(found).to_pylist() if value)

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of all rows."""
        return self._table[name]

    def taken(self, numbers: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Some columns of some rows; rows are numbered from 0 in the table."""
        return list(self._table.select(list(columns)).take(pa.array(numbers, pa.int64())).to_pylist())

    def where(self, column: str, value: str) -> int | None:
        """The number of the last row that counts with this value; None without one."""
        found = np.flatnonzero(_true(self._among(pc.equal(self._table[column], value))))
        return int(found[-1]) if len(found) else None

    def _find(self, query: Query) -> NDArray[np.int64]:
        """The numbers of the rows that a query asks for.

        Raises:
            DataError: a column is unknown.
        """
        mask = self._live
        for name, value in query.equal:
            column = self._known(name)
            if not pa.types.is_boolean(column.type):
                column = pc.equal(column.cast(pa.string()), value)
            mask = column if mask is None else pc.and_(mask, column)
        found = np.arange(self._table.num_rows) if mask is None else np.flatnonzero(_true(mask))
        if query.words:
            found = self._with_words(found, sorted(query.words, key=len, reverse=True))  # a long word leaves few rows
        if query.order is not None:
            column = self._known(query.order)
            if pa.types.is_string(column.type):
                raise DataError(f"the order {query.order!r} is no number; leave it out, or name a column of numbers")
            keys = pc.fill_null(column.cast(pa.float64()), float("-inf")).to_numpy()
            found = found[np.argsort(-keys[found], kind="stable")]
        return found

    def _with_words(self, found: NDArray[np.int64], words: Sequence[str]) -> NDArray[np.int64]:
        """Those of some rows, ascending, whose text has all words; Arrow lets the chunks be searched side by side."""
        chunks = self._table[TEXT].chunks
        starts = np.cumsum([0, *map(len, chunks)])
        cuts = np.searchsorted(found, starts)

        def within(at: int) -> NDArray[np.int64]:
            texts: pa.Array = chunks[at]
            numbers: NDArray[np.int64] = found[cuts[at] : cuts[at + 1]] - starts[at]
            for word in words:
                if 2 * len(numbers) > len(texts):  # to search the others too takes less than to copy these
                    numbers = numbers[_true(pc.match_substring(texts, word, ignore_case=True))[numbers]]
                else:
                    some = texts.take(pa.array(numbers))
                    numbers = numbers[_true(pc.match_substring(some, word, ignore_case=True))]
            found_here: NDArray[np.int64] = numbers + starts[at]
            return found_here

        return np.concatenate([np.empty(0, np.int64), *_POOL.map(within, range(len(chunks)))])

    def _among(self, mask: pa.ChunkedArray) -> pa.ChunkedArray:
        return mask if self._live is None else pc.and_(mask, self._live)

    def _known(self, name: str) -> pa.ChunkedArray:
        if name not in self.names:
            raise DataError(f"there is no filter or order {name!r}{nearest(name, self.names)}")
        return self._table[name]


def _true(mask: pa.ChunkedArray | pa.Array) -> NDArray[np.bool_]:
    """Where a mask is true; nothing is false."""
    array = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), dtype=np.bool_)
