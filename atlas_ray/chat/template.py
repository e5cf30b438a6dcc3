"""A tokenizer's chat template: what a model is given before a step, and what it must write there, as text.

Both are asked of the template itself, with the messages up to the step and nothing else, so they are what the model
sees at inference. A template that keeps history gives one text with all steps. A template that rewrites earlier turns
(thinking templates drop earlier thoughts) gives a text of its own for each step. Where a template shows the time, it
shows `models.TEMPLATE_DATE`.

Thinking is given to the template in the field that it reads, else in the content. A template that never shows any
(those of DeepSeek-R1's distills) is completed by the form that DeepSeek documents. A turn that ends without a token of
its own (GLM's) ends with the token that opens the user's next turn, at which such models stop. Left out: token ids
(`encoding.py`), and what a template writes around the texts of a conversation (`layout.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from atlas_ray.chat import layout, thinking
from atlas_ray.chat.calls import ANSWERED, CALLED, OFFERED, PROBE, mark_of
from atlas_ray.chat.layout import Layout
from atlas_ray.chat.spelling import Speller, speller
from atlas_ray.errors import DataError, ModelError
from atlas_ray.models import TEMPLATE_DATE
from atlas_ray.react import action_begin
from atlas_ray.tool_calls import calls_of, chat_turns, offered, spoken
from atlas_ray.trajectory import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK, _THOUGHT_MARK = "ATLAS-RAY", "ATLAS-THOUGHT"
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
        thinks: turns thinking on or off where the template has a switch (Qwen3's and GLM's `enable_thinking`, others'
            `thinking`); None leaves it as the template has it. Off, no thinking is shown to it either.

    Raises:
        ModelError: the template refuses a plain user turn with a reply, does not end a reply with a special token, or
            does not write the header of the reply when it is asked to.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, thinks: bool | None = None) -> None:
        self.tokenizer = tokenizer
        self.thinks = thinks
        self._switch = {} if thinks is None else {"enable_thinking": thinks, "thinking": thinks}
        self._shows: Literal["field", "content", "nothing"] = "content"
        """How the template takes the thinking of a turn."""
        self._closing = ""
        """What ends an assistant turn that the template leaves open."""
        self.knows_tools = False
        """Whether the template shows functions on offer, calls and their answers; else they are shown as text."""
        turns = [Message(role="user", content="u"), Message(role="assistant", content=_MARK)]
        try:
            plain, prompt, whole = self.render(turns[:1]), self.render(turns[:1], header=True), self.render(turns)
        except DataError as error:
            raise ModelError(f"{error}; it cannot be used at all") from error
        if turns[1].content not in whole:
            raise ModelError("the chat template leaves out the assistant's text; there is nothing to learn from")
        before, _, after = whole.rpartition(turns[1].content)
        added = {number: token for number, token in tokenizer.added_tokens_decoder.items() if str(token).strip()}
        if not after.strip():
            after = self._closing = self._opening_of_users(turns)
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
        self._closing = self._closing and self.end
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
        self._stops = {str(token) for token in known.values() if token.special}.difference(
            (thinking.OPEN, thinking.CLOSE)
        ) | {self.end}
        self._first_letters = {text[0] for text in self.controls}
        # A token that is looked for in the normalised text does not cut the text before it is normalised.
        cutting = sorted((str(token) for token in known.values() if not token.normalized), key=len, reverse=True)
        self._cuts = re.compile("|".join(map(re.escape, cutting)) or "(?!)")
        self._usual: tuple[str, list[int]] = "", []
        self._layouts: dict[tuple[tuple[str, bool], ...], Layout | None] = {}
        self._shows = self._shown(turns[0])
        self.knows_tools = self._shows_tools()
        self.thought = self._thought(turns[0], prompt)
        """What a model writes before and after its thinking, where it does not go on from the prompt's; None where it
        does not think: the template shows none, or takes it for a part of the content and `thinks` does not demand it.
        """

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, in which control tokens count as such."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    @cached_property
    def speller(self) -> Speller | None:
        """See `spelling.speller`."""
        return speller(self.tokenizer)

    def cut(self, text: str, end: int) -> int:
        """Where the last control token before `end` begins, else 0; the ids before it do not depend on what follows."""
        for begin in (max(0, end - _NEAR), 0):
            if found := [match.start() for match in self._cuts.finditer(text, begin, end)]:
                return found[-1]
        return 0

    def tail(self, text: str, end: int) -> str:
        """`text[:end]` from its last control token on; the ids before that token do not depend on what follows it."""
        return text[self.cut(text, end) : end]

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
        tools = {"tools": offered(messages)} if self.knows_tools and any(each.tools for each in messages) else {}
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [turn for message in messages for turn in self._turns(message)], tokenize=False,
                    add_generation_prompt=header, strftime_now=TEMPLATE_DATE.strftime, **tools, **self._switch,
                )
            )  # fmt: skip
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
        # What is thought at a step stands in no layout, unless the template takes it for a part of the content.
        is_plain = (
            self._shows == "content"
            or self.thinks is False
            or all(thinking.parts(message)[0] is None for message in messages)
        )
        if is_plain and (laid_out := self._layout(messages)) is not None:
            text = self._ended(messages)
            if (spans := laid_out.spans(text, [self._turn(message)["content"] for message in messages])) is not None:
                return [Rendering(text[: spans[-1][1]], spans)]
        return self._by_step(messages)

    def reply(self, messages: Sequence[Message], prompt: str) -> str:
        """What a model writes after `prompt` if the last message is its reply; it ends with the end-of-turn token.

        Raises:
            DataError: the template changes the reply, or writes it otherwise than it asks for it.
        """
        text, last = self._ended(messages), messages[-1]
        thought, content = thinking.parts(last)
        said = content.strip()
        end = text.rfind(self.end)
        body = text[: max(end, 0)].rstrip()
        if self.knows_tools and last.tool_calls:
            said = ""  # some templates show no text beside a call
            is_whole = all(call.name in body for call in last.tool_calls)
        else:
            is_whole = body.endswith(said)
        if not is_whole:
            raise DataError(f"the chat template changes the assistant's text {said[:60]!r}; its tokens are not known")
        stop = end + len(self.end)
        opened = thinking.opened_at(prompt)
        if end >= len(prompt) and text.startswith(prompt):
            return (self._unshown(thought, prompt) if opened is None else "") + text[len(prompt) : stop]
        if self._shows == "nothing" and opened is not None:
            asked = prompt[:opened]
            if end >= opened and text.startswith(asked):
                return self._unshown(thought, prompt) + text[opened:stop]
        header = self.tail(prompt, len(prompt))
        begin = text.rfind(header, 0, len(body) - len(said))
        written = text[begin + len(header) : stop]
        if begin < 0 or not header or self.end in written[: -len(self.end)]:
            raise DataError(
                f"the chat template asks for a reply after {header[-40:]!r}, but does not write that before the reply "
                f"{said[:40]!r}; what a model would be given and what it should write do not fit together"
            )
        return self._unshown(thought, prompt) + written

    def controls_in(self, messages: Sequence[Message]) -> Counter[str]:
        """Control tokens that the texts contain.

        Raises:
            DataError: a step contains one, which would be a second stop in it.
        """
        found: Counter[str] = Counter()
        whole = "\n".join([f"{turn['content']}{turn['thinking'] or ''}" for turn in map(vars, messages)])
        if not any(letter in whole for letter in self._first_letters):  # most trajectories have none
            return found
        for message in messages:
            text = "\n".join(part for part in thinking.parts(message) if part)
            if not any(letter in text for letter in self._first_letters):
                continue
            inside = {token: text.count(token) for token in self.controls}
            inside = {token: count for token, count in inside.items() if count}
            if message.step is not None and (stops := sorted(inside.keys() & self._stops)):
                raise DataError(
                    f"step {message.step} contains the control token {stops[0]!r}, which ends or begins a turn for the "
                    "model; remove it from the text"
                )
            found.update(inside)
        return found

    @cached_property
    def written_call(self) -> str:
        """The reply that makes the call of `calls.PROBE`, without its end-of-turn token.

        Raises:
            ModelError: the template knows no tool calls.
        """
        if not self.knows_tools:
            raise ModelError(
                "the chat template knows no tool calls; set evaluate.action_format to react, or take another model"
            )
        asked, called, _ = PROBE
        return self.reply([asked, called], self.render([asked], header=True)).removesuffix(self.end)

    def action_begin(self, text: str) -> int:
        """Where the action begins in a step's text: at its first tool call, else see `react.action_begin`."""
        mark = self._call_mark
        return text.find(mark) if mark and mark in text else action_begin(text)

    @cached_property
    def _call_mark(self) -> str:
        """What stands before a tool call; empty where nothing is known to."""
        return mark_of(self.written_call, self.controls) if self.knows_tools else ""

    def _turns(self, message: Message) -> list[dict[str, Any]]:
        """A message as the template takes it: one turn, or one for each answer to a tool call."""
        if not self.knows_tools or not (message.tool_calls or message.tool_results or message.tools):
            return [self._turn(message)]
        if message.role != "assistant":
            return chat_turns(message, parsed=True)
        thought, content = thinking.parts(message)
        says = spoken(message.model_copy(update={"content": content}))
        turn = self._turn(Message(role=message.role, content=says, thinking=thought))
        return [turn | calls_of(message.tool_calls, parsed=True)]

    def _turn(self, message: Message) -> dict[str, Any]:
        """A message as the template takes it."""
        thought, content = thinking.parts(message)
        if thought is None or self.thinks is False or self._shows == "nothing":
            return {"role": message.role, "content": content}
        if self._shows == "field":
            return {"role": message.role, "content": content, "reasoning_content": thought, "thinking": thought}
        return {"role": message.role, "content": thinking.joined(thought, content)}

    def _ended(self, messages: Sequence[Message]) -> str:
        """The text of a conversation whose last turn is the assistant's, up to the end of that turn at least."""
        return self.render(messages) + self._closing

    def _unshown(self, thought: str | None, prompt: str) -> str:
        """The thinking that a model writes and that its template does not show."""
        if self._shows != "nothing":
            return ""
        if self.thinks is False:
            thought = None
        opened = thinking.opened_at(prompt)
        if opened is None:
            return "" if thought is None else thinking.joined(thought, "")
        if not thought:  # a line break after the prompt's would be one token with it
            return f"{thinking.CLOSE}\n\n"
        return thinking.joined(thought, "").removeprefix(prompt[opened:]).removeprefix(thinking.OPEN)

    def _opening_of_users(self, turns: Sequence[Message]) -> str:
        """What stands between the assistant's text and that of the user's next turn; empty if there is no telling."""
        try:
            text = self.render([*turns, Message(role="user", content="ATLAS-NEXT")])
        except DataError:
            return ""
        return text.rpartition(_MARK)[2].partition("ATLAS-NEXT")[0]

    def _shows_tools(self) -> bool:
        asked, called, answered = PROBE
        self.knows_tools = True
        try:
            text = self.render([asked, called, answered, Message(role="assistant", content=_MARK)])
            self.reply([asked, called], self.render([asked], header=True))
        except DataError:  # it refuses calls, or ends them with another token than a turn
            return False
        return all(mark in text for mark in (OFFERED, CALLED, ANSWERED))

    def _shown(self, user: Message) -> Literal["field", "content", "nothing"]:
        turn = Message(role="assistant", content=_MARK, thinking=_THOUGHT_MARK)
        for self._shows in ("field", "content"):
            try:
                if _THOUGHT_MARK in self.render([user, turn]):
                    return self._shows
            except DataError:  # the template refuses the field, or the marks
                continue
        return "nothing"

    def _thought(self, user: Message, prompt: str) -> tuple[str, str] | None:
        if self._shows == "content" and not self.thinks:
            return None
        turn = Message(role="assistant", content=_MARK, thinking=_THOUGHT_MARK)
        try:
            before, found, after = self.reply([user, turn], prompt).partition(_THOUGHT_MARK)
        except DataError:  # raised anew for the conversations that need it
            return None
        return (before, after.partition(_MARK)[0]) if found else None

    def _by_step(self, messages: Sequence[Message]) -> list[Rendering]:
        seen = []
        for index, message in enumerate(messages):
            if message.step is not None:
                prompt = self.render(messages[:index], header=True)
                seen.append((prompt, prompt + self.reply(messages[: index + 1], prompt)))
        if all(prompt.startswith(before) for (_, before), (prompt, _) in pairwise(seen)):
            return [Rendering(seen[-1][1], [(len(prompt), len(text)) for prompt, text in seen])]
        return [Rendering(text, [(len(prompt), len(text))]) for prompt, text in seen]

    def _layout(self, messages: Sequence[Message]) -> Layout | None:
        """How the template lays out a conversation of these roles; None: only step by step."""
        if self.knows_tools and any(each.tool_calls or each.tool_results or each.tools for each in messages):
            return None
        shape = tuple((message.role, message.step is not None) for message in messages)
        if shape not in self._layouts:
            self._layouts[shape] = self._lay_out(messages)
        return self._layouts[shape]

    def _lay_out(self, messages: Sequence[Message]) -> Layout | None:
        try:
            first, *others = self._by_step(layout.marked(messages))
        except DataError:
            return None  # raised anew, with its cause, for the conversation itself
        return None if others else layout.layout_of(first.text, first.spans, messages)

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


@lru_cache(maxsize=16)
def _template(tokenizer: PreTrainedTokenizerBase, source: str, thinks: bool | None) -> Template:
    del source  # part of the key: a template may be changed
    return Template(tokenizer, thinks)


def template_of(tokenizer: PreTrainedTokenizerBase, thinks: bool | None = None) -> Template:
    """The template of a tokenizer, made once; see `Template`."""
    return _template(tokenizer, str(tokenizer.chat_template), thinks)


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """The special token with which the template ends an assistant turn.

    Raises:
        ModelError: see `Template`.
    """
    return template_of(tokenizer).end
