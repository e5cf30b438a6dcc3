"""Trajectories for the selection tests."""

from __future__ import annotations

from atlas_ray.trajectory import Message, Trajectory


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
