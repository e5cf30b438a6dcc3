"""Replays that look for idle steps, and those that put in the expert's steps, in real environments."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.environments import TextEnv, make
from atlas_ray.react import format_reply
from atlas_ray.rollout.episode import EpisodeRecorder
from atlas_ray.rollout.replay import Replay, ReplaySpec, replay
from atlas_ray.trajectory import Message, Trajectory
from tests.rollout.experts import styled_trajectory

NATIVE = ["alfworld", "babyai", "maze", "pddl", "textcraft", "todo", "weather"]
COUNTING = ["jericho", "scienceworld"]
"""Environments whose state counts every action, so that their own list of looks decides."""


def replayed(trajectory: Trajectory, env: TextEnv | None = None, **fields: Any) -> Replay:
    env = env or make(trajectory.env, max_rounds=40)
    with contextlib.closing(env):
        found = replay(env, ReplaySpec(trajectory, frozenset(), **fields), EpisodeRecorder())
    assert found.error is None
    assert found.starts == {}
    return found


def of_kind(trajectory: Trajectory, kind: str) -> set[int]:
    return {step for step, each in enumerate(trajectory.metadata["kinds"]) if each == kind}


@pytest.mark.parametrize("name", [*NATIVE, *COUNTING])
def test_what_changes_nothing_is_what_the_expert_did_out_of_habit(name: str) -> None:
    habits = 0
    for task in [3] if name in COUNTING else [0, 3, 7]:
        trajectory = styled_trajectory(name, task, "checks")
        habit = of_kind(trajectory, "habit")
        assert replayed(trajectory, find_idle=True).unchanged == habit
        assert replayed(trajectory).unchanged == frozenset()
        habits += len(habit)
    assert habits


@pytest.mark.parametrize("name", ["textcraft", "maze"])
def test_slips_and_detours_change_something(name: str) -> None:
    for style in ("slips", "wanders"):
        trajectory = styled_trajectory(name, 3, style)  # type: ignore[arg-type]
        assert set(trajectory.metadata["kinds"]) > {"productive"}
        assert replayed(trajectory, find_idle=True).unchanged == frozenset()


def test_what_is_refused_changes_nothing_and_an_ending_changes_something() -> None:
    trajectory = styled_trajectory("weather", 3, "plain")
    turns = list(trajectory.messages)
    nonsense = ["Thought: What now?\nAction: dance with Action Input: {}", "I have no idea.", "Action: " + "x" * 5000]
    for text in nonsense:
        turns[-2:-2] = [Message(role="assistant", content=text, step=0), Message(role="user", content="No.")]
    steps = iter(range(len(turns)))
    numbered = [each if each.step is None else each.model_copy(update={"step": next(steps)}) for each in turns]
    changed = trajectory.model_copy(
        update={"messages": tuple(numbered), "n_steps": trajectory.n_steps + 3, "source": "a file"}
    )
    last = trajectory.n_steps - 1  # `finish`, after which the log of calls is what it was
    assert replayed(changed, find_idle=True).unchanged == {last, last + 1, last + 2}


def played(name: str, task: int, seed: int, n_steps: int) -> tuple[Trajectory, Any, list[bool]]:
    """Actions at random, valid and not: the trajectory, the last state, and whether each step left another state."""
    draw, env = random.Random(seed), make(name)
    observation, info = env.reset(seed=0, options={"task": task})
    turns, differs = [Message(role="user", content=observation)], []
    for step in range(n_steps):
        if not env.running:
            break
        action = draw.choice([*draw.sample(env.valid_actions(), 3), *env.looks()[:2], "sing", "get 1 thing"])
        before = env.snapshot().inner
        observation, _, terminated, _, info = env.step(action)
        differs.append(terminated or env.snapshot().inner != before)
        turns.append(Message(role="assistant", content=format_reply("Perhaps.", action), step=step))
        turns.append(Message(role="user", content=observation))
    trajectory = Trajectory(
        trajectory_id="t", env=name, item_id="t", source="a file", messages=tuple(turns), n_steps=len(differs),
        reward=info["score"], metadata={"task": task, "seed": 0},
    )  # fmt: skip
    return trajectory, env.snapshot().inner, differs


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["textcraft", "pddl", "maze"]), st.integers(0, 9), st.integers(0, 10**6), st.integers(0, 12))
def test_without_the_steps_that_change_nothing_the_end_is_the_same(name: str, task: int, seed: int, n: int) -> None:
    trajectory, end, differs = played(name, task, seed, n)
    unchanged = replayed(trajectory, make(name), find_idle=True).unchanged
    assert [step not in unchanged for step in range(trajectory.n_steps)] == differs
    env = make(name)
    env.reset(seed=0, options={"task": task})
    for step, message in enumerate(trajectory.steps):
        if step not in unchanged:
            env.step(message.content.partition("Action: ")[2].strip())
    assert env.snapshot().inner == end
    assert env.snapshot().score == trajectory.reward


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["textcraft", "pddl", "maze"]), st.integers(0, 9), st.integers(0, 10**6), st.integers(0, 12))
def test_a_step_repeats_if_its_action_was_taken_in_an_equal_state(name: str, task: int, seed: int, n: int) -> None:
    trajectory, _, _ = played(name, task, seed, n)
    env, before, repeated = make(name), [], set()
    env.reset(seed=0, options={"task": task})
    for step, message in enumerate(trajectory.steps):
        action = message.content.partition("Action: ")[2].strip()
        here = (env.snapshot().inner, action)
        if here in before:
            repeated.add(step)
        before.append(here)
        env.step(action)
    assert replayed(trajectory, make(name), find_idle=True).repeated == repeated


def test_without_native_snapshots_only_looks_leave_the_state_as_it_was() -> None:
    get = "get 4 red sand"
    actions = ["inventory", "inventory", get, "inventory", get, get, "inventory", "sing", "sing"]
    env = make("textcraft")
    turns = [Message(role="user", content=env.reset(seed=0)[0])]
    for step, action in enumerate(actions):
        turns.append(Message(role="assistant", content=format_reply("Perhaps.", action), step=step))
        turns.append(Message(role="user", content=env.step(action)[0]))
    trajectory = Trajectory(
        trajectory_id="t", env="textcraft", item_id="t", source="policy", messages=tuple(turns), n_steps=len(actions),
        metadata={"task": 0, "seed": 0},
    )  # fmt: skip
    for snapshot, refused in (("native", {7, 8}), ("replay", set())):
        env = make("textcraft")
        env._card = env.card.model_copy(update={"snapshot": snapshot})
        found = replayed(trajectory, env, find_idle=True)
        assert found.repeated == {1} | (refused & {8})
        assert found.unchanged == {0, 1, 3, 6} | refused


@pytest.mark.parametrize("name", ["textcraft", "maze", "alfworld"])
def test_the_expert_acts_once_in_a_steps_place(name: str) -> None:
    put_in = 0
    for seed in range(4):
        trajectory = played(name, 0, seed, 6)[0].model_copy(update={"source": "policy"})
        with contextlib.closing(make(name)) as env, contextlib.closing(make(name)) as twin:
            found = replay(env, ReplaySpec(trajectory, by_expert=True), EpisodeRecorder())
            assert found.error is None
            twin.reset(seed=0, options={"task": 0})
            for step, message in enumerate(trajectory.steps):
                turn = trajectory.messages.index(message)
                thought, action = twin.expert().next_action(trajectory.messages[turn - 1].content)
                own = message.content.partition("Action: ")[2].strip()
                assert (step in found.starts) is (action != own)
                if action != own:
                    start, before, put_in = found.starts[step], twin.snapshot(), put_in + 1
                    assert (start.step, start.messages[:-2]) == (step + 1, trajectory.messages[:turn])
                    assert start.messages[-2].content == format_reply(thought, action)
                    assert (start.messages[-1].content, start.state) == (twin.step(action)[0], twin.snapshot())
                    twin.restore(before)
                twin.step(own)
            assert found.outcome == twin.snapshot().score
    assert put_in > 5
