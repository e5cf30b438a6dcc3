"""Looks are counted in episodes as they were played, by the environment's own word for what a look is."""

from __future__ import annotations

import pytest

from atlas_ray.environments import registry
from atlas_ray.environments.styles import ExpertStyle
from atlas_ray.evaluation.looks import count_looks
from atlas_ray.rollout.episode import play
from atlas_ray.rollout.policy import reference_policy
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.trajectory import Episode

OPTIONS = {"textcraft": {"depths": [1, 2], "distractors": 2, "max_rounds": 30}, "babyai": {"max_rounds": 40}}


def episodes(env: str, style: str) -> list[Episode]:
    """The expert's, in a style, of four test tasks with a seed of its own."""
    made = registry.make(env, **OPTIONS[env])
    specs = [
        EpisodeSpec("expert", "expert", env, task, "test", 7, options=OPTIONS[env], expert=ExpertStyle(style=style))
        for task in range(4)
    ]
    return [play(made, lambda env, spec: reference_policy("expert", env, spec), spec) for spec in specs]


@pytest.mark.parametrize("env", sorted(OPTIONS))
def test_looks_are_the_habits_of_an_expert_that_looks(env: str) -> None:
    played = episodes(env, "checks")
    habits = sum(kind == "habit" for episode in played for kind in episode.kinds or ())
    assert habits > 3
    assert count_looks(played, OPTIONS) == {env: {"looks": habits, "steps": sum(e.rounds for e in played)}}
    assert count_looks(episodes(env, "plain"), OPTIONS)[env]["looks"] == 0


def test_failed_episodes_and_environments_elsewhere_are_left_out() -> None:
    [one, *_] = episodes("textcraft", "checks")
    failed = one.model_copy(update={"stop": "error", "error": "EngineError: died"})
    elsewhere = one.model_copy(update={"env": "remote:textcraft"})
    assert count_looks([failed, elsewhere], OPTIONS) == {}
