"""Conversations as exchanges, and even samples."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.report import view
from atlas_ray.trajectory import Message


def test_conversation_becomes_exchanges() -> None:
    talk = view.conversation(
        [
            Message(role="user", content="Play."),
            Message(role="assistant", content="OK."),
            Message(role="user", content="You see a door."),
            Message(role="assistant", content="Thought: open it\nAction: open door", step=0),
            Message(role="user", content="It opens."),
            Message(role="assistant", content="I do not know", step=1),
        ],
        "one",
    )
    assert talk.opening == "Play.\n\nOK.\n\nYou see a door."
    assert talk.exchanges == [
        view.Exchange(0, "open it", "open door", "Thought: open it\nAction: open door", "It opens."),
        view.Exchange(1, "I do not know", None, "I do not know", ""),
    ]


@given(st.lists(st.integers(), max_size=30), st.integers(-2, 40))
def test_spread_keeps_order_and_count(items: list[int], count: int) -> None:
    indices = view.spread(range(len(items)), count)
    assert len(indices) == max(0, min(count, len(items)))
    assert indices == sorted(set(indices))
    assert not indices or indices[0] == 0
