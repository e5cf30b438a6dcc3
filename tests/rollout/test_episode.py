"""One episode: how it ends and what is recorded. Real environments, scripted policies."""

from __future__ import annotations

import dataclasses
import time

import pytest

from atlas_ray.config import Playing
from atlas_ray.environments import registry
from atlas_ray.errors import EndpointError
from atlas_ray.react import parse_reply
from atlas_ray.rollout.episode import play
from atlas_ray.rollout.policy import ExpertPolicy, PolicyTurn, RandomPolicy
from atlas_ray.rollout.spec import EpisodeSpec, Start
from atlas_ray.trajectory import Message

SPEC = EpisodeSpec(model="m", model_key="k", env="textcraft", task=0, split="train", seed=0, options={"depths": [1]})


class Script:
    """Answers with the given texts, the last one for ever; an exception is raised, a number is slept."""

    def __init__(self, *turns):
        self.turns, self.heard = list(turns), []

    def reply(self, turns, timeout_s):
        self.heard.append([turn.content for turn in turns])
        turn = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        if isinstance(turn, Exception):
            raise turn
        if isinstance(turn, float):
            if turn > timeout_s:
                time.sleep(timeout_s)
                raise TimeoutError
            time.sleep(turn)
            turn = "Action: inventory"
        return PolicyTurn(turn, prompt_tokens=10, completion_tokens=2)


def run(policy, spec=SPEC):
    env = registry.make(spec.env, **spec.options)
    return play(env, policy if callable(policy) else lambda env, spec: policy, spec)


def test_an_expert_episode_is_a_conversation_with_numbered_steps():
    episode = run(lambda env, spec: ExpertPolicy(env))
    assert (episode.stop, episode.success, episode.score, episode.error) == ("done", True, 1.0, None)
    roles = [message.role for message in episode.messages]
    assert roles == ["user", "assistant"] + ["user", "assistant"] * episode.rounds + ["user"]
    assert [m.step for m in episode.messages if m.step is not None] == list(range(episode.rounds))


def test_the_policy_hears_each_turn_once():
    policy = Script("Action: inventory")
    run(policy)
    _, acknowledgement, first = policy.heard[0]
    assert "Goal: craft" in first
    assert acknowledgement.startswith("OK.")
    assert all(len(turns) == 1 for turns in policy.heard[1:])


def test_the_round_cap_ends_an_episode_and_tokens_add_up():
    episode = run(Script("Action: inventory"))
    assert (episode.stop, episode.rounds, episode.success) == ("max_rounds", 20, False)
    assert (episode.prompt_tokens, episode.completion_tokens) == (200, 40)


def test_replies_without_an_action_are_answered_and_count_as_rounds():
    episode = run(Script("I think.", "Action: inventory"))
    assert "No action found" in episode.messages[4].content
    assert episode.rounds == 20


def test_giving_up_needs_so_many_silent_replies_in_a_row():
    spec = dataclasses.replace(SPEC, playing=Playing(give_up_after=2))
    assert run(Script("hm", "Action: inventory", "hm", "hm"), spec).rounds == 4
    assert run(Script("hm"), spec).stop == "no_action"


def test_a_full_context_ends_an_episode_by_name():
    assert run(Script("Action: inventory", None)).stop == "context"


def test_a_slow_policy_meets_the_deadline_as_an_error():
    episode = run(Script(30.0), dataclasses.replace(SPEC, deadline_s=0.2))
    assert (episode.stop, episode.success) == ("deadline", False)
    assert "not finished within" in episode.error


def test_deadlines_count_between_turns_too():
    episode = run(Script(0.6), dataclasses.replace(SPEC, deadline_s=1.0))
    assert (episode.stop, episode.rounds) == ("deadline", 1)


def test_no_reply_begins_beyond_the_token_budget():
    episode = run(Script("Action: inventory"), dataclasses.replace(SPEC, playing=Playing(token_budget=5)))
    assert (episode.stop, episode.rounds, episode.completion_tokens) == ("tokens", 3, 6)
    assert episode.error is None


def test_a_refusal_of_everything_is_no_result_of_one_episode():
    with pytest.raises(EndpointError):
        run(Script(EndpointError("wrong key")))


def test_an_episode_goes_on_from_the_midst_of_a_trajectory():
    whole = run(lambda env, spec: ExpertPolicy(env))
    env = registry.make(SPEC.env, **SPEC.options)
    env.reset(seed=0, options={"task": 0, "split": "train"})
    env.step(parse_reply(whole.messages[3].content, env.card.action_rule).action)
    start = Start("t", 1, whole.messages[:5], env.snapshot())
    spec = dataclasses.replace(SPEC, start=start)
    heard = Script("Action: inventory")
    run(heard, spec)
    assert heard.heard[0] == [message.content for message in whole.messages[:5]]
    rest = run(lambda env, spec: ExpertPolicy(env), spec)
    assert rest.messages == whole.messages[5:]  # its own turns, numbered on
    assert (rest.rounds, rest.success, rest.environment_steps) == (whole.rounds, True, whole.rounds - 1)
    assert spec.key != SPEC.key
    assert dataclasses.replace(spec, sample=1).key != spec.key


def test_a_failure_is_recorded_with_its_kind():
    episode = run(Script("Action: inventory", RuntimeError("engine on fire")))
    assert (episode.stop, episode.error) == ("error", "RuntimeError: engine on fire")
    assert episode.rounds == 1
    missing = dataclasses.replace(SPEC, task=10**6)
    assert "has no task 1000000" in run(Script("x"), missing).error


def test_own_openings_replace_the_cards():
    opening = (Message(role="user", content="Imported."), Message(role="assistant", content="Ok."))
    episode = run(Script("Action: inventory"), dataclasses.replace(SPEC, opening=opening))
    assert episode.messages[:2] == opening


@pytest.mark.parametrize(
    "change",
    [
        {"task": 1},
        {"seed": 1},
        {"split": "test"},
        {"model_key": "j"},
        {"env_version": "2"},
        {"playing": Playing(temperature=0.5)},
        {"playing": Playing(token_budget=9)},
    ],
)
def test_the_key_is_the_hash_of_what_determines_an_episode(change):
    assert dataclasses.replace(SPEC, **change).key != SPEC.key
    same = dataclasses.replace(SPEC, deadline_s=1.0, model="another name", options={})  # env_version stands for these
    assert same.key == SPEC.key


def test_the_random_policy_depends_on_its_seed_alone():
    def policy(env, spec):
        return RandomPolicy(env, spec.key)

    def actions(seed):
        played = [run(policy, dataclasses.replace(SPEC, task=task, seed=seed)) for task in range(5)]
        return [[message.content for message in episode.messages if message.role == "assistant"] for episode in played]

    assert actions(0) == actions(0)
    assert actions(0) != actions(1)
