"""The texts that a small agent is trained on: plain experts' episodes of training tasks, played in this process.

Whole conversations are collected, of successful episodes alone. Left out: Ray, imports, and experts' habits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atlas_ray.environments import registry
from atlas_ray.errors import ConfigError, DataError
from atlas_ray.pipeline.collect import trajectory_of
from atlas_ray.progress import Progress
from atlas_ray.rollout.episode import play
from atlas_ray.rollout.policy import ExpertPolicy
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.trajectory import Trajectory


def task_range(name: str, count: int, options: Mapping[str, Any]) -> range:
    """The last `count` training tasks of an environment: `collect` takes the first ones, so both can be kept apart.

    Raises:
        ConfigError: there is no such environment or option, or it has fewer training tasks.
    """
    card = registry.card(name, **options)
    if not 0 < count <= card.n_train:
        raise ConfigError(
            f"{name}: {count} tasks asked for, it has {card.n_train} training tasks with options {dict(options)}; "
            f"give a number from 1 to {card.n_train}"
        )
    return range(card.n_train - count, card.n_train)


def collect(
    tasks: Mapping[str, int], options: Mapping[str, Mapping[str, Any]], *, repeats: int, seed: int
) -> list[Trajectory]:
    """The experts' successful episodes, sorted by trajectory id; equal conversations count once.

    Args:
        tasks: number of tasks by environment; see `task_range`.
        options: of the environments, by name.
        repeats: episodes per task, with environment seeds of their own; what a seed draws anew is the environment's.
        seed: the first of the environment seeds.

    Raises:
        ConfigError: see `task_range`.
        DataError: the expert of an environment solves none of its tasks.
    """
    ranges = {name: task_range(name, count, options.get(name, {})) for name, count in sorted(tasks.items())}
    progress = Progress("experts", repeats * sum(map(len, ranges.values())), "episodes")
    found: dict[str, Trajectory] = {}
    for name, numbers in ranges.items():
        known, problem = len(found), "not successful"
        env = registry.make(name, **options.get(name, {}))
        try:
            for task in numbers:
                for repeat in range(repeats):
                    spec = EpisodeSpec(
                        model="expert", model_key="expert", env=name, task=task, split="train", seed=seed + repeat,
                        options=dict(options.get(name, {})),
                    )  # fmt: skip
                    episode = play(env, lambda env, _: ExpertPolicy(env), spec)
                    progress.add()
                    if episode.success:
                        trajectory = trajectory_of(episode)
                        found[trajectory.trajectory_id] = trajectory
                    problem = episode.error or problem
        finally:
            env.close()
        if len(found) == known:
            raise DataError(f"{name}: the expert solves none of {len(numbers)} training tasks ({problem})")
    return [found[key] for key in sorted(found)]
