"""A conversation at inference: the ids to generate from grow turn by turn, and generated tokens are kept as they are.

What a model is given is what training shows it, token for token, with one exception: its own earlier turns keep the
tokens that it generated, which may spell the same text otherwise than the tokenizer would (and have the white space
around it). That keeps an engine's prefix cache valid. With a template that rewrites earlier turns nothing is kept: the
whole conversation is rendered and tokenised anew, as in the rows of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atlas_ray.chat import thinking
from atlas_ray.chat.template import template_of
from atlas_ray.errors import DataError
from atlas_ray.tool_calls import calls_text
from atlas_ray.trajectory import Message, ToolCall

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Conversation:
    """Call `add` with messages, then `prompt()` for the ids to generate from, then `reply` with what was generated.

    Args:
        tokenizer: with a chat template.
        thinks: see `template.Template`.

    Raises:
        ModelError: the chat template cannot be used at all (see `template.Template`).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, thinks: bool | None = None) -> None:
        self.messages: list[Message] = []
        self.ids: list[int] = []
        self._template = template_of(tokenizer, thinks)
        self._done: str | None = None  # the rendered text that `ids` encodes; None: there is none

    def add(self, message: Message) -> None:
        """Append a turn that was not generated here."""
        self.messages.append(message)

    def prompt(self) -> list[int]:
        """All ids up to and including the header of the assistant's next turn.

        Raises:
            DataError: the chat template refuses the conversation.
        """
        text, template = self._template.render(self.messages, header=True), self._template
        if self._done is not None and self._done.endswith(template.end) and text.startswith(self._done):
            # The end-of-turn token goes along because what follows may be tokenised otherwise without it.
            more = template.ids(template.end + text[len(self._done) :])
            self.ids = self.ids + more[more.index(template.end_id) + 1 :]
        else:
            self.ids = template.ids(text)
        self._done = text
        return self.ids

    @property
    def thought_marks(self) -> tuple[str, str] | None:
        """What the model writes before and after its thinking, once `prompt()` was asked; None: it does not think."""
        return self._template.thought

    def opening(self, text: str, thought: str | None = None) -> list[int]:
        """Ids of a reply's beginning that the caller writes for the model, after `prompt()`; as in a whole reply.

        Args:
            text: how its content begins.
            thought: its thinking, in full.

        Raises:
            DataError: the template changes the text, or the tokenizer joins it with the prompt.
        """
        written = self._template.reply(
            [*self.messages, Message(role="assistant", content=text, thinking=thought)], self._done or ""
        )
        return self._after_prompt(written.removesuffix(self._template.end))

    def opening_of_thinking(self) -> list[int]:
        """Ids with which the model begins to think after `prompt()`; none where the prompt has begun it.

        Raises:
            DataError: the tokenizer joins them with the prompt.
        """
        return self._after_prompt(self._template.thought[0]) if self._template.thought else []

    def parts(self, text: str) -> tuple[str | None, str]:
        """Thinking and content of what the model wrote after `prompt()`."""
        return thinking.split(text, opened=thinking.opened_at(self._done or "") is not None)

    def reply(
        self, text: str, ids: Sequence[int], thought: str | None = None, calls: tuple[ToolCall, ...] = ()
    ) -> None:
        """Append the assistant's turn after `prompt()`.

        Args:
            text: its content.
            ids: the generated tokens, with or without the end-of-turn token.
            thought: its thinking.
            calls: the tool calls that it makes beside the text.
        """
        content = calls_text(text, calls) if calls else text
        self.messages.append(Message(role="assistant", content=content, thinking=thought, tool_calls=calls))
        closing = [] if ids and ids[-1] == self._template.end_id else [self._template.end_id]
        self.ids = self.ids + list(ids) + closing
        try:
            self._done = (self._done or "") + self._template.reply(self.messages, self._done or "")
        except DataError:  # the template does not show the turn as it was written, so the next prompt is made anew
            self._done = None

    def _after_prompt(self, text: str) -> list[int]:
        """Ids of a text that follows the prompt."""
        done, template = self._done or "", self._template
        before = template.tail_ids(done, len(done))
        ids = template.ids(template.tail(done, len(done)) + text)
        if ids[: len(before)] != before:
            raise DataError(f"the tokenizer joins the end of the prompt and {text[:20]!r} into one token")
        return ids[len(before) :]
