"""Writing chat messages: OpenAI's fine-tuning files and axolotl's chat_template datasets. Reading is in `turns.py`.

OpenAI's rows have `messages` of `role` and `content`, axolotl's have `conversations` of `from` and `value`. axolotl's
flag `train` cannot hold the weight of a step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from atlas_ray.tool_calls import chat_turns, offered
from atlas_ray.trajectory import Trajectory


def to_chat(trajectory: Trajectory, weights: Mapping[int, float]) -> dict[str, Any]:
    """A row for OpenAI-style fine-tuning: `weight` at every turn of the assistant, 0 where it is no chosen step.

    Tool calls, their answers and the functions on offer are written as data where the trajectory has them.

    Args:
        trajectory: what to write.
        weights: of the chosen steps, in (0, 1]; a weight of 1 is written as the integer that OpenAI asks for.
    """
    turns: list[dict[str, Any]] = []
    for message in trajectory.messages:
        said = chat_turns(message, parsed=False)
        if message.role == "assistant":
            weight = 0 if message.step is None else weights.get(message.step, 0)
            said[0]["weight"] = int(weight) if weight in (0, 1) else weight
            if message.thinking is not None:
                said[0]["reasoning_content"] = message.thinking
        turns += said
    tools = offered(trajectory.messages)
    return {"messages": turns, "tools": tools} if tools else {"messages": turns}


AXOLOTL_DATASET = """\
datasets:
  - path: {path}
    type: chat_template
    field_messages: conversations
    message_property_mappings: {{role: from, content: value}}
    roles_to_train: []
    train_on_eos: turn
    message_field_training: train
"""
"""The section of an axolotl config that reads the file (axolotl's docs, dataset formats, conversation)."""


def to_axolotl(trajectory: Trajectory, chosen: Collection[int]) -> dict[str, Any]:
    """A row for axolotl's chat_template datasets: `train` is true only at the chosen steps."""
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    turns = [
        {
            "from": names[message.role],
            "value": message.content,
            "train": message.step is not None and message.step in chosen,
        }
        for message in trajectory.messages
    ]
    return {"conversations": turns}
