"""Step preferences: at one state, an action whose episodes end better than those of another, beyond chance.

The rollouts of `value` begin before every step of a trajectory and go on with the same policy. Those from before step t
try other actions there; those from before step t + 1 follow the expert's action at t. So every action at a state has
outcomes of its own: rollouts from before t by the action that they took first, and for the expert's also all rollouts
from before t + 1. After the expert's last step nothing is left to luck: its own outcome counts as often as the state
was played.

The best action of a state is set against every one that did worse. The difference is established where `exact_p` is at
most `max_p`, against the rollouts of the other action, or against those of all other actions there together; each pair
is tested alone. Pairs like these are what IPR (2406.11176), ETO (2403.02502) and CSO (2602.03412)
train on. Pure; where rollouts come from is in `evaluation/fork_journal.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from math import comb, fsum
from typing import Literal, NamedTuple

from atlas_ray.config import DpoConfig
from atlas_ray.react import ActionRule, last_line, parse_reply
from atlas_ray.trajectory import Alternative, Message, StepPreference, Trajectory


class Rollout(NamedTuple):
    """A finished episode from before a step."""

    reply: Message
    """The first that the policy gave."""
    score: float


class Forks(NamedTuple):
    """The finished rollouts of one trajectory."""

    trajectory: Trajectory
    rollouts: Mapping[int, Sequence[Rollout]]
    """By the step that they begin before, in the order of their samples."""
    outcome: float | None
    """The environment's score after the trajectory's last step; None where nobody knows."""
    rule: ActionRule
    """How its environment reads a reply."""


def preferences(forks: Forks, steps: Collection[int], options: DpoConfig) -> list[StepPreference]:
    """The established preferences of one trajectory, by step; of a step's worse actions the worst comes first.

    Args:
        forks: of the trajectory.
        steps: at which preferences are wanted.
        options: `max_p` and `against` count here.
    """
    trajectory, found = forks.trajectory, []
    for turn, message in enumerate(trajectory.messages):
        if message.step is None or message.step not in steps:
            continue
        ranked = _actions(forks, message.step, message)
        if not ranked or ranked[0].action is None:
            continue  # a reply without an action teaches nothing, however its episodes ended
        best, others = ranked[0], ranked[:0:-1]
        rest = [score for other in others for score in other.scores]
        for other in (other for other in others if other.value < best.value):
            p_value = exact_p(best.scores, other.scores if options.against == "each" else rest)
            if p_value <= options.max_p:
                found.append(
                    StepPreference(
                        trajectory_id=trajectory.trajectory_id, env=trajectory.env, item_id=trajectory.item_id,
                        step=message.step, history=trajectory.messages[:turn], better=best.shown(highest=True),
                        worse=other.shown(highest=False), p_value=p_value,
                    )
                )  # fmt: skip
    return found


def exact_p(better: Sequence[float], worse: Sequence[float]) -> float:
    """One-sided exact p-value that `better` comes from higher scores: the rank-sum test with mid-ranks for ties.

    The share of all ways to deal the scores into two groups of these sizes whose rank sum is at least as high. Where
    every score is 0 or 1 this is Fisher's exact test.

    Args:
        better: scores, at least one.
        worse: scores, at least one.
    """
    ways, below = {(0, 0): 1}, 0
    ranks: dict[float, int] = {}
    for score, many in sorted(Counter([*better, *worse]).items()):
        ranks[score] = 2 * below + many + 1  # twice the mid-rank of the tied scores, a whole number
        below += many
        grown: Counter[tuple[int, int]] = Counter()
        for (size, total), count in ways.items():
            for taken in range(min(many, len(better) - size) + 1):
                grown[size + taken, total + taken * ranks[score]] += count * comb(many, taken)
        ways = grown
    observed = sum(ranks[score] for score in better)
    as_high = sum(count for (size, total), count in ways.items() if size == len(better) and total >= observed)
    return as_high / comb(below, len(better))


class _Action(NamedTuple):
    """An action at a state, with the replies that took it and the scores that followed."""

    action: str | None
    rollouts: list[Rollout]
    """In which the policy took it, in the order of samples."""
    expert: Message | None
    """The expert's step, if the action is its."""
    scores: list[float]
    """Of all episodes that took the action."""

    @property
    def value(self) -> float:
        """Their mean."""
        return fsum(self.scores) / len(self.scores)

    def shown(self, *, highest: bool) -> Alternative:
        """The expert's reply, else the first of the policy's with the highest score, or with the lowest."""
        reply = self.expert
        if reply is None:
            reply = (max if highest else min)(self.rollouts, key=lambda rollout: rollout.score).reply
        by: Literal["expert", "policy"] = "policy" if self.expert is None else "expert"
        return Alternative(reply=reply, action=self.action, value=self.value, count=len(self.scores), by=by)


def _actions(forks: Forks, step: int, expert: Message) -> list[_Action]:
    """Every action that was taken at a state, the best one first; `expert` is the trajectory's own step there."""
    samples = forks.rollouts.get(step, ())
    after = [rollout.score for rollout in forks.rollouts.get(step + 1, ())]
    if step == forks.trajectory.n_steps - 1 and forks.outcome is not None:
        after = [forks.outcome] * len(samples)
    found: dict[str | None, _Action] = {}
    if after:
        action = _experts_action(expert.content, forks)
        found[action] = _Action(action, [], expert, after)
    for rollout in samples:
        action = parse_reply(rollout.reply.content, forks.rule).action
        taken = found.setdefault(action, _Action(action, [], None, []))
        taken.rollouts.append(rollout)
        taken.scores.append(rollout.score)
    return sorted(
        found.values(),
        key=lambda each: (-each.value, -len(each.scores), each.expert is None, each.action is None, each.action or ""),
    )


def _experts_action(text: str, forks: Forks) -> str | None:
    """The action of a trajectory's own step; imports have some without a label, which a replay takes too."""
    action = parse_reply(text, forks.rule).action
    if action is None and forks.trajectory.is_imported and "action:" not in text.lower():
        action = last_line(text)
    return action
