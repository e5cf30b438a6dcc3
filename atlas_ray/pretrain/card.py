"""The model card of a small agent: what it is, what it was made from, and what it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags: [atlas-ray, text-agent, trained-from-scratch]
---
# A small text agent ({family}, {parameters:,} parameters)

A base model for studies of agent tuning. It was trained from scratch, by `python -m atlas_ray.pretrain` of atlas-ray, \
on episodes that the experts of the environments below played on training tasks. It knows these environments and \
nothing else: it is no language model for any other text.

| environment | options | training tasks (numbers) |
|---|---|---|
{environments}

- Data: {trajectories:,} successful episodes, {steps:,} steps, at most {repeats} episodes per task; {tokens:,} tokens \
read in {epochs} epochs.
- Loss: {loss:.4f} nats per token in the last epoch. Tokens of a step weigh 1, all others {observation_weight:g}.
- Tokenizer: byte-level BPE of the same texts, {vocabulary} entries; ChatML template, a turn ends with `<|im_end|>`.
- Training: {seconds:.0f} seconds with {threads} CPU threads, AdamW, learning rate {learning_rate:g} with a cosine \
schedule, {batch_size} episodes per step, seed {seed}.
- `pretrain.json` holds these facts for programs.
"""


def write_card(folder: Path, facts: dict[str, Any], *, seconds: float, threads: int) -> None:
    """Write `README.md`.

    Args:
        folder: the model directory.
        facts: as in `pretrain.json`.
        seconds: that the training took.
        threads: that it took them with.
    """
    settings = facts["settings"]
    rows = [
        f"| {name} | `{json.dumps(settings['options'].get(name, {}))}` | {first} to {end - 1} |"
        for name, (first, end) in sorted(facts["task_ranges"].items())
    ]
    values = {**settings, **facts, "environments": "\n".join(rows), "seconds": seconds, "threads": threads}
    (folder / "README.md").write_text(_CARD.format_map(values))
