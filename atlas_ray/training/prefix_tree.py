"""Rows in which documents with a common beginning share it: the beginning is stored and computed once.

A row is cut into segments, which form trees. A token's context is the path from the root of its tree to the token, so
a shared segment is computed once, forward and backward. Without sharing every document is a segment of its own. Pure
functions on token ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_SHARED = 32
"""Tokens that documents must have in common to share them: attention over several segments costs more than over one."""

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Segment:
    """A stretch of a row."""

    start: int
    length: int
    ancestors: tuple[int, ...]
    """Numbers of the segments before it on its path, from the root."""


@dataclass(frozen=True)
class Layout:
    """The segments of a row, in preorder: a segment's descendants follow it directly."""

    segments: tuple[Segment, ...]

    @property
    def tokens(self) -> int:
        """Number of tokens in the row."""
        return self.segments[-1].start + self.segments[-1].length

    @property
    def visible_until(self) -> NDArray[np.int64]:
        """End of each token's subtree, shape (tokens,): token q attends to token k if k <= q < visible_until[k]."""
        ends = np.zeros(self.tokens, dtype=np.int64)
        for segment in self.segments:  # in preorder, so that the last descendant's end is what stays
            ends[segment.start : segment.start + segment.length] = segment.start + segment.length
            for ancestor in segment.ancestors:
                above = self.segments[ancestor]
                ends[above.start : above.start + above.length] = segment.start + segment.length
        return ends


@dataclass(frozen=True)
class Tree:
    """The tokens of a row and where each document has its own."""

    layout: Layout
    ids: Ids
    """Token ids, shape (tokens,)."""
    position_ids: NDArray[np.int64]
    """Index of each token in its document, shape (tokens,)."""
    positions: list[NDArray[np.int64]]
    """For each document, the positions of its tokens in the row, in order."""


def lay_out(documents: Sequence[Ids], *, share: bool) -> Tree:
    """Lay documents end to end, or as trees where they share a beginning.

    Args:
        documents: token ids of each, none empty.
        share: whether documents with `MIN_SHARED` first tokens in common share them.
    """
    segments: list[Segment] = []
    pieces: list[Ids] = []
    position_ids: list[NDArray[np.int64]] = []
    positions = [np.zeros(len(document), dtype=np.int64) for document in documents]

    def add(members: Sequence[int], begin: int, end: int, ancestors: tuple[int, ...]) -> int:
        start = segments[-1].start + segments[-1].length if segments else 0
        segments.append(Segment(start, end - begin, ancestors))
        pieces.append(documents[members[0]][begin:end])
        position_ids.append(np.arange(begin, end))
        for member in members:
            positions[member][begin:end] = np.arange(start, start + end - begin)
        return len(segments) - 1

    def branch(members: list[int], common: Sequence[int], begin: int, ancestors: tuple[int, ...]) -> None:
        for first, last in _clusters(common, begin + MIN_SHARED):
            cluster = members[first:last]
            end = len(documents[cluster[0]]) if len(cluster) == 1 else min(common[first + 1 : last])
            if end > begin:
                node = add(cluster, begin, end, ancestors)
            if len(cluster) > 1:
                branch(cluster, [0, *common[first + 1 : last]], end, (*ancestors, node))

    if share:
        order = _sorted(documents)
        branch(order, _common(documents, order), 0, ())
    else:
        for number, document in enumerate(documents):
            add([number], 0, len(document), ())
    return Tree(Layout(tuple(segments)), np.concatenate(pieces), np.concatenate(position_ids), positions)


def groups(
    documents: Sequence[Ids], *, capacity: int, ranks: int, beside: Sequence[int] | None = None
) -> list[list[int]]:
    """Groups of documents to put into one row each, as indices; each document is in one group.

    Args:
        documents: token ids of each.
        beside: tokens that each document brings along into its row besides its own; None: none.
        capacity: distinct tokens of a group at most, unless it is a single document.
        ranks: number of ranks that share the step; groups are small enough for every rank to get some.
    """
    order = _sorted(documents)
    common = _common(documents, order)
    brought = [0] * len(documents) if beside is None else beside
    distinct = sum(len(documents[member]) - shared for member, shared in zip(order, common, strict=True)) + sum(brought)
    most = min(capacity, -(-distinct // ranks))
    found: list[list[int]] = []
    for first, last in _clusters(common, MIN_SHARED):
        held = most + 1  # opens a group
        for at in range(first, last):
            # A beginning that is shared by fewer tokens than `MIN_SHARED` behind another one stands twice.
            new = len(documents[order[at]]) - common[at] + MIN_SHARED - 1 + brought[order[at]]
            if held + new > most:
                found.append([])
                held, new = 0, len(documents[order[at]]) + brought[order[at]]
            found[-1].append(order[at])
            held += new
    return found


def distinct_tokens(documents: Sequence[Ids], group: Sequence[int], *, share: bool = True) -> int:
    """Tokens of a row that holds a group."""
    return lay_out([documents[member] for member in group], share=share).layout.tokens


def _sorted(documents: Sequence[Ids]) -> list[int]:
    """Indices in the order of the token sequences, so that documents with a common beginning are neighbours."""
    return sorted(range(len(documents)), key=lambda number: documents[number].astype(">i4").tobytes())


def _common(documents: Sequence[Ids], order: Sequence[int]) -> list[int]:
    """Number of first tokens that each document in `order` shares with the one before it; 0 for the first document."""
    shared = [0]
    for before, after in itertools.pairwise(order):
        size = min(len(documents[before]), len(documents[after]))
        differ = np.flatnonzero(documents[before][:size] != documents[after][:size])
        shared.append(int(differ[0]) if len(differ) else size)
    return shared


def _clusters(common: Sequence[int], least: int) -> list[tuple[int, int]]:
    """Half-open ranges of documents in which each shares `least` tokens with the one before it."""
    starts = [number for number, shared in enumerate(common) if number == 0 or shared < least]
    return list(zip(starts, [*starts[1:], len(common)], strict=True))
