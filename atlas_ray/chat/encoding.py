"""From trajectories and a tokenizer to token ids, the token span of each step, and the loss mask.

The ids are those of the whole rendered conversation, so every token is what its context makes it, and what a model is
given before a step is a prefix of them, token for token. Where a tokenizer would join the end of that prefix and the
start of the step into one token, no ids could be both, and the trajectory is refused. A step's tokens are its text and
the end-of-turn token; the role header is not part of it (docs/architecture.md, decision 3).

With a template that rewrites earlier turns (Qwen3's drops earlier thoughts), each step is a row of its own: what the
model is given at that step and what it writes there, as at inference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from atlas_ray.chat.template import Rendering, Template, template_of
from atlas_ray.errors import DataError
from atlas_ray.trajectory import Trajectory

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

_BATCH = 256


@dataclass(frozen=True)
class Encoded:
    """A tokenised trajectory."""

    ids: list[int]
    """Token ids of all rows, one row after the other."""
    spans: list[tuple[int, int]]
    """Half-open token span of each step in `ids`, in order: its text and its end-of-turn token."""
    rows: list[tuple[int, int]] = field(default_factory=list)
    """Half-open span of each sequence in `ids`. One row: the conversation up to the end of its last step. One row for
    each step, if the template rewrites earlier turns: the conversation as the model sees it there."""
    controls: Counter[str] = field(default_factory=Counter)
    """Control tokens that the texts contain, with their number."""

    def __iter__(self) -> Iterator[tuple[list[int], dict[int, tuple[int, int]]]]:
        """The ids of each row, and the token span in it of each of its steps."""
        for begin, end in self.rows:
            yield (
                self.ids[begin:end],
                {n: (a - begin, b - begin) for n, (a, b) in enumerate(self.spans) if begin <= a and b <= end},
            )


def encode(trajectory: Trajectory, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Tokenise a trajectory up to the end of its last step.

    Raises:
        DataError: it has no step, the chat template refuses it, or its tokens cannot be those of inference.
        ModelError: the chat template cannot be used at all (see `template.Template`).
    """
    [found] = encode_all([trajectory], tokenizer)
    if isinstance(found, DataError):
        raise found
    return found


def encode_all(trajectories: Iterable[Trajectory], tokenizer: PreTrainedTokenizerBase) -> Iterator[Encoded | DataError]:
    """`encode` of each trajectory, in batches; a trajectory that cannot be encoded gives its error.

    Raises:
        ModelError: the chat template cannot be used at all.
    """
    template = template_of(tokenizer)
    stream = iter(trajectories)
    while batch := list(islice(stream, _BATCH)):
        rendered = [_attempt(template, trajectory) for trajectory in batch]
        texts = [row.text for rows in rendered if not isinstance(rows, DataError) for row in rows]
        tokenised = iter(_tokenise(tokenizer, texts))
        for trajectory, rows in zip(batch, rendered, strict=True):
            if isinstance(rows, DataError):
                yield rows
                continue
            pieces = [(row, *next(tokenised)) for row in rows]
            try:
                yield _assemble(template, trajectory, pieces)
            except DataError as error:
                yield _named(trajectory, error)


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


def _attempt(template: Template, trajectory: Trajectory) -> list[Rendering] | DataError:
    if not trajectory.n_steps:
        return DataError(f"trajectory {trajectory.trajectory_id}: it has no step; drop it from the input")
    try:
        return template.renderings(trajectory.messages)
    except DataError as error:
        return _named(trajectory, error)


def _named(trajectory: Trajectory, error: DataError) -> DataError:
    named = DataError(f"trajectory {trajectory.trajectory_id}: {error}")
    named.__cause__ = error
    return named


def _tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[tuple[list[int], Encoding | None]]:
    """Ids of each text, and where they come from in it; None for a tokenizer that does not tell."""
    if not texts:
        return []
    found = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )
    return list(zip(found["input_ids"], found.encodings or [None] * len(texts), strict=True))


def _assemble(
    template: Template,
    trajectory: Trajectory,
    pieces: Sequence[tuple[Rendering, list[int], Encoding | None]],
) -> Encoded:
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    rows: list[tuple[int, int]] = []
    plain = True
    for row, row_ids, encoding in pieces:
        offset = len(ids)
        spans += [
            (offset + start, offset + stop)
            for start, stop in (_span(template, row.text, span, row_ids, encoding) for span in row.spans)
        ]
        ids = row_ids if not ids else ids + row_ids
        rows.append((offset, len(ids)))
        plain = plain and row.controls is not None and template.count_controls(row_ids) == row.controls
    controls: Counter[str] = Counter() if plain else template.controls_in(trajectory.messages)
    return Encoded(ids, spans, rows, controls)


def _span(
    template: Template,
    text: str,
    span: tuple[int, int],
    ids: list[int],
    encoding: Encoding | None,
) -> tuple[int, int]:
    """Token span of a step from its character span, with the proof that it begins and ends between two tokens."""
    begin, end = span
    if encoding is None:
        before, until = template.ids(text[:begin]), template.ids(text[:end])
        start, stop = len(before), len(until)
        is_cut = ids[:start] == before and ids[:stop] == until
    else:
        # A tokenizer may drop characters: the first that it kept is in the step's first token.
        found = (encoding.char_to_token(place) for place in range(begin, end))
        start = next((token for token in found if token is not None), len(ids))
        last = encoding.char_to_token(end - 1)
        stop = len(ids) if last is None else last + 1
        header = template.prompt_tail(text, begin)
        is_cut = ids[max(0, start - len(header)) : start] == header
    if not is_cut:
        raise DataError(
            f"the tokenizer joins the end of the prompt {text[max(0, begin - 12) : begin]!r} and the start of the step "
            f"{text[begin : begin + 20]!r} into one token, which a model that is given the prompt cannot write; remove "
            "white space at the start of the step, or at the end of the template's header"
        )
    if start >= stop or ids[stop - 1] != template.end_id:
        raise DataError(
            f"the end-of-turn token {template.end!r} of the step {text[begin : begin + 20]!r} is no token of its own; "
            "use the tokenizer that belongs to the chat template"
        )
    return start, stop
