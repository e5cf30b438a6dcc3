"""Step preferences out of rollouts: the exact test, which actions are compared, and what is written for each."""

from __future__ import annotations

from itertools import combinations
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.config import DpoConfig
from atlas_ray.selection.preferences import Forks, Rollout, exact_p, preferences
from atlas_ray.trajectory import Message
from tests.selection.data import trajectory

SCORES = st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=1, max_size=6)


def reply(text: str) -> Message:
    return Message(role="assistant", content=text, step=0)


def forks(*samples: list[tuple[str, float]], outcome: float | None = 1.0, n_steps: int = 2) -> Forks:
    """Rollouts from before each step; an action stands for a whole reply."""
    rollouts = {
        step: [
            Rollout(reply(f"Thought: {k}\nAction: {action}" if action else ""), score)
            for k, (action, score) in enumerate(of)
        ]
        for step, of in enumerate(samples)
    }
    return Forks(trajectory(0, n_steps), rollouts, outcome, "one")


def test_fishers_test_of_successes() -> None:
    assert exact_p([1.0] * 5, [0.0] * 5) == pytest.approx(1 / comb(10, 5))
    assert exact_p([1.0] * 5, [0.0] * 2) == pytest.approx(1 / comb(7, 2))
    # 3 of 4 against 1 of 4, the tea of Fisher's lady: (16 + 1) / 70
    assert exact_p([1, 1, 1, 0], [1, 0, 0, 0]) == pytest.approx(17 / 70)
    assert exact_p([0.5], [0.5]) == exact_p([0.0], [1.0]) == 1.0


@given(better=SCORES, worse=SCORES)
def test_it_is_the_share_of_ways_to_deal_the_scores(better: list[float], worse: list[float]) -> None:
    every = sorted([*better, *worse])
    rank = {score: every.index(score) + (every.count(score) + 1) / 2 for score in every}
    sums = [sum(rank[every[i]] for i in dealt) for dealt in combinations(range(len(every)), len(better))]
    observed = sum(rank[score] for score in better)
    assert exact_p(better, worse) == pytest.approx(sum(found >= observed for found in sums) / len(sums))


def test_the_experts_action_is_judged_by_the_rollouts_that_follow_it() -> None:
    # The expert's steps are `get 0 logs` and `get 1 logs`. Its first is followed by five successes.
    found = preferences(forks([("look", 0.0)] * 5, [("get 1 logs", 1.0)] * 5), {0, 1}, DpoConfig(max_p=0.05))
    [first] = found
    assert (first.step, first.better.by, first.better.action) == (0, "expert", "get 0 logs")
    assert (first.better.value, first.better.count) == (1.0, 5)
    assert first.better.reply.content == trajectory(0, 2).steps[0].content
    assert (first.worse.action, first.worse.value, first.worse.count, first.worse.by) == ("look", 0.0, 5, "policy")
    assert first.worse.reply.content == "Thought: 0\nAction: look"
    assert first.p_value == pytest.approx(1 / comb(10, 5))
    assert first.history == trajectory(0, 2).messages[:3]
    assert first.history[-1].role == "user"


def test_rollouts_that_took_the_experts_action_count_for_it() -> None:
    [one] = preferences(
        forks([("get 0 logs", 1.0), ("look", 0.0)], [("wait", 1.0), ("wait", 0.0)]), {0}, DpoConfig(max_p=1.0)
    )
    assert (one.better.count, one.better.value) == (3, pytest.approx(2 / 3))


def test_after_the_last_step_the_outcome_is_certain() -> None:
    [one] = preferences(forks([("look", 0.0)], [("wait", 0.0)] * 4 + [("get 1 logs", 1.0)]), {1}, DpoConfig(max_p=0.05))
    assert (one.step, one.better.count, one.worse.count) == (1, 6, 4)
    assert preferences(forks([("look", 0.0)], [("wait", 0.0)] * 4, outcome=None), {1}, DpoConfig(max_p=1.0)) == []


def test_a_policys_action_can_be_the_better_one_and_shows_its_best_reply() -> None:
    tried = [("dig", 0.5), ("dig", 1.0), ("dig", 1.0), ("look", 0.5), ("look", 0.0)]
    found = preferences(forks(tried, [("wait", 0.0)] * 5), {0}, DpoConfig(max_p=1.0))
    assert [each.worse.action for each in found] == ["get 0 logs", "look"]  # the worst first
    assert {each.better.reply.content for each in found} == {"Thought: 1\nAction: dig"}
    assert found[0].worse.by == "expert"
    assert found[1].worse.reply.content == "Thought: 4\nAction: look"


def test_a_reply_without_an_action_is_never_the_better_one() -> None:
    assert preferences(forks([("", 1.0)] * 5, [("wait", 0.0)] * 5), {0}, DpoConfig(max_p=1.0)) == []
    [one] = preferences(forks([("", 0.0)] * 5, [("wait", 1.0)] * 5), {0}, DpoConfig(max_p=0.05))
    assert (one.worse.action, one.worse.reply.content) == (None, "")


def test_only_established_differences_at_the_wanted_steps() -> None:
    tried = forks([("look", 0.0)] * 2, [("wait", 1.0)] * 2)
    assert preferences(tried, {0}, DpoConfig(max_p=0.05)) == []  # 1 in 6 by chance
    assert len(preferences(tried, {0}, DpoConfig(max_p=0.2))) == 1
    assert preferences(tried, (), DpoConfig(max_p=1.0)) == preferences(forks(), {0, 1}, DpoConfig(max_p=1.0)) == []
    assert preferences(forks([("look", 1.0)] * 5, [("wait", 1.0)] * 5), {0}, DpoConfig(max_p=0.5)) == []


def test_against_the_rest_of_what_a_policy_does() -> None:
    # Five actions that fail once each: none of them is shown to be worse, all of them together are.
    tried = forks([(f"look {k}", 0.0) for k in range(4)] + [("dig", 1.0)], [("wait", 1.0)] * 5)
    assert preferences(tried, {0}, DpoConfig()) == []
    found = preferences(tried, {0}, DpoConfig(against="rest"))
    assert sorted(str(each.worse.action) for each in found) == ["look 0", "look 1", "look 2", "look 3"]
    assert {each.p_value for each in found} == {6 / comb(10, 5)}  # `dig` succeeded too
    assert {each.better.action for each in found} == {"get 0 logs"}
