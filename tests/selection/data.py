"""Trajectories, methods and a selector's answers for the selection tests."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from atlas_ray.config import PipelineConfig, SelectionSpec
from atlas_ray.inference.types import Reply
from atlas_ray.roster import Roster
from atlas_ray.selection.method import SelectionContext, make, method_class
from atlas_ray.store import Store
from atlas_ray.trajectory import Message, Trajectory

RATIOS = st.floats(1e-9, 1) | st.sampled_from([0.1, 0.29, 0.3, 0.7, 1.0])
SIZES = st.integers(0, 40)


def made(method: str, *, ratio: float = 0.3, seed: int = 0, name: str | None = None, **options: Any) -> Any:
    """A method for a selection of that name (None: the method's)."""
    given = method_class(method).Options.model_validate(options)
    return make(SelectionSpec(name or method, method, ratio, given, seed))


def context(config: PipelineConfig, store: Store) -> SelectionContext:
    """Of a run whose checkpoints have their names as keys."""
    return SelectionContext(config, store, Roster(config, lambda name: f"key of {name}", store.path), {})


def trajectory(number: int, n_steps: int, *, observation: str = "Got it.", thought: str = "I need it.") -> Trajectory:
    """A conversation in AgentGym's shape: instruction, "OK.", then observations and steps."""
    messages = [
        Message(role="user", content=f"You craft things. Goal: craft item {number}."),
        Message(role="assistant", content="OK."),
    ]
    for step in range(n_steps):
        messages.append(Message(role="user", content=f"{observation} ({number}.{step})"))
        words = " ".join([thought] * (1 + (number * 7 + step * 3) % 4))
        messages.append(Message(role="assistant", content=f"Thought: {words}\nAction: get {step} logs", step=step))
    messages.append(Message(role="user", content="Done."))
    return Trajectory(
        trajectory_id=f"t{number:04d}", env="textcraft", item_id=f"textcraft_{number}", source="expert",
        messages=tuple(messages), n_steps=n_steps,
    )  # fmt: skip


def answer_of(*steps: Any) -> str:
    entries = [{"step": step, "category": "critical action", "reason": "r"} for step in steps]
    return json.dumps({"plan": "p", "steps": entries})


def reply(text: str, **more: Any) -> Reply:
    fields: dict[str, Any] = {"model": "m", "finish_reason": "stop", "sampling": {"temperature": 0}}
    return Reply(text=text, prompt_tokens=1000, completion_tokens=100, **(fields | more))
