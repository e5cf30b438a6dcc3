"""Evaluate one model: play the episodes that its journals lack, then write `results.json`.

An episode's key is a hash of everything that determines it. A rerun after a kill therefore plays the missing episodes
alone, and a changed model, setting or environment is evaluated again. The journals are in `ledger.py`, the statistics
in `metrics.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from atlas_ray.config import PipelineConfig
from atlas_ray.environments import registry
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.errors import ConfigError
from atlas_ray.evaluation import items, ledger, metrics
from atlas_ray.formats import files
from atlas_ray.hashing import content_hash
from atlas_ray.progress import Progress, say
from atlas_ray.rollout.driver import run_episodes
from atlas_ray.rollout.player import Engines, ModelSpec, playing
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.roster import RosterEntry
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode, Message, Split


def evaluated_environments(config: PipelineConfig) -> list[str]:
    """The names of the environments to evaluate in; `all` stands for every one. With items: those that have any.

    Raises:
        ConfigError: one is unknown.
        DataError: no item of `evaluate.items` can be evaluated, or a file cannot be read.
    """
    names = chosen_environments(config)
    return names if config.evaluate.items is None else list(items.find(config, names).tasks)


def chosen_environments(config: PipelineConfig) -> list[str]:
    """Those that `evaluate.environments` names, whether they have items or not; errors are those of the above."""
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
    config: PipelineConfig, entry: RosterEntry, cards: Mapping[str, EnvironmentCard]
) -> list[EpisodeSpec]:
    """What to play for one model, `repeats` times each: the items, or the first test tasks of each environment.

    Raises:
        DataError: `evaluate.instructions` or `evaluate.items` cannot be read.
    """
    settings = config.evaluate
    chosen = None if settings.items is None else items.find(config, chosen_environments(config)).tasks
    given = files.Options(config.collect.environments)
    openings = _openings(settings.instructions, given) if settings.instructions else {}
    options = {name: config.environments.get(name, {}) for name in cards}
    versions = {name: registry.version(name, options[name]) for name in cards}
    return [
        EpisodeSpec(
            model=entry.name, model_key=entry.player_key(config.engine), env=name, task=task, split=split,
            seed=config.seed + repeat, playing=settings.playing, options=options[name], env_version=versions[name],
            opening=openings.get(name, ()), deadline_s=config.rollout.deadline_s,
        )
        for name, card in cards.items()
        for split, task in (_first_tests(settings.tasks, card) if chosen is None else chosen.get(name, ()))
        for repeat in range(settings.repeats)
    ]  # fmt: skip


def _first_tests(n: int, card: EnvironmentCard) -> list[tuple[Split, int]]:
    return [("test", task) for task in range(min(n, card.n_test))]


def _openings(pattern: str, options: files.Options) -> dict[str, tuple[Message, ...]]:
    """Instruction and acknowledgement by environment, of imported trajectories (docs/architecture.md, decision 10)."""
    openings: dict[str, tuple[Message, ...]] = {}
    for trajectory in files.read(pattern, options):
        if isinstance(trajectory, files.BadRow) or len(trajectory.messages) < 2:
            continue
        first, second = trajectory.messages[:2]
        if second.role == "assistant" and second.step is None:
            openings.setdefault(trajectory.env, (first, second))
    return openings


def evaluate(config: PipelineConfig, store: Store, entry: RosterEntry, kept: Engines | None = None) -> dict[str, Any]:
    """Play the episodes of one model that its journals lack, and write `evaluation/<model>/results.json`.

    Args:
        config: of the run.
        store: its run directory.
        entry: the model.
        kept: engines that have played other models, and live on; None: its own.

    Returns:
        The content of `results.json`.
    """
    model = entry.name
    known = cards(config, evaluated_environments(config))
    located = None if config.evaluate.items is None else items.find(config, chosen_environments(config))
    for line in () if located is None else located.lines:
        say(f"  evaluate {model}: {line}")
    specs = episode_specs(config, entry, known)
    journaled = ledger.journaled(store, model, known)
    finished = {key: episode for key, episode in journaled.items() if episode.error is None}
    owed = [spec for spec in specs if spec.key not in finished]
    if owed:
        progress = Progress(f"evaluate {model}", len(specs), "episodes", done=len(specs) - len(owed))
        with playing(entry, config.engine, kept) as played_by:
            finished |= _play(config, store, owed, played_by, progress)
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
    table: dict[str, Any] = metrics.results(entry.facts(), config_hash, episodes, known)
    if located is not None:
        table["items"] = located.facts()
    store.write_json(table, "evaluation", model, "results.json")
    return table


def _play(
    config: PipelineConfig, store: Store, owed: Sequence[EpisodeSpec], model: ModelSpec, progress: Progress
) -> dict[str, Episode]:
    episodes: dict[str, Episode] = {}

    def detail() -> str:
        return f"{sum(episode.success for episode in episodes.values())} of {len(episodes)} successful"

    for episode in run_episodes(owed, model, config.rollout):
        ledger.append(store, episode)
        episodes[episode.key] = episode
        progress.add(1, detail)
    return episodes
