"""From trajectories and a tokenizer to token ids, the token span of each step, and the loss mask.

The ids are those of the whole rendered conversation, so every token is what its context makes it, and what a model is
given before a step is a prefix of them, token for token. Where a tokenizer would join the end of that prefix and the
start of the step into one token, no ids could be both, and the trajectory is refused. A step's tokens are its text and
the end-of-turn token; the role header is not part of it (docs/architecture.md, decision 3).

With a template that rewrites earlier turns (Qwen3's drops earlier thoughts), each step is a row of its own: what the
model is given at that step and what it writes there, as at inference. These rows are a tree. Its trunk is the row of
the last step, in which each earlier step stands as history shows it; every other row begins like the trunk and ends in
a branch of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from atlas_ray.chat.spelling import Spelled
from atlas_ray.chat.template import Rendering, Template, template_of
from atlas_ray.errors import DataError
from atlas_ray.trajectory import Trajectory

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

Part = Literal["both", "thought", "action"]
_BATCH = 256
_Rendered = list["_Piece"] | DataError
"""What a trajectory's template gives, or why it refuses."""
_Tokenised = tuple[list[int], "Encoding | Spelled | None"]
"""Ids of a text, and where they come from in it; None for a tokenizer that does not tell."""


class Path(NamedTuple):
    """Where a sequence that a model reads and writes lies in `Encoded.ids`."""

    shared: int
    """Number of the trunk's first tokens that it begins with; 0 for the trunk itself."""
    begin: int
    end: int
    """Half-open span of the tokens that follow them."""


class Row(NamedTuple):
    """A sequence that a model reads and writes."""

    ids: list[int]
    spans: dict[int, tuple[int, int]]
    """Half-open token span in `ids` of each of its steps: its text and its end-of-turn token."""
    actions: dict[int, int]
    """Index in `ids` of the first token of the action of each of its steps."""


class _Piece(NamedTuple):
    """What is tokenised of a row."""

    cut: int
    """Characters before it, which the row shares with the trunk; the tokens there do not depend on what follows."""
    text: str
    spans: list[tuple[int, int]]
    """Half-open character span of each step in `text`."""


@dataclass(frozen=True)
class Encoded:
    """A tokenised trajectory."""

    ids: list[int]
    """Token ids of the trunk, then of the branches."""
    spans: list[tuple[int, int]]
    """Half-open token span of each step in `ids`, in order: its text and its end-of-turn token."""
    paths: list[Path] = field(default_factory=list)
    """Of each row: the trunk alone, which holds all steps; or, if the template rewrites earlier turns, a row for each
    step, in order, of which the trunk is the last."""
    controls: Counter[str] = field(default_factory=Counter)
    """Control tokens that the texts contain, with their number."""
    actions: list[int] = field(default_factory=list)
    """Of each step, the index in `ids` of the first token of its action (`react.action_begin`), beside `spans`: what
    stands before it is the thought; the end-of-turn token belongs to the action. A token that holds the end of the
    thought too is the action's."""

    def __iter__(self) -> Iterator[Row]:
        """The rows in full."""
        for shared, begin, end in self.paths:
            back = begin - shared
            own = [n for n, (a, b) in enumerate(self.spans) if begin <= a and b <= end]
            yield Row(
                self.ids[:shared] + self.ids[begin:end],
                {n: (self.spans[n][0] - back, self.spans[n][1] - back) for n in own},
                {n: self.actions[n] - back for n in own},
            )


def encode(trajectory: Trajectory, tokenizer: PreTrainedTokenizerBase, *, thinks: bool | None = None) -> Encoded:
    """Tokenise a trajectory up to the end of its last step.

    Args:
        trajectory: with at least one step.
        tokenizer: with a chat template.
        thinks: see `template.Template`.

    Raises:
        DataError: it has no step, the chat template refuses it, or its tokens cannot be those of inference.
        ModelError: the chat template cannot be used at all (see `template.Template`).
    """
    template = template_of(tokenizer, thinks)
    rendered = [_attempt(template, trajectory)]
    [found] = _assembled(template, [trajectory], rendered, _tokenise(template, _texts(rendered)))
    if isinstance(found, DataError):
        raise found
    return found


def encode_all(
    trajectories: Iterable[Trajectory], tokenizer: PreTrainedTokenizerBase, *, thinks: bool | None = None
) -> Iterator[Encoded | DataError]:
    """`encode` of each trajectory, in batches; a trajectory that cannot be encoded gives its error.

    Raises:
        ModelError: the chat template cannot be used at all.
    """
    template, stream = template_of(tokenizer, thinks), iter(trajectories)
    before: tuple[list[Trajectory], list[_Rendered], Future[list[_Tokenised]]] | None = None
    with ThreadPoolExecutor(1) as pool:  # the tokenizer works on one batch while the template renders the next
        while batch := list(islice(stream, _BATCH)):
            rendered = [_attempt(template, trajectory) for trajectory in batch]
            now = batch, rendered, pool.submit(_tokenise, template, _texts(rendered))
            if before is not None:
                yield from _assembled(template, before[0], before[1], before[2].result())
            before = now
        if before is not None:
            yield from _assembled(template, before[0], before[1], before[2].result())


def loss_mask(encoded: Encoded, steps: Iterable[int], part: Part = "both") -> list[bool]:
    """True at the tokens of `steps`, which are the labels; as long as `encoded.ids`.

    Args:
        encoded: the trajectory.
        steps: of it.
        part: of each step that counts (`train.span`).

    Raises:
        DataError: a step is out of range.
    """
    mask = [False] * len(encoded.ids)
    for step in steps:
        if not 0 <= step < len(encoded.spans):
            raise DataError(f"step {step} is out of range: the trajectory has {len(encoded.spans)} steps")
        start, end = labelled(encoded.spans[step], encoded.actions[step], part)
        mask[start:end] = [True] * (end - start)
    return mask


