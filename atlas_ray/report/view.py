"""Trajectories and episodes as the page shows them: rounds of thought, action and observation, with their marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from atlas_ray.react import ActionRule, parse_reply
from atlas_ray.report.data import RunData
from atlas_ray.trajectory import Episode, Message, Trajectory

EPISODES_PER_ENVIRONMENT = 3

T = TypeVar("T")


@dataclass(frozen=True)
class Round:
    """One step and what the environment answered."""

    number: int
    thought: str
    action: str | None
    text: str
    """The whole reply, shown when it holds no action."""
    observation: str


@dataclass(frozen=True)
class Conversation:
    """What came before the first step, and the steps."""

    opening: str
    rounds: list[Round]


@dataclass(frozen=True)
class Lane:
    """One method's row of a timeline."""

    method: str
    picked: frozenset[int]
    scores: tuple[float, ...] | None
    """One a step, higher is more critical."""
    categories: dict[int, str]
    note: str
    """The method's plan and reason, or its error."""

    def height(self, step: int) -> float:
        """A step's score in percent of the trajectory's largest, for a bar."""
        if self.scores is None or step >= len(self.scores) or max(self.scores) <= 0:
            return 0.0
        return max(0.0, 100 * self.scores[step] / max(self.scores))


@dataclass(frozen=True)
class Explored:
    """A trajectory with the steps that each method picked."""

    trajectory: Trajectory
    conversation: Conversation
    lanes: list[Lane]

    def pickers(self, step: int) -> list[str]:
        """Methods that picked a step."""
        return [lane.method for lane in self.lanes if step in lane.picked]


@dataclass(frozen=True)
class Pair:
    """The same task played by two models."""

    env: str
    task: int
    seed: int
    sides: list[tuple[str, Episode, Conversation]]


def conversation(messages: Sequence[Message], rule: ActionRule) -> Conversation:
    """Rounds of a conversation; every assistant turn that is a step opens one."""
    opening: list[str] = []
    rounds: list[Round] = []
    for message in messages:
        if message.step is not None:
            reply = parse_reply(message.content, rule)
            rounds.append(Round(message.step, reply.thought, reply.action, message.content, ""))
        elif rounds:
            last = rounds[-1]
            observation = f"{last.observation}\n{message.content}" if last.observation else message.content
            rounds[-1] = Round(last.number, last.thought, last.action, last.text, observation)
        else:
            opening.append(message.content)
    return Conversation("\n\n".join(opening), rounds)


def explored(data: RunData) -> list[Explored]:
    """`report.trajectories` of the trajectories: spread evenly over those with a selection, environments in turn."""
    selected = {row.trajectory_id for rows in data.selections.values() for row in rows}
    pool: dict[str, list[Trajectory]] = {}
    for trajectory in data.trajectories.values():
        if trajectory.trajectory_id in selected or not selected:
            pool.setdefault(trajectory.env, []).append(trajectory)
    wanted = data.config.report.trajectories
    chosen: list[Trajectory] = []
    for position, env in enumerate(sorted(pool)):
        share = (wanted - len(chosen)) // (len(pool) - position)
        chosen += spread(pool[env], share)
    by_id = {method: {row.trajectory_id: row for row in rows} for method, rows in data.selections.items()}
    found = []
    for trajectory in chosen:
        lanes = []
        for method, rows in by_id.items():
            row = rows.get(trajectory.trajectory_id)
            if row is None:
                continue
            categories = dict(zip(row.steps, row.categories or (), strict=False))
            note = row.error or "\n".join(text for text in (row.plan, row.reason) if text)
            lanes.append(Lane(method, frozenset(row.steps), row.scores, categories, note))
        found.append(Explored(trajectory, conversation(trajectory.messages, rule_of(data, trajectory.env)), lanes))
    return found


def episode_pairs(data: RunData) -> list[Pair]:
    """A few test tasks of each environment, base beside the tuned model: its failures first, then what it solved."""
    if not data.tuned or "base" not in data.models:
        return []
    names = ("base", data.tuned[0])
    base, tuned = ({(e.env, e.task, e.seed): e for e in data.models[name].episodes} for name in names)
    found = []
    for env in data.environments:
        keys = sorted(key for key in base.keys() & tuned.keys() if key[0] == env)
        failed = [key for key in keys if not tuned[key].success]
        solved = [key for key in keys if tuned[key].success]
        shown = spread(failed, min(len(failed), EPISODES_PER_ENVIRONMENT - bool(solved)))
        shown += spread(solved, EPISODES_PER_ENVIRONMENT - len(shown))
        for key in shown:
            sides = [
                (name, episode, conversation(episode.messages, rule_of(data, env)))
                for name, episode in zip(names, (base[key], tuned[key]), strict=True)
            ]
            found.append(Pair(*key, sides))
    return found


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` items at even distances, the first one included."""
    count = max(0, min(count, len(items)))
    return [items[i * len(items) // count] for i in range(count)]


def rule_of(data: RunData, env: str) -> ActionRule:
    """How the environment finds the action in a reply; `last` for one without a card."""
    return data.cards[env].action_rule if env in data.cards else "last"
