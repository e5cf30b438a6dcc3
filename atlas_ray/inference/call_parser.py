"""Tool calls in what a model wrote, read by vLLM's own parsers (those of its server's `--tool-call-parser`).

Which parser suits a chat template is found by trying: it must read the call of a conversation that is made for that.
Thinking is taken off first, so that a call which is only thought of is none. Left out: what a call means to an
environment (`environments/calling.py`), and answers that stream.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from atlas_ray.chat.calls import CALL
from atlas_ray.chat.template import template_of
from atlas_ray.chat.thinking import CLOSE
from atlas_ray.errors import ModelError
from atlas_ray.models import load_tokenizer
from atlas_ray.plugins import nearest
from atlas_ray.trajectory import ToolCall

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIRST = ("hermes", "mistral", "qwen3_xml", "glm45", "deepseek_v3", "deepseek_v31", "kimi_k2", "llama3_json")
"""Tried before all others and in this order: some parsers read the calls of others too."""


class CallParser:
    """One of vLLM's parsers, for one tokenizer.

    Args:
        tokenizer: of the model.
        name: as vLLM calls the parser.

    Raises:
        ModelError: vLLM has no such parser, or the parser does not suit the tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        from vllm.tool_parsers import ToolParserManager

        # Each answer that is no whole call would be a traceback in the log; here it is data.
        logging.getLogger("vllm.tool_parsers").setLevel(logging.CRITICAL)
        known = ToolParserManager.list_registered()
        if name not in known:
            raise ModelError(f"engine.tool_parser: vLLM has no parser {name!r}{nearest(name, known)}")
        self._tokenizer, self._class, self.name = tokenizer, ToolParserManager.get_tool_parser(name), name
        try:
            self._class(tokenizer)
        except Exception as error:  # each parser has its own way to say that a token is missing
            raise ModelError(f"engine.tool_parser: vLLM's {name!r} does not suit the tokenizer: {error}") from error

    def read_ids(self, ids: Sequence[int], tools: Sequence[dict[str, Any]]) -> tuple[str, tuple[ToolCall, ...]]:
        """As `read`, of the tokens of a reply, without the end-of-turn token."""
        return self.read(str(self._tokenizer.decode(list(ids), skip_special_tokens=False)).strip(), tools)

    def read(self, text: str, tools: Sequence[dict[str, Any]] = ()) -> tuple[str, tuple[ToolCall, ...]]:
        """What a reply says, its thinking included, and the calls that it makes.

        Args:
            text: of the reply, with its control tokens. What the parser cannot read stays in the text, and is no call.
            tools: the functions on offer; some parsers read the types of arguments there.
        """
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        thinking, mark, content = text.rpartition(CLOSE)
        request = ChatCompletionRequest(messages=[{"role": "user", "content": ""}], model="", tools=list(tools) or None)
        try:
            found = self._class(self._tokenizer, request.tools).extract_tool_calls(content, request)
        except Exception:  # parsers raise many kinds of errors for a text that holds no whole call
            return text, ()
        calls = tuple(
            ToolCall(name=_utf8(call.function.name), arguments=_utf8(call.function.arguments))
            for call in found.tool_calls
        )
        return (thinking + mark + (found.content or "").rstrip(), calls) if calls else (text, ())


@cache
def parser_of(directory: str, wanted: str | None) -> CallParser:
    """The parser for a model directory.

    Args:
        directory: of the model.
        wanted: its name; None: the first that reads a call as the chat template writes it.

    Raises:
        ModelError: the template knows no tool calls, no parser reads them, or `wanted` does not suit.
    """
    tokenizer = load_tokenizer(directory)
    return fitting(tokenizer) if wanted is None else CallParser(tokenizer, wanted)


def fitting(tokenizer: PreTrainedTokenizerBase) -> CallParser:
    """The parser that suits a tokenizer's chat template; see `parser_of`."""
    from vllm.tool_parsers import ToolParserManager

    written = template_of(tokenizer).written_call
    known = ToolParserManager.list_registered()
    for name in (*_FIRST, *(name for name in known if name not in _FIRST)):
        try:
            parser = CallParser(tokenizer, name)
        except ModelError:  # it is another model's
            continue
        said, calls = parser.read(written)
        read = [(call.name, _data(call)) for call in calls]
        if read == [(CALL.name, json.loads(CALL.arguments))] and not said.rpartition(CLOSE)[2].strip():
            return parser
    raise ModelError(
        f"the chat template writes a tool call as {written.strip()[:80]!r}, which no parser of vLLM reads; name "
        "one with engine.tool_parser, or set evaluate.action_format to react"
    )


def _data(call: ToolCall) -> Any:
    try:
        return json.loads(call.arguments)
    except ValueError:
        return None


def _utf8(text: str) -> str:
    """A text without the half characters that JSON's escapes can spell and UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()
