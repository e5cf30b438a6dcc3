"""Writing AgentTraj-L, AgentGym's JSON files of trajectories. Reading is in `turns.py`.

A file is one JSON list of `{"conversations": [{"from", "loss", "value"}, ...], "item_id"}` (AgentGym README). `loss` is
null for a human turn, false for an acknowledgement and true for a step. A written file has `loss` true only at the
chosen steps, so that any trainer that honours the flag trains on them alone. The flag cannot hold the weight of a
step. Thinking stands in the text, between `<think>` and `</think>`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from atlas_ray.chat.thinking import joined
from atlas_ray.trajectory import Trajectory


def to_row(trajectory: Trajectory, chosen: Collection[int]) -> dict[str, Any]:
    """One item of a file, with `loss` true at the chosen steps."""
    turns = []
    for message in trajectory.messages:
        human = message.role != "assistant"
        loss = None if human else message.step is not None and message.step in chosen
        text = message.content if message.thinking is None else joined(message.thinking, message.content)
        turns.append({"from": "human" if human else "gpt", "loss": loss, "value": text})
    return {"conversations": turns, "item_id": trajectory.item_id}
