"""Evaluate models: owed episodes only, appended as they finish, then `results.json`.

What an episode depends on is hashed into its key, so a rerun after any kill plays only what is owed, and another
checkpoint under the same name is evaluated anew. Aggregation is `metrics.py`'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from atlas_ray import agenttraj
from atlas_ray.config import PipelineConfig
from atlas_ray.environments import registry
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.errors import ConfigError
from atlas_ray.evaluation import metrics
from atlas_ray.progress import Progress, say
from atlas_ray.rollout.driver import run_episodes
from atlas_ray.rollout.episode import EpisodeSpec
from atlas_ray.rollout.player import Agent, Player, playing
from atlas_ray.store import Store, content_hash
from atlas_ray.trajectory import Episode, Message


def evaluated_environments(config: PipelineConfig) -> list[str]:
    """The environments to evaluate in, `all` spelled out.

    Raises:
        ConfigError: one is unknown.
    """
    chosen = config.evaluate.environments
    known = registry.names()
    for name in chosen:
        if name != "all" and name.removeprefix("remote:") not in known:
            raise ConfigError(f"evaluate.environments: no environment {name!r}; known are {', '.join(known)}")
    named = [name for name in chosen if name != "all"]
    return list(dict.fromkeys([*(known if "all" in chosen else ()), *named]))


def cards(config: PipelineConfig, names: Sequence[str]) -> dict[str, EnvironmentCard]:
    """The cards of environments, made with the configured options."""
    return {name: registry.card(name, **config.environments.get(name, {})) for name in names}


def episode_specs(
    config: PipelineConfig, model: str, model_key: str, cards: Mapping[str, EnvironmentCard]
) -> list[EpisodeSpec]:
    """What to play for one model: the first test tasks of each environment, `repeats` times each.

    Raises:
        DataError: `evaluate.instructions` cannot be read.
    """
    settings = config.evaluate
    openings = _openings(settings.instructions) if settings.instructions else {}
    return [
        EpisodeSpec(
            model=model, model_key=model_key, env=name, task=task, split="test", seed=config.seed + repeat,
            options=config.environments.get(name, {}), opening=openings.get(name, ()),
            temperature=settings.temperature, max_new_tokens=settings.max_new_tokens,
            give_up_after=settings.give_up_after, calls_per_step=settings.calls_per_step,
            token_budget=settings.token_budget, deadline_s=config.rollout.deadline_s,
        )
        for name, card in cards.items()
        for task in range(min(settings.tasks, card.n_test))
        for repeat in range(settings.repeats)
    ]  # fmt: skip


def _openings(pattern: str) -> dict[str, tuple[Message, ...]]:
    """Instruction and acknowledgement per environment, from imported trajectories (DESIGN.md, decision 10)."""
    openings: dict[str, tuple[Message, ...]] = {}
    for trajectory in agenttraj.read(pattern):
        first, second = trajectory.messages[:2]
        if second.step is None:
            openings.setdefault(trajectory.env, (first, second))
    return openings


def evaluate(config: PipelineConfig, store: Store, agent: Agent) -> dict[str, Any]:
    """Play what is owed of one model and write `evaluation/<model>/results.json`.

    Args:
        config: of the run.
        store: its run directory.
        agent: the model.

    Returns:
        The content of `results.json`.
    """
    model = agent.name
    known = cards(config, evaluated_environments(config))
    specs = episode_specs(config, model, agent.key, known)
    finished = _finished(store, model, list(known))
    owed = [spec for spec in specs if spec.key not in finished]
    if owed:
        progress = Progress(f"evaluate {model}", len(specs), "episodes", done=len(specs) - len(owed))
        with playing(agent, config.engine) as player:
            finished |= _play(config, store, owed, player, progress)
    episodes: dict[str, list[Episode]] = {name: [] for name in known}
    for spec in specs:
        episodes[spec.env].append(finished[spec.key])
    for name, every in episodes.items():
        lost = Counter(episode.error for episode in every if episode.error is not None)
        if lost:
            reason = lost.most_common(1)[0][0]
            say(f"  evaluate {model}: {name}: {lost.total()} of {len(every)} episodes failed: {reason}")
        full = sum(episode.stop == "context" for episode in every)
        if full:
            say(f"  evaluate {model}: {name}: {full} of {len(every)} episodes ended with a full context")
    config_hash = content_hash(sorted(spec.key for spec in specs))
    table: dict[str, Any] = metrics.results(model, config_hash, episodes, known)
    store.write_json(table, "evaluation", model, "results.json")
    return table


def _play(
    config: PipelineConfig, store: Store, owed: Sequence[EpisodeSpec], player: Player, progress: Progress
) -> dict[str, Episode]:
    episodes: dict[str, Episode] = {}

    def detail() -> str:
        return f"{sum(episode.success for episode in episodes.values())} of {len(episodes)} successful"

    for episode in run_episodes(owed, player, config.rollout):
        store.append([episode.model_dump(mode="json")], "evaluation", episode.model, f"{episode.env}.jsonl")
        episodes[episode.key] = episode
        progress.add(1, detail)
    return episodes


def _finished(store: Store, model: str, names: Sequence[str]) -> dict[str, Episode]:
    """Episodes that earlier runs finished without an error, by key."""
    return {
        row["key"]: Episode.model_validate(row)
        for name in names
        for row in store.journal("evaluation", model, f"{name}.jsonl")
        if row["error"] is None
    }
