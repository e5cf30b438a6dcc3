"""From a trajectory and a tokenizer to token ids, the token span of each step, and the loss mask.

Training, scoring and inference all tokenise here, piece by piece, with a cut before and after each turn of the
assistant. So a step has the same tokens everywhere, and a generated turn keeps the tokens that it was generated with. A
step's tokens are its text and the end-of-turn token; the role header is not part of it (docs/architecture.md,
decision 3). A chat template that rewrites earlier turns, or does not end a turn with a special token, is refused.
`python -m atlas_ray.chat --show RUN_DIR` prints a trajectory with its loss mask in colour.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from atlas_ray.errors import AtlasError, DataError, ModelError
from atlas_ray.trajectory import Message, Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """A tokenised trajectory."""

    ids: list[int]
    """Token ids of the whole conversation up to the end of its last step."""
    spans: list[tuple[int, int]]
    """Half-open token span of each step, in order: its text and its end-of-turn token."""


def encode(trajectory: Trajectory, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Tokenise a trajectory up to the end of its last step.

    Raises:
        DataError: it has no step.
        ModelError: the chat template cannot be used (see `Conversation`).
    """
    if not trajectory.n_steps:
        raise DataError(f"trajectory {trajectory.trajectory_id}: it has no step; drop it from the input")
    conversation = Conversation(tokenizer)
    spans = []
    for message in trajectory.messages:
        if message.step is None:
            conversation.add(message)
        else:
            conversation.prompt()
            start = len(conversation.ids)
            conversation.reply(message.content)
            spans.append((start, len(conversation.ids)))
    return Encoded(conversation.ids, spans)


def loss_mask(encoded: Encoded, steps: Iterable[int]) -> list[bool]:
    """True at the tokens of `steps`, which are the labels; as long as `encoded.ids`.

    Raises:
        DataError: a step is out of range.
    """
    mask = [False] * len(encoded.ids)
    for step in steps:
        if not 0 <= step < len(encoded.spans):
            raise DataError(f"step {step} is out of range: the trajectory has {len(encoded.spans)} steps")
        start, end = encoded.spans[step]
        mask[start:end] = [True] * (end - start)
    return mask


class Conversation:
    """A conversation that is tokenised incrementally.

    Call `add` with messages, then `prompt()` for the ids to generate from, then `reply` with the generated text.

    Args:
        tokenizer: with a chat template.

    Raises:
        ModelError: the template does not end an assistant turn with a special token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.messages: list[Message] = []
        self.ids: list[int] = []
        self._end = end_of_turn(tokenizer)
        self._done = ""  # the rendered text that `ids` encodes

    def add(self, message: Message) -> None:
        """Append a turn that is not a reply."""
        self.messages.append(message)

    def prompt(self) -> list[int]:
        """All ids up to and including the header of the assistant's next turn."""
        text = self._render(self.messages, header=True)
        if not text.startswith(self._done):
            raise ModelError(
                "the chat template rewrites earlier turns when the conversation goes on (thinking templates do); "
                "training on several steps of one conversation needs a template that keeps history"
            )
        self.ids = self.ids + _tokenise(self.tokenizer, text[len(self._done) :])
        self._done = text
        return self.ids

    def reply(self, text: str, ids: Sequence[int] | None = None) -> None:
        """Append the assistant's turn after `prompt()`.

        Args:
            text: its content.
            ids: the generated tokens, with or without the end-of-turn token; None tokenises `text`.
        """
        self.messages.append(Message(role="assistant", content=text))
        rendered = self._render(self.messages, header=False)
        tail = rendered[len(self._done) :]
        content = next((form for form in (text, text.strip()) if tail.lstrip(" ").startswith(form)), None)
        if not rendered.startswith(self._done) or content is None:
            raise ModelError(
                f"the chat template changes the assistant's text {text[:60]!r}; its tokens would not be known"
            )
        end = tail.find(self._end, tail.index(content) + len(content))
        if end < 0:
            raise ModelError(f"the chat template does not end this turn with {self._end!r}")
        own = tail[: end + len(self._end)]
        if ids is None:
            self.ids = self.ids + _tokenise(self.tokenizer, own)
        else:
            closing = _tokenise(self.tokenizer, self._end)
            ended = list(ids[-len(closing) :]) == closing
            self.ids = self.ids + list(ids) + ([] if ended else closing)
        self._done += own

    def _render(self, messages: Sequence[Message], *, header: bool) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=header))
        except Exception as error:  # templates raise whatever their author chose
            raise ModelError(f"the chat template refuses this conversation: {error}") from error


@lru_cache(maxsize=16)
def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """The special token with which the template ends an assistant turn.

    Raises:
        ModelError: there is none.
    """
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "ATLAS-RAY"}]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    tail = text[text.index("ATLAS-RAY") + len("ATLAS-RAY") :]
    added = {str(token) for token in tokenizer.get_added_vocab()} | set(tokenizer.all_special_tokens)
    found = [(tail.find(token), token) for token in added if token and token in tail]
    if not found:
        raise ModelError(
            "the chat template ends an assistant turn with no special token; a model could not learn to stop"
        )
    return min(found)[1]


def _tokenise(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _show(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.text import Text

    from atlas_ray.models import load_tokenizer, resolve
    from atlas_ray.store import Store

    store = Store(arguments.show)
    shown = {trajectory.trajectory_id: trajectory for trajectory in store.read_trajectories()}
    steps_of: dict[str, Iterable[int]] = {key: range(trajectory.n_steps) for key, trajectory in shown.items()}
    if arguments.selection:
        steps_of = {row.trajectory_id: row.steps for row in store.read_selections(arguments.selection) if row.steps}
    known = [key for key in shown if key in steps_of]
    if not known:
        raise DataError(f"{arguments.show}: the selection {arguments.selection!r} has no step of any trajectory")
    key = arguments.id or known[0]
    if key not in known:
        where = f"the selection {arguments.selection!r}" if arguments.selection else "the trajectories"
        raise DataError(f"{arguments.show}: no {key!r} in {where}; the first is {known[0]!r}")
    chosen, steps = shown[key], steps_of[key]
    tokenizer = load_tokenizer(resolve(arguments.model))
    encoded = encode(chosen, tokenizer)
    mask = loss_mask(encoded, steps)
    text = Text()
    for token, label in zip(encoded.ids, mask, strict=True):
        text.append(str(tokenizer.decode([token])), style="bold black on green" if label else "dim")
    console = Console()
    console.print(text)
    console.print(
        f"\n{chosen.trajectory_id}: {sum(mask)} of {len(mask)} tokens carry loss, steps {sorted(steps)} of "
        f"{chosen.n_steps} ({arguments.selection or 'all'})",
        style="bold",
    )


def main() -> None:
    """Print a trajectory with its loss mask in colour."""
    parser = argparse.ArgumentParser(prog="python -m atlas_ray.chat", description=main.__doc__)
    parser.add_argument("--show", nargs="?", const="runs/quickstart", required=True, metavar="RUN_DIR",
                        help="run directory [runs/quickstart]")  # fmt: skip
    parser.add_argument("--id", help="trajectory id [the first that has steps]")
    parser.add_argument("--selection", help="name of the selection whose steps carry the loss [all steps]")
    parser.add_argument(
        "--model", default="smollm2-135m-instruct", help="model whose tokenizer and template are used [%(default)s]"
    )
    try:
        _show(parser.parse_args())
    except AtlasError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
