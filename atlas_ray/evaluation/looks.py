"""How often a model looks where it could act: the actions of evaluated episodes that `TextEnv.looks` lists.

Episodes are replayed by their actions alone, without a model. Environments that start a process of their own, or that
run elsewhere, are left out: replaying them would cost as much as the evaluation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from atlas_ray.environments import registry
from atlas_ray.environments.contract import TextEnv
from atlas_ray.environments.remote import PREFIX
from atlas_ray.react import parse_reply
from atlas_ray.trajectory import Episode


def count_looks(episodes: Iterable[Episode], options: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Looks and steps of finished episodes, by environment: `{"maze": {"looks": 3, "steps": 40}}`.

    Args:
        episodes: of one model; those with an error are ignored.
        options: of each environment, as the episodes were played.
    """
    by_env: dict[str, list[Episode]] = {}
    for episode in episodes:
        if episode.error is None and not episode.env.startswith(PREFIX):
            by_env.setdefault(episode.env, []).append(episode)
    found = {}
    for name, played in sorted(by_env.items()):
        with contextlib.closing(registry.make(name, **options.get(name, {}))) as env:
            if not env.card.isolated:
                looks = [_looks(env, episode) for episode in played]
                found[name] = {"looks": sum(looks), "steps": sum(episode.rounds for episode in played)}
    return found


def _looks(env: TextEnv, episode: Episode) -> int:
    env.reset(seed=episode.seed, options={"task": episode.task, "split": episode.split})
    count = 0
    for message in episode.messages:
        if message.step is None or not env.running:
            continue
        action = parse_reply(message.content, env.card.action_rule).action
        if action is not None:
            count += action in env.looks()
            env.step(action)
    return count
