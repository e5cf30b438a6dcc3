"""A tokenizer's chat template: what a model is given before a step, and what it must write there, as text.

Both are asked of the template itself, with the messages up to the step and nothing else, so they are what the model
sees at inference. A template that keeps history gives one text with all steps. A template that rewrites earlier turns
(thinking templates drop earlier thoughts) gives a text of its own for each step. Where a template shows the time, it
shows `models.TEMPLATE_DATE`. Left out: token ids (`encoding.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from atlas_ray.errors import DataError, ModelError
from atlas_ray.models import TEMPLATE_DATE
from atlas_ray.trajectory import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_THINKING = ("<think>", "</think>")
_NEAR = 200
"""Characters within which the header of an assistant turn usually has a control token."""


@dataclass(frozen=True)
class Rendering:
    """A rendered conversation, or the part of it that a model sees at one of its steps."""

    text: str
    """Ends with the end-of-turn token of its last step."""
    spans: list[tuple[int, int]]
    """Half-open character span of each of its steps: everything that the model writes, end-of-turn token included."""


class Template:
    """A chat template, and what is known of it.

    Args:
        tokenizer: with a chat template.

    Raises:
        ModelError: the template refuses a plain user turn with a reply, does not end a reply with a special token, or
            does not write the header of the reply when it is asked to.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        turns = [Message(role="user", content="u"), Message(role="assistant", content="ATLAS-RAY")]
        try:
            plain, prompt, whole = self.render(turns[:1]), self.render(turns[:1], header=True), self.render(turns)
        except DataError as error:
            raise ModelError(f"{error}; it cannot be used at all") from error
        if turns[1].content not in whole:
            raise ModelError("the chat template leaves out the assistant's text; there is nothing to learn from")
        before, _, after = whole.rpartition(turns[1].content)
        added = {number: token for number, token in tokenizer.added_tokens_decoder.items() if str(token).strip()}
        found = [
            (after.find(str(token)), -len(str(token)), str(token), number)
            for number, token in added.items() if str(token) in after
        ]  # fmt: skip
        if not found:
            raise ModelError(
                "the chat template ends an assistant turn with no special token; a model could not learn to stop"
            )
        *_, self.end, self.end_id = min(found)
        """The special token that ends an assistant turn, and its id."""
        if prompt == plain and before.startswith(prompt) and (header := before[len(prompt) :]).strip():
            raise ModelError(
                f"the chat template ignores add_generation_prompt: it does not write {header!r}, with which an "
                "assistant turn begins, for a model to go on from; add {% if add_generation_prompt %} to it"
            )
        source = str(tokenizer.get_chat_template())
        known = {
            number: token for number, token in added.items()
            if (token.special or str(token) in source or number == self.end_id) and number != tokenizer.unk_token_id
        }  # fmt: skip
        self.controls = [str(token) for token in known.values()]
        """Control tokens: the special ones, and those that the template writes."""
        self._stops = {str(token) for token in known.values() if token.special}.difference(_THINKING) | {self.end}
        self._first_letters = {text[0] for text in self.controls}
        # A token that is looked for in the normalised text does not cut the text before it is normalised.
        cutting = sorted((str(token) for token in known.values() if not token.normalized), key=len, reverse=True)
        self._cuts = re.compile("|".join(map(re.escape, cutting)) or "(?!)")
        self._usual: tuple[str, list[int]] = "", []
        self._layouts: dict[tuple[tuple[str, bool], ...], _Layout | None] = {}

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, in which control tokens count as such."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def tail(self, text: str, end: int) -> str:
        """`text[:end]` from its last control token on; the ids before that token do not depend on what follows it."""
        return text[self._cut(text, end) : end]

    def tail_ids(self, text: str, end: int) -> list[int]:
        """Ids of `tail`."""
        usual, ids = self._usual
        if usual and text.endswith(usual, 0, end):
            return ids
        tail = self.tail(text, end)
        ids = self.ids(tail)
        if not usual and len(tail) <= _NEAR and self._cuts.match(tail):
            self._usual = tail, ids  # the header of the assistant's turns, which recurs
        return ids

    def render(self, messages: Sequence[Message], *, header: bool = False) -> str:
        """The text of a conversation; `header` adds the one of the assistant's next turn.

        Raises:
            DataError: the template refuses the conversation.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=header, strftime_now=TEMPLATE_DATE.strftime
                )
            )
        except Exception as error:  # templates raise whatever their author chose
            said = " ".join(str(error).split())
            raise DataError(f"the chat template refuses the conversation: {said}{self._cause(messages)}") from error

    def renderings(self, messages: Sequence[Message]) -> list[Rendering]:
        """The conversation up to its last step: one text with all steps, or one text for each step.

        Raises:
            DataError: the template refuses the conversation, or changes a reply.
        """
        last = max(index for index, message in enumerate(messages) if message.step is not None)
        messages = messages[: last + 1]
        if (layout := self._layout(messages)) is not None:
            text = self.render(messages)
            if (spans := layout.spans(text, messages)) is not None:
                return [Rendering(text[: spans[-1][1]], spans)]
        return self._by_step(messages)

    def reply(self, messages: Sequence[Message], prompt: str) -> str:
        """What a model writes after `prompt` if the last message is its reply; it ends with the end-of-turn token.

        Raises:
            DataError: the template changes the reply, or writes it otherwise than it asks for it.
        """
        text = self.render(messages)
        end = text.rfind(self.end)
        said = messages[-1].content.rpartition(_THINKING[1])[2].strip()
        body = text[: max(end, 0)].rstrip()
        if not body.endswith(said):
            raise DataError(f"the chat template changes the assistant's text {said[:60]!r}; its tokens are not known")
        stop = end + len(self.end)
        if end >= len(prompt) and text.startswith(prompt):
            return text[len(prompt) : stop]
        header = self.tail(prompt, len(prompt))
        begin = text.rfind(header, 0, len(body) - len(said))
        written = text[begin + len(header) : stop]
        if begin < 0 or not header or self.end in written[: -len(self.end)]:
            raise DataError(
                f"the chat template asks for a reply after {header[-40:]!r}, but does not write that before the reply "
                f"{said[:40]!r}; what a model would be given and what it should write do not fit together"
            )
        return written

    def controls_in(self, messages: Sequence[Message]) -> Counter[str]:
        """Control tokens that the texts contain.

        Raises:
            DataError: a step contains one, which would be a second stop in it.
        """
        found: Counter[str] = Counter()
        for message in messages:
            if not any(letter in message.content for letter in self._first_letters):
                continue
            inside = {token: message.content.count(token) for token in self.controls}
            inside = {token: count for token, count in inside.items() if count}
            if message.step is not None and (stops := sorted(inside.keys() & self._stops)):
                raise DataError(
                    f"step {message.step} contains the control token {stops[0]!r}, which ends or begins a turn for the "
                    "model; remove it from the text"
                )
            found.update(inside)
        return found

    def _cut(self, text: str, end: int) -> int:
        """Where the last control token before `end` begins; 0 if there is none."""
        for begin in (max(0, end - _NEAR), 0):
            if found := [match.start() for match in self._cuts.finditer(text, begin, end)]:
                return found[-1]
        return 0

    def _by_step(self, messages: Sequence[Message]) -> list[Rendering]:
        seen = []
        for index, message in enumerate(messages):
            if message.step is not None:
                prompt = self.render(messages[:index], header=True)
                seen.append((prompt, prompt + self.reply(messages[: index + 1], prompt)))
        if all(prompt.startswith(before) for (_, before), (prompt, _) in pairwise(seen)):
            return [Rendering(seen[-1][1], [(len(prompt), len(text)) for prompt, text in seen])]
        return [Rendering(text, [(len(prompt), len(text))]) for prompt, text in seen]

    def _layout(self, messages: Sequence[Message]) -> _Layout | None:
        """How the template lays out a conversation of these roles; None: only step by step."""
        shape = tuple((message.role, message.step is not None) for message in messages)
        if shape not in self._layouts:
            self._layouts[shape] = self._lay_out(messages)
        return self._layouts[shape]

    def _lay_out(self, messages: Sequence[Message]) -> _Layout | None:
        marks = [f"atlas-{index}-ray" for index in range(len(messages))]
        marked = [message.model_copy(update={"content": mark}) for message, mark in zip(messages, marks, strict=True)]
        try:
            first, *others = self._by_step(marked)
        except DataError:
            return None  # raised anew, with its cause, for the conversation itself
        if others or any(first.text.count(mark) != 1 for mark in marks):
            return None
        places = [first.text.index(mark) for mark in marks]
        if places != sorted(places):
            return None
        ends = [place + len(mark) for place, mark in zip(places, marks, strict=True)]
        between = [first.text[a:b] for a, b in zip([0, *ends], [*places, len(first.text)], strict=True)]
        steps = [index for index, message in enumerate(messages) if message.step is not None]
        margins = {
            index: (places[index] - begin, end - ends[index])
            for index, (begin, end) in zip(steps, first.spans, strict=True)
        }
        return _Layout(between, margins)

    def _cause(self, messages: Sequence[Message]) -> str:
        """What in a refused conversation templates are known to refuse."""
        causes = []
        talk = [index for index, message in enumerate(messages) if message.role != "system"]
        if len(talk) < len(messages):
            causes.append("it has a system turn")
        if talk and messages[talk[0]].role == "assistant":
            causes.append("it begins with the assistant")
        for one, other in pairwise(talk):
            if messages[one].role == messages[other].role:
                causes.append(f"messages {one} and {other} are both the {messages[one].role}'s")
                break
        return f" ({', '.join(causes)})" if causes else ""


@dataclass(frozen=True)
class _Layout:
    """What a template writes between the texts of a conversation."""

    between: list[str]
    margins: dict[int, tuple[int, int]]
    """Characters before and after the text of a message that belong to its step, by the message's index."""

    def spans(self, text: str, messages: Sequence[Message]) -> list[tuple[int, int]] | None:
        """Character span of each step; None where the text is not laid out like this."""
        spans, position = [], 0
        for index, message in enumerate(messages):
            begin = position + len(self.between[index])
            if not text.startswith(self.between[index], position):
                return None
            for form in (message.content, message.content.strip()):  # some templates trim
                position = begin + len(form)
                if text.startswith(form, begin) and text.startswith(self.between[index + 1], position):
                    break
            else:
                return None
            if index in self.margins:
                before, after = self.margins[index]
                spans.append((begin - before, position + after))
        return spans


@lru_cache(maxsize=16)
def _template(tokenizer: PreTrainedTokenizerBase, source: str) -> Template:
    del source  # part of the key: a template may be changed
    return Template(tokenizer)


def template_of(tokenizer: PreTrainedTokenizerBase) -> Template:
    """The template of a tokenizer, made once; see `Template`."""
    return _template(tokenizer, str(tokenizer.chat_template))


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """The special token with which the template ends an assistant turn.

    Raises:
        ModelError: see `Template`.
    """
    return template_of(tokenizer).end