def labelled(span: tuple[int, int], action: int, part: Part) -> tuple[int, int]:
    """The part of a step that counts; it is empty for a step without a thought with `thought`.

    Args:
        span: half-open token span of the step.
        action: index of the first token of its action, inside the span.
        part: `thought`, `action`, or both.
    """
    start, end = span
    return (action if part == "action" else start), (action if part == "thought" else end)


def _attempt(template: Template, trajectory: Trajectory) -> _Rendered:
    if not trajectory.n_steps:
        return DataError(f"trajectory {trajectory.trajectory_id}: it has no step; drop it from the input")
    try:
        return _pieces(template, template.renderings(trajectory.messages))
    except DataError as error:
        return _named(trajectory, error)


def _named(trajectory: Trajectory, error: DataError) -> DataError:
    named = DataError(f"trajectory {trajectory.trajectory_id}: {error}")
    named.__cause__ = error
    return named


def _pieces(template: Template, renderings: Sequence[Rendering]) -> list[_Piece]:
    """What to tokenise of the rows: the last one in full, of each other one what it does not share with that."""
    trunk = renderings[-1].text
    pieces = []
    for text, spans in ((each.text, each.spans) for each in renderings):
        cut = 0 if text is trunk else template.cut(trunk, min(spans[0][0], _common(trunk, text)))
        pieces.append(_Piece(cut, text[cut:], [(begin - cut, end - cut) for begin, end in spans]))
    return pieces


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Length of the longest common beginning."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if one[least:middle] == other[least:middle] else (least, middle - 1)
    return least


def _texts(rendered: Sequence[_Rendered]) -> list[str]:
    return [piece.text for pieces in rendered if not isinstance(pieces, DataError) for piece in pieces]


def _tokenise(template: Template, texts: list[str]) -> list[_Tokenised]:
    if template.speller is None:
        return _recorded(template, texts)
    found: list[_Tokenised] = []
    for text, ids in zip(texts, template.speller.ids(texts), strict=True):
        places = template.speller.places(text, ids)
        found += _recorded(template, [text]) if places is None else [(ids, places)]
    return found


def _recorded(template: Template, texts: list[str]) -> list[_Tokenised]:
    """With the tokenizer's own record of where its tokens come from."""
    if not texts:
        return []
    found = template.tokenizer(
        texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )
    return list(zip(found["input_ids"], found.encodings or [None] * len(texts), strict=True))


def _assembled(
    template: Template,
    trajectories: Sequence[Trajectory],
    rendered: Sequence[_Rendered],
    tokenised: Sequence[_Tokenised],
) -> Iterator[Encoded | DataError]:
    """The trajectories of a batch from their rendered rows and the tokens of these."""
    tokens = iter(tokenised)
    for trajectory, pieces in zip(trajectories, rendered, strict=True):
        if isinstance(pieces, DataError):
            yield pieces
            continue
        found = [next(tokens) for _ in pieces]
        try:
            yield _assemble(template, trajectory, pieces, found)
        except DataError as error:
            yield _named(trajectory, error)


def _assemble(
    template: Template, trajectory: Trajectory, pieces: Sequence[_Piece], tokenised: Sequence[_Tokenised]
) -> Encoded:
    trunk, of_trunk = tokenised[-1]
    ids = trunk
    spans: list[tuple[int, int]] = []
    paths: list[Path] = []
    actions: list[int] = []
    for piece, (own, encoding) in zip(pieces, tokenised, strict=True):
        found = [_span(template, piece.text, span, own, encoding) for span in piece.spans]
        if piece is pieces[-1]:
            path, back = Path(0, 0, len(trunk)), 0
        else:
            before = _tokens_before(template, pieces[-1].text, piece.cut, of_trunk)
            equal = _common(trunk[before : before + found[0][0]], own)
            path = Path(before + equal, len(ids), len(ids) + len(own) - equal)
            ids, back = ids + own[equal:], path.begin - equal
        spans += [(back + start, back + stop) for start, stop in found]
        actions += [
            back + _action(template, piece.text, span, tokens, encoding)
            for span, tokens in zip(piece.spans, found, strict=True)
        ]
        paths.append(path)
    return Encoded(ids, spans, paths, template.controls_in(trajectory.messages), actions)


def _tokens_before(template: Template, text: str, cut: int, encoding: Encoding | Spelled | None) -> int:
    """Number of tokens before the control token that begins at `cut`."""
    found = None if encoding is None or not cut else encoding.char_to_token(cut)
    return len(template.ids(text[:cut])) if found is None else found


def _action(
    template: Template, text: str, span: tuple[int, int], tokens: tuple[int, int], encoding: Encoding | Spelled | None
) -> int:
    """The first token of a step's action, from its character span and its token span."""
    begin, end = span[0], span[1] - len(template.end)
    place = begin + template.action_begin(text[begin:end])
    if place == begin:
        return tokens[0]
    if encoding is None:
        found = len(template.ids(text[:place]))
    else:
        kept = (encoding.char_to_token(each) for each in range(place, span[1]))
        found = next((token for token in kept if token is not None), tokens[1] - 1)
    return min(max(found, tokens[0]), tokens[1] - 1)


def _span(
    template: Template,
    text: str,
    span: tuple[int, int],
    ids: list[int],
    encoding: Encoding | Spelled | None,
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
