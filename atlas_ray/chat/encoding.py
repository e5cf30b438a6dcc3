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
from concurrent.futures import Future, ThreadPoolExecutor
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
_Rows = list[Rendering] | DataError
"""What a trajectory's template gives: its rows, or why it refuses."""
_Tokenised = tuple[list[int], "Encoding | None"]
"""Ids of a text, and where they come from in it; None for a tokenizer that does not tell."""


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
    template = template_of(tokenizer)
    rendered = [_attempt(template, trajectory)]
    [found] = _assembled(template, [trajectory], rendered, _tokenise(tokenizer, _texts(rendered)))
    if isinstance(found, DataError):
        raise found
    return found


def encode_all(trajectories: Iterable[Trajectory], tokenizer: PreTrainedTokenizerBase) -> Iterator[Encoded | DataError]:
    """`encode` of each trajectory, in batches; a trajectory that cannot be encoded gives its error.

    Raises:
        ModelError: the chat template cannot be used at all.
    """
    template, stream = template_of(tokenizer), iter(trajectories)
    before: tuple[list[Trajectory], list[_Rows], Future[list[_Tokenised]]] | None = None
    with ThreadPoolExecutor(1) as pool:  # the tokenizer works on one batch while the template renders the next
        while batch := list(islice(stream, _BATCH)):
            rendered = [_attempt(template, trajectory) for trajectory in batch]
            now = batch, rendered, pool.submit(_tokenise, tokenizer, _texts(rendered))
            if before is not None:
                yield from _assembled(template, before[0], before[1], before[2].result())
            before = now
        if before is not None:
            yield from _assembled(template, before[0], before[1], before[2].result())


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


def _attempt(template: Template, trajectory: Trajectory) -> _Rows:
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


def _texts(rendered: Sequence[_Rows]) -> list[str]:
    return [row.text for rows in rendered if not isinstance(rows, DataError) for row in rows]


def _tokenise(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[_Tokenised]:
    if not texts:
        return []
    found = tokenizer(
        texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )
    return list(zip(found["input_ids"], found.encodings or [None] * len(texts), strict=True))


def _assembled(
    template: Template,
    trajectories: Sequence[Trajectory],
    rendered: Sequence[_Rows],
    tokenised: Sequence[_Tokenised],
) -> Iterator[Encoded | DataError]:
    """The trajectories of a batch from their rendered rows and the tokens of these."""
    tokens = iter(tokenised)
    for trajectory, rows in zip(trajectories, rendered, strict=True):
        if isinstance(rows, DataError):
            yield rows
            continue
        pieces = [(row, *next(tokens)) for row in rows]
        try:
            yield _assemble(template, trajectory, pieces)
        except DataError as error:
            yield _named(trajectory, error)


def _assemble(
    template: Template, trajectory: Trajectory, pieces: Sequence[tuple[Rendering, list[int], Encoding | None]]
) -> Encoded:
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    rows: list[tuple[int, int]] = []
    for row, row_ids, encoding in pieces:
        offset = len(ids)
        for span in row.spans:
            start, stop = _span(template, row.text, span, row_ids, encoding)
            spans.append((offset + start, offset + stop))
        ids = row_ids if not ids else ids + row_ids
        rows.append((offset, len(ids)))
    return Encoded(ids, spans, rows, template.controls_in(trajectory.messages))


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
        first = encoding.char_to_token(begin)
        if first is None:  # a tokenizer may drop characters: the first that it kept is in the step's first token
            found = (encoding.char_to_token(place) for place in range(begin + 1, end))
            first = next((token for token in found if token is not None), len(ids))
        start = first
        last = encoding.char_to_token(end - 1)
        stop = len(ids) if last is None else last + 1
        header = template.tail_ids(text, begin)
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
