"""Layouts as trees: every token sees its own document's past and nothing else, and shared tokens stand once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.training import prefix_tree
from atlas_ray.training.prefix_tree import distinct_tokens, groups, lay_out


@pytest.fixture(autouse=True, scope="module")
def _share_early() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "MIN_SHARED", 2)
        yield


# Few different tokens, so that documents begin alike; some are the beginning of another, or equal it.
documents_ = st.lists(
    st.lists(st.integers(1, 2), min_size=1, max_size=12).map(lambda ids: np.array(ids, np.int32)),
    min_size=1,
    max_size=8,
)
SLOW = settings(deadline=None)  # the machine may be busy


@SLOW
@given(documents=documents_, share=st.booleans())
def test_every_token_sees_the_past_of_its_document(documents: list[np.ndarray], share: bool) -> None:
    tree = lay_out(documents, share=share)
    until = tree.layout.visible_until
    for document, positions in zip(documents, tree.positions, strict=True):
        assert (tree.ids[positions] == document).all()
        assert (tree.position_ids[positions] == np.arange(len(document))).all()
        for depth, q in enumerate(positions):
            seen = [k for k in range(tree.layout.tokens) if k <= q < until[k]]
            assert seen == positions[: depth + 1].tolist()
    assert sum(segment.length for segment in tree.layout.segments) == tree.layout.tokens
    assert set(np.concatenate(tree.positions).tolist()) == set(range(tree.layout.tokens))


def test_a_common_beginning_stands_once_and_a_short_one_is_not_shared() -> None:
    base = np.arange(10, dtype=np.int32)
    other = np.array([0, 50, 51], np.int32)
    branches = [np.append(base, np.int32([20, 21, number])) for number in (30, 31)] + [base, other]
    assert distinct_tokens(branches, [0, 1, 2]) == 10 + 2 + 1 + 1
    assert distinct_tokens(branches, [0, 3]) == 13 + 3
    assert lay_out(branches, share=False).layout.tokens == sum(map(len, branches))


@SLOW
@given(documents=documents_, capacity=st.integers(1, 30), ranks=st.integers(1, 3))
def test_groups(documents: list[np.ndarray], capacity: int, ranks: int) -> None:
    found = groups(documents, capacity=capacity, ranks=ranks)
    assert sorted(number for group in found for number in group) == list(range(len(documents)))
    assert all(len(group) == 1 or distinct_tokens(documents, group) <= capacity for group in found)
