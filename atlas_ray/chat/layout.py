"""What a chat template writes between the texts of a conversation, found once for all conversations of the same roles.

A conversation of marks is rendered, and what stands between the marks is the layout. With it the steps of a rendered
conversation are found without asking the template at every step. Pure functions on text; rendering is `template.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atlas_ray.trajectory import Message


@dataclass(frozen=True)
class Layout:
    """What a template writes between the texts of a conversation."""

    between: list[str]
    margins: dict[int, tuple[int, int]]
    """Characters before and after the text of a message that belong to its step, by the message's index."""

    def spans(self, text: str, contents: Sequence[str]) -> list[tuple[int, int]] | None:
        """Character span of each step; None where the text is not laid out like this.

        Args:
            text: of the conversation.
            contents: the text of each message, as the template was given it.
        """
        spans, position = [], 0
        for index, content in enumerate(contents):
            begin = position + len(self.between[index])
            if not text.startswith(self.between[index], position):
                return None
            for form in (content, content.strip()):  # some templates trim
                position = begin + len(form)
                if text.startswith(form, begin) and text.startswith(self.between[index + 1], position):
                    break
            else:
                return None
            if index in self.margins:
                before, after = self.margins[index]
                spans.append((begin - before, position + after))
        return spans


def marked(messages: Sequence[Message]) -> list[Message]:
    """The same turns with a mark in place of each text."""
    return [
        message.model_copy(update={"content": mark, "thinking": None})
        for message, mark in zip(messages, _marks(messages), strict=True)
    ]


def layout_of(text: str, spans: Sequence[tuple[int, int]], messages: Sequence[Message]) -> Layout | None:
    """The layout of a rendered conversation of marks; None where the template changes, repeats or reorders texts.

    Args:
        text: `marked(messages)` as rendered.
        spans: half-open character span of each step in it.
        messages: whose layout it is.
    """
    marks = _marks(messages)
    if any(text.count(mark) != 1 for mark in marks):
        return None
    begins = [text.index(mark) for mark in marks]
    if begins != sorted(begins):
        return None
    ends = [begin + len(mark) for begin, mark in zip(begins, marks, strict=True)]
    between = [text[a:b] for a, b in zip([0, *ends], [*begins, len(text)], strict=True)]
    steps = [index for index, message in enumerate(messages) if message.step is not None]
    margins = {
        index: (begins[index] - begin, end - ends[index]) for index, (begin, end) in zip(steps, spans, strict=True)
    }
    return Layout(between, margins)


def _marks(messages: Sequence[Message]) -> list[str]:
    return [f"atlas-{index}-ray" for index in range(len(messages))]
