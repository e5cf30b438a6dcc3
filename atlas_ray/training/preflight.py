"""What a person should see before training starts: one example with its labels, and what masks are known to get wrong.

Wrong masks do not stop a training: the loss falls all the same, and evaluation shows it after hours. The counts
themselves are made with the examples (`examples.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atlas_ray.chat import end_of_turn
from atlas_ray.chat.show import marked
from atlas_ray.training.examples import Example, Report

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_AROUND = 160
"""Characters of an observation that are shown beside a step."""
_STEPS = 3
"""Steps that are shown."""


def preflight(examples: Sequence[Example], report: Report, tokenizer: PreTrainedTokenizerBase, directory: str) -> str:
    """The first example with its labels in colour, then counts of labels, end-of-turn tokens and control tokens.

    Args:
        examples: what is trained on; not empty.
        report: of the examples.
        tokenizer: of the model.
        directory: of the model; its settings tell at which tokens an engine stops.
    """
    first, end = examples[0], end_of_turn(tokenizer)
    labels = first.weights > 0
    ends = np.flatnonzero(labels & (first.ids == tokenizer.convert_tokens_to_ids(end))) + 1
    stop = int(ends[:_STEPS][-1]) if len(ends) else len(first.ids)
    more = f"\n[... {len(ends) - _STEPS} more steps ...]" if len(ends) > _STEPS else ""
    lines = [
        f"pre-flight: {first.trajectory_id}, the marked tokens carry loss",
        marked(tokenizer, first.ids[:stop].tolist(), labels[:stop].tolist(), around=_AROUND) + more,
        f"    labelled: {report.labelled_tokens} of {report.tokens} tokens "
        f"({report.labelled_tokens / report.tokens:.1%}); {report.end_tokens} of {report.critical_steps} steps end "
        f"with {end!r}",
    ]
    if report.controls:
        found = ", ".join(f"{token!r} x {count}" for token, count in report.controls.most_common(5))
        lines.append(f"    control tokens inside texts, which the model takes for its own: {found}")
    end_id, stops = tokenizer.convert_tokens_to_ids(end), {tokenizer.eos_token_id, *_stop_ids(Path(directory))}
    if end_id not in stops:
        lines.append(
            f"    engines do not stop at {end!r}, so answers will be cut by their length: add {end_id} to eos_token_id "
            "in the model's generation_config.json"
        )
    return "\n".join(lines)


def _stop_ids(directory: Path) -> set[int]:
    """Token ids at which the model's own settings say to stop."""
    file = directory / "generation_config.json"
    found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    return set() if found is None else set(found) if isinstance(found, list) else {int(found)}
