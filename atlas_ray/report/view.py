"""Conversations as the page shows them: exchanges of thought, action and observation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from atlas_ray.react import ActionRule, parse_reply
from atlas_ray.report.data import RunData
from atlas_ray.trajectory import Message

T = TypeVar("T")


@dataclass(frozen=True)
class Exchange:
    """One step and what the environment answered."""

    number: int
    thought: str
    action: str | None
    text: str
    """The whole reply, shown when it holds no action."""
    observation: str


@dataclass(frozen=True)
class Transcript:
    """The messages before the first step, and the steps."""

    opening: str
    exchanges: list[Exchange]


def conversation(messages: Sequence[Message], rule: ActionRule) -> Transcript:
    """The exchanges of a conversation; every assistant turn that is a step begins one."""
    opening: list[str] = []
    exchanges: list[Exchange] = []
    for message in messages:
        if message.step is not None:
            reply = parse_reply(message.content, rule)
            exchanges.append(Exchange(message.step, reply.thought, reply.action, message.content, ""))
        elif exchanges:
            last = exchanges[-1]
            observation = f"{last.observation}\n{message.content}" if last.observation else message.content
            exchanges[-1] = Exchange(last.number, last.thought, last.action, last.text, observation)
        else:
            opening.append(message.content)
    return Transcript("\n\n".join(opening), exchanges)


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` items at even distances, the first one included."""
    count = max(0, min(count, len(items)))
    return [items[i * len(items) // count] for i in range(count)]


def rule_of(data: RunData, env: str) -> ActionRule:
    """How the environment finds the action in a reply; `last` for one without a card."""
    return data.cards[env].action_rule if env in data.cards else "last"
