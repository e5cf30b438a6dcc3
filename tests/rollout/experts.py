"""Real expert trajectories, played in this process, for tests of what forks off them."""

from __future__ import annotations

import contextlib
from functools import cache

from atlas_ray.environments import registry
from atlas_ray.environments.styles import ExpertStyle, Style
from atlas_ray.pipeline.collect import trajectory_of
from atlas_ray.rollout.episode import play
from atlas_ray.rollout.policy import ExpertPolicy, reference_policy
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.trajectory import Trajectory

OPTIONS = {"textcraft": {"depths": [2], "distractors": 2, "max_rounds": 8}, "wordle": {"max_rounds": 6}}


@cache
def expert_trajectories() -> list[Trajectory]:
    """Six solved TextCraft tasks and two of Wordle."""

    def played(name: str, task: int) -> Trajectory:
        spec = EpisodeSpec("expert", "expert", name, task, "train", 0, options=OPTIONS[name])
        return trajectory_of(play(registry.make(name, **OPTIONS[name]), lambda env, _: ExpertPolicy(env), spec))

    crafted = [trajectory for task in range(20) if (trajectory := played("textcraft", task)).success]
    return crafted[:6] + [played("wordle", task) for task in range(2)]


@cache
def styled_trajectory(name: str, task: int, style: Style, rate: float = 1.0, max_rounds: int = 40) -> Trajectory:
    """A training task solved by an expert with a habit."""
    options, expert = {"max_rounds": max_rounds}, ExpertStyle(style=style, rate=rate)
    spec = EpisodeSpec("expert", "expert", name, task, "train", 0, options=options, expert=expert)
    with contextlib.closing(registry.make(name, **options)) as env:
        return trajectory_of(play(env, lambda env, spec: reference_policy("expert", env, spec), spec), style=expert)
