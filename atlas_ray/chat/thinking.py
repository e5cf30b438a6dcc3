"""Thinking: what a model writes for itself before its answer, between `<think>` and `</think>`.

A message keeps it apart from the content (`Message.thinking`). Whether and where a conversation shows it is asked of
the chat template (`template.py`). Pure functions on text.
"""

from __future__ import annotations

import re

from atlas_ray.trajectory import Message

OPEN, CLOSE = "<think>", "</think>"
"""The marks that thinking models have in common (Qwen3, DeepSeek-R1, GLM-4.5)."""
_OPENED = re.compile(rf"{re.escape(OPEN)}\s*\Z")


def split(text: str, *, opened: bool = False) -> tuple[str | None, str]:
    """The thinking of a reply, None where it has none, and its content.

    Args:
        text: as a model wrote it; thinking that was cut off has no end, and then there is no content.
        opened: whether the prompt has opened the thinking, so that the text begins within it.
    """
    begun = text.lstrip()
    if not opened and not begun.startswith(OPEN):
        return None, text
    thinking, _, content = begun.removeprefix(OPEN).partition(CLOSE)
    return thinking.strip(), content.lstrip()


def parts(message: Message) -> tuple[str | None, str]:
    """Thinking and content of a message; an assistant's thinking may stand at the beginning of its content as well."""
    if message.role != "assistant" or message.thinking is not None:
        return message.thinking, message.content
    return split(message.content)


def joined(thinking: str, content: str) -> str:
    """Both in one text, in the form that DeepSeek documents for its R1 models."""
    return f"{OPEN}\n{thinking}\n{CLOSE}\n\n{content}"


def opened_at(prompt: str) -> int | None:
    """Where a prompt opens the thinking of the reply that it asks for; None where it does not."""
    found = _OPENED.search(prompt)
    return None if found is None else found.start()
