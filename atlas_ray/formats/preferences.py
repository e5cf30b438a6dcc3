"""Writing step preferences: TRL's conversational preference rows (which axolotl reads too), NeMo-Gym's pivot rows,
LLaMA-Factory's ranking rows and verl's rows of prompts.

A row of TRL and LLaMA-Factory is a pair of replies. A row of NeMo-Gym and verl is a state with the action that a reply
is rewarded for, the better one; the worse one goes along as a fact. Only the better action counts there, so two pairs
of one state would be one row twice: the caller gives such a format one preference a state.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from atlas_ray.react import ActionRule, parse_reply
from atlas_ray.trajectory import Message, StepPreference


def to_trl(preference: StepPreference) -> dict[str, Any]:
    """A row of TRL's conversational preference datasets with an explicit prompt (TRL, dataset formats)."""
    better, worse = preference.better, preference.worse
    return {
        "prompt": _turns(preference.history), "chosen": _turns([better.reply]), "rejected": _turns([worse.reply]),
        "score_chosen": better.value, "score_rejected": worse.value, **facts(preference),
    }  # fmt: skip


AXOLOTL_DPO = """\
rl: dpo
datasets:
  - path: {path}
    ds_type: json
    split: train
    type: chat_template.default
    field_messages: prompt
    field_chosen: chosen
    field_rejected: rejected
"""
"""The section of an axolotl config that reads TRL's rows (axolotl's docs, RLHF, chat_template.default)."""


def to_llamafactory(preference: StepPreference) -> dict[str, Any]:
    """A row of a sharegpt ranking dataset (LLaMA-Factory, data/README, preference dataset)."""
    names = {"user": "human", "assistant": "gpt"}
    return {
        "conversations": [
            {"from": names[message.role], "value": message.content}
            for message in preference.history
            if message.role != "system"
        ],
        "chosen": {"from": "gpt", "value": preference.better.reply.content},
        "rejected": {"from": "gpt", "value": preference.worse.reply.content},
        "system": "\n\n".join(message.content for message in preference.history if message.role == "system"),
        **facts(preference),
    }


LLAMAFACTORY_DATASET = """\
"critical_steps": {{
  "file_name": "{path}",
  "formatting": "sharegpt",
  "ranking": true,
  "columns": {{"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "system": "system"}}
}}
"""
"""The entry of LLaMA-Factory's dataset_info.json for the file."""

AGENT = "single_step_tool_use_with_argument_comparison_agent"
"""NeMo-Gym's agent that compares one action with the expected one."""
_TOOL = {
    "type": "function",
    "name": "act",
    "description": "Take one action in the environment.",
    "parameters": {
        "type": "object",
        "properties": {"action": {"type": "string", "description": "The action, as the instructions describe it."}},
        "required": ["action"],
        "additionalProperties": False,
    },
    "strict": True,
}


def to_pivot(preference: StepPreference, rule: ActionRule) -> dict[str, Any]:
    """A pivot row of NeMo-Gym (PivotRL, 2603.21383): a state, and the action that a reply is compared with.

    NeMo-Gym's server gives every text the full reward where a text is expected, so actions are calls of one tool,
    `act(action)`: in the expected action as in the history, whose observations answer the calls.

    Args:
        preference: whose better action has been read.
        rule: how the environment reads actions.
    """
    return {
        "responses_create_params": {
            "input": _calls(preference.history, rule), "tools": [_TOOL], "tool_choice": "auto",
            "parallel_tool_calls": False,
        },
        "expected_action": {"type": "function_call", "name": "act", "arguments": _arguments(preference.better.action)},
        "agent_ref": {"type": "responses_api_agents", "name": AGENT},
        "worse_action": preference.worse.action, "value_expected": preference.better.value,
        "value_worse": preference.worse.value, **facts(preference),
    }  # fmt: skip


def _calls(history: Sequence[Message], rule: ActionRule) -> list[dict[str, Any]]:
    """A conversation as input items of OpenAI's Responses: thoughts are messages, actions are calls of `act`."""
    items: list[dict[str, Any]] = []
    open_call: str | None = None
    for turn, message in enumerate(history):
        if message.step is not None and (reply := parse_reply(message.content, rule)).action is not None:
            if reply.thought:
                items.append(_text("assistant", reply.thought))
            open_call = f"call_{turn}"
            items.append(
                {"type": "function_call", "call_id": open_call, "name": "act", "arguments": _arguments(reply.action)}
            )
        elif open_call is not None and message.role == "user":
            items.append({"type": "function_call_output", "call_id": open_call, "output": message.content})
            open_call = None
        else:
            items.append(_text(message.role, message.content))
    return items


def _text(role: str, content: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


def _arguments(action: str | None) -> str:
    return json.dumps({"action": action}, ensure_ascii=False)


def to_verl(preference: StepPreference, index: int) -> dict[str, Any]:
    """A row of verl's datasets of prompts, with the better action as ground truth (verl, prepare data).

    Args:
        preference: whose better action has been read.
        index: of the row.
    """
    return {
        "data_source": f"atlas_ray/{preference.env}",
        "prompt": [{"role": message.role, "content": message.content} for message in preference.history],
        "ability": "agent",
        "reward_model": {"style": "rule", "ground_truth": preference.better.action},
        "extra_info": {
            "split": "train", "index": index, "worse_action": preference.worse.action,
            "value_better": preference.better.value, "value_worse": preference.worse.value, **facts(preference),
        },
    }  # fmt: skip


_TEXTS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
VERL_SCHEMA = pa.schema(
    [
        ("data_source", pa.string()), ("prompt", _TEXTS), ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct([
            ("split", pa.string()), ("index", pa.int64()), ("worse_action", pa.string()),
            ("value_better", pa.float64()), ("value_worse", pa.float64()), ("trajectory_id", pa.string()),
            ("env", pa.string()), ("step", pa.int64()), ("count_better", pa.int64()), ("count_worse", pa.int64()),
            ("p_value", pa.float64()),
        ])),
    ]
)  # fmt: skip
"""Of verl's Parquet files."""


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Chat messages; thinking stands in the field that chat templates read."""
    return [
        {"role": message.role, "content": message.content}
        | ({} if message.thinking is None else {"reasoning_content": message.thinking})
        for message in messages
    ]


def facts(preference: StepPreference) -> dict[str, Any]:
    """What a row says of its preference besides what the format asks for."""
    return {
        "trajectory_id": preference.trajectory_id, "env": preference.env, "step": preference.step,
        "count_better": preference.better.count, "count_worse": preference.worse.count, "p_value": preference.p_value,
    }  # fmt: skip


def one_a_state(preferences: Sequence[StepPreference]) -> list[StepPreference]:
    """The first preference of every state, the one with the worst action."""
    first: dict[tuple[str, int], StepPreference] = {}
    for preference in preferences:
        first.setdefault((preference.trajectory_id, preference.step), preference)
    return list(first.values())
