"""Documents that begin alike, laid out so that their common beginning stands in the row once.

A row is cut into segments. A segment's tokens follow those of its ancestors, so a token's context is its path to the
root, and every computation on a shared segment is done once, forward and backward. Without sharing each document is a
segment of its own. Pure functions on token ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_SHARED = 32
"""Tokens that documents must have in common before they share: attention over a path costs more than over a row."""

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
    """The segments of a row, in preorder: a segment's descendants stand directly behind it."""

    segments: tuple[Segment, ...]

    @property
    def trees(self) -> list[tuple[int, int]]:
        """Half-open token range of each tree: tokens of different trees do not see each other."""
        starts = [segment.start for segment in self.segments if not segment.ancestors]
        return list(zip(starts, [*starts[1:], self.tokens], strict=True))

    @property
    def tokens(self) -> int:
        """Of the row."""
        return self.segments[-1].start + self.segments[-1].length

    @property
    def visible_until(self) -> NDArray[np.int64]:
        """For each token the end of its segment's subtree: token q sees token k if k <= q < visible_until[k]."""
        ends = np.zeros(self.tokens, dtype=np.int64)
        for segment in self.segments:  # a descendant stands behind, so its token's end overwrites nothing of others
            ends[segment.start : segment.start + segment.length] = segment.start + segment.length
            for ancestor in segment.ancestors:
                above = self.segments[ancestor]
                ends[above.start : above.start + above.length] = segment.start + segment.length
        return ends


@dataclass(frozen=True)
class Tree:
    """What a row reads."""

    layout: Layout
    ids: Ids
    """Token ids, shape (tokens,)."""
    position_ids: NDArray[np.int64]
    """Place of each token in its document, shape (tokens,)."""
    places: list[NDArray[np.int64]]
    """For each document the row's positions of its tokens, in order."""


def lay_out(documents: Sequence[Ids], *, share: bool) -> Tree:
    """Lay documents end to end, or as trees where `share` lets them.

    Args:
        documents: token ids of each, none empty.
        share: whether documents with `MIN_SHARED` first tokens in common share them.
    """
    segments: list[Segment] = []
    pieces: list[Ids] = []
    positions: list[NDArray[np.int64]] = []
    places = [np.zeros(len(document), dtype=np.int64) for document in documents]

    def add(members: Sequence[int], begin: int, end: int, ancestors: tuple[int, ...]) -> int:
        start = segments[-1].start + segments[-1].length if segments else 0
        segments.append(Segment(start, end - begin, ancestors))
        pieces.append(documents[members[0]][begin:end])
        positions.append(np.arange(begin, end))
        for member in members:
            places[member][begin:end] = np.arange(start, start + end - begin)
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
    return Tree(Layout(tuple(segments)), np.concatenate(pieces), np.concatenate(positions), places)


def groups(documents: Sequence[Ids], *, capacity: int, ranks: int) -> list[list[int]]:
    """Documents that should stand in the same row, as indices; each document is in one group.

    Args:
        documents: token ids of each.
        capacity: distinct tokens of a group at most, unless it is a single document.
        ranks: how many share the step; groups are kept small enough for each to get some.
    """
    order = _sorted(documents)
    common = _common(documents, order)
    distinct = sum(len(documents[member]) - shared for member, shared in zip(order, common, strict=True))
    most = min(capacity, -(-distinct // ranks))
    found: list[list[int]] = []
    for first, last in _clusters(common, MIN_SHARED):
        held = most + 1  # opens a group
        for at in range(first, last):
            new = len(documents[order[at]]) - common[at]
            if held + new > most:
                found.append([])
                held, new = 0, len(documents[order[at]])
            found[-1].append(order[at])
            held += new
    return found


def distinct_tokens(documents: Sequence[Ids], group: Sequence[int]) -> int:
    """Tokens of a group's row."""
    return lay_out([documents[member] for member in group], share=True).layout.tokens


def _sorted(documents: Sequence[Ids]) -> list[int]:
    """Indices in the order of the token sequences, so that documents with a common beginning are neighbours."""
    return sorted(range(len(documents)), key=lambda number: documents[number].astype(">i4").tobytes())


def _common(documents: Sequence[Ids], order: Sequence[int]) -> list[int]:
    """How many first tokens each document in `order` shares with the one before it; 0 for the first."""
    shared = [0]
    for before, after in itertools.pairwise(order):
        size = min(len(documents[before]), len(documents[after]))
        differ = np.flatnonzero(documents[before][:size] != documents[after][:size])
        shared.append(int(differ[0]) if len(differ) else size)
    return shared


def _clusters(common: Sequence[int], least: int) -> list[tuple[int, int]]:
    """Half-open runs in which each document shares `least` tokens with the one before it."""
    starts = [number for number, shared in enumerate(common) if number == 0 or shared < least]
    return list(zip(starts, [*starts[1:], len(common)], strict=True))
