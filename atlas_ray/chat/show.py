"""Shows the labels of a trajectory on its tokens: `python -m atlas_ray.chat --show RUN_DIR`.

The run's configuration says the model, which part of a step carries loss (`train.span`) and whether the model thinks
(`evaluate.thinking.on`): what is shown is what is trained.
The labelled tokens are bold black on green, or stand between ⟦ and ⟧ where `NO_COLOR` is set. The view before training
(`training/preflight.py`) is made by the same function, shortened.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import yaml

from atlas_ray.chat.encoding import encode, loss_mask
from atlas_ray.errors import AtlasError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from atlas_ray.config import PipelineConfig
    from atlas_ray.store import Store

_CONFIG = "config.yaml"
_LABEL, _OTHER, _END = "\x1b[1;30;42m", "\x1b[2m", "\x1b[0m"


def marked(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], labels: Sequence[bool], *, around: int | None = None
) -> str:
    """The text of tokens, with the labelled ones marked.

    Args:
        tokenizer: of the tokens.
        ids: token ids.
        labels: whether each is labelled.
        around: characters of a stretch without labels that are kept next to a label; None keeps all.
    """
    label, other, end = ("⟦", "", "⟧") if os.environ.get("NO_COLOR") else (_LABEL, _OTHER, _END)
    parts = []
    for begin, stop in _runs(labels):
        text = str(tokenizer.decode(ids[begin:stop], clean_up_tokenization_spaces=False))
        if labels[begin]:
            parts.append(f"{label}{text}{end}")
            continue
        if around is not None and len(text) > 2 * around:
            head = text[:around] if begin else ""
            text = f"{head} [... {stop - begin} tokens ...] {text[-around:] if stop < len(ids) else ''}"
        parts.append(f"{other}{text}{end if other else ''}")
    return "".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a trajectory with its loss mask in colour."""
    parser = argparse.ArgumentParser(prog="python -m atlas_ray.chat", description=main.__doc__)
    parser.add_argument("--show", nargs="?", const="runs/quickstart", required=True, metavar="RUN_DIR",
                        help="run directory [runs/quickstart]")  # fmt: skip
    parser.add_argument("--id", help="trajectory id [the first that has steps]")
    parser.add_argument("--selection", help="name of the selection whose steps carry the loss [all steps]")
    parser.add_argument("--model", help="model whose tokenizer and template are used [the run's]")
    try:
        _show(parser.parse_args(argv))
    except AtlasError as error:
        sys.exit(f"error: {error}")


def _show(arguments: argparse.Namespace) -> None:
    from atlas_ray.models import load_tokenizer, resolve
    from atlas_ray.store import Store

    store = Store(arguments.show)
    shown = {trajectory.trajectory_id: trajectory for trajectory in store.read_trajectories(arguments.selection)}
    steps_of: dict[str, Iterable[int]] = {key: range(each.n_steps) for key, each in shown.items() if each.n_steps}
    if arguments.selection:
        steps_of = {row.trajectory_id: row.steps for row in store.read_selections(arguments.selection) if row.steps}
    known = [key for key in shown if key in steps_of]
    where = f"the selection {arguments.selection!r}" if arguments.selection else "the trajectories"
    if not known:
        raise DataError(f"{arguments.show}: {where} hold no step of any trajectory")
    key = arguments.id or known[0]
    if key not in known:
        raise DataError(f"{arguments.show}: no {key!r} in {where}; the first is {known[0]!r}")
    chosen, steps = shown[key], sorted(steps_of[key])
    config = _configuration(store)
    part, thinks = config.train.span, config.evaluate.thinking.on
    tokenizer = load_tokenizer(resolve(arguments.model or config.model))
    encoded = encode(chosen, tokenizer, thinks=thinks)
    mask = loss_mask(encoded, steps, part)
    for shared, begin, end in encoded.paths:
        if any(mask[begin:end]):
            print(marked(tokenizer, encoded.ids[:shared] + encoded.ids[begin:end], [False] * shared + mask[begin:end]))
    print(
        f"\n{chosen.trajectory_id}: {sum(mask)} of {len(mask)} tokens carry loss, steps {steps} of "
        f"{chosen.n_steps} ({arguments.selection or 'all'})"
    )
    if part != "both":
        print(f"train.span is {part}: the {'action' if part == 'thought' else 'thought'} of a step carries no loss")
    if thinks is not None:
        print(f"evaluate.thinking.on is {str(thinks).lower()}: the model is shown {'' if thinks else 'no '}thinking")
    if encoded.controls:
        print(f"control tokens inside texts: {', '.join(f'{text} x {n}' for text, n in encoded.controls.items())}")


def _configuration(store: Store) -> PipelineConfig:
    """Of the run; the defaults where its folder was made without one."""
    from atlas_ray.config_files import made_from

    values = yaml.safe_load(store.read_text(_CONFIG)) if store.exists(_CONFIG) else {}
    return made_from(values, None, store.path(_CONFIG))


def _runs(labels: Sequence[bool]) -> list[tuple[int, int]]:
    """Half-open spans of equal labels."""
    edges = [n for n in range(1, len(labels)) if labels[n] != labels[n - 1]]
    return list(zip([0, *edges], [*edges, len(labels)], strict=True)) if labels else []
