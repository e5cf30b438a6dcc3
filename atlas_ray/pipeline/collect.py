"""Collect trajectories: experts play training tasks on Ray, or files are imported (`imports.py`).

Expert episodes run on the same servers and through the same loop as evaluation. Unsuccessful episodes and episodes with
an error are dropped, unless failures are to be kept; a line and the manifest say how many and why.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from atlas_ray.config import PipelineConfig, Playing
from atlas_ray.environments import registry
from atlas_ray.environments.styles import ExpertStyle, check_style
from atlas_ray.errors import ConfigError, DataError
from atlas_ray.hashing import content_hash
from atlas_ray.pipeline.imports import import_files
from atlas_ray.pipeline.sorting import batched, sorted_trajectories
from atlas_ray.progress import Progress, say
from atlas_ray.rollout.driver import run_episodes
from atlas_ray.rollout.player import playing
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.roster import RosterEntry
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode, Trajectory, trajectories_to_table

_EXPERT = RosterEntry("expert", "policy", "expert")
PARTS = ("warmup", "tuning")
"""Of the trajectories: the warm-up's, and those that models are tuned on."""


def collect(config: PipelineConfig, store: Store) -> dict[str, Any]:
    """Replace `trajectories/` by what the config asks for; returns the facts for the manifest.

    Raises:
        ConfigError: an unknown environment, or more tasks than it has.
        DataError: an import cannot be read, or nothing is left.
    """
    if config.collect.source != "expert":
        return import_files(config.collect, store)
    dropped: Counter[str] = Counter()
    count = failed = 0
    with sorted_trajectories(store) as add:
        for trajectories in batched(_from_experts(config, dropped)):
            add(trajectories_to_table(trajectories))
            count += len(trajectories)
            failed += sum(each.failed for each in trajectories)
        if not count:
            raise DataError(f"collect: no trajectory is left ({dict(dropped)}); see collect.min_score")
    for reason, number in dropped.most_common():
        say(f"  collect: dropped {number} episodes: {reason}")
    among = {"failed_trajectories": failed} if failed else {}
    return {"trajectories": count, **among, "dropped": dict(sorted(dropped.items()))}


def _from_experts(config: PipelineConfig, dropped: Counter[str]) -> Iterator[Trajectory]:
    """The trajectories that are kept, as their episodes end; the others are counted in `dropped`."""
    if not config.collect.trajectories:
        raise ConfigError("collect.trajectories: name environments and numbers of tasks, as in {textcraft: 100}")
    specs: list[EpisodeSpec] = []
    as_written = Playing(action_format=config.collect.action_format or "react")
    parts: dict[tuple[str, int], str] = {}
    for name, count in sorted(config.collect.trajectories.items()):
        options = config.collect_options(name)
        card = registry.card(name, **options)
        if count > card.n_train:
            raise ConfigError(
                f"collect.trajectories.{name}: {count} tasks asked for, it has {card.n_train} training tasks with "
                f"options {options}"
            )
        key, version = _EXPERT.player_key(config.engine), registry.version(name, options)
        warm = warmup_tasks(config, name, count)
        for part in PARTS:
            _check_style(name, options, expert_style(config, part))
        for task in range(count):
            parts[name, task] = part = "warmup" if task in warm else "tuning"
            specs.append(
                EpisodeSpec(model=_EXPERT.name, model_key=key, env=name, task=task, split="train", seed=config.seed,
                            options=options, env_version=version, expert=expert_style(config, part),
                            deadline_s=config.rollout.deadline_s, playing=as_written)
            )  # fmt: skip
    progress = Progress("collect", len(specs), "expert episodes")
    with playing(_EXPERT, config.engine) as expert:
        for episode in run_episodes(specs, expert, config.rollout):
            progress.add()
            part = parts[episode.env, episode.task]
            is_kept = config.collect.keep_failures and part == "tuning" and not episode.success
            if episode.error is not None:
                dropped[f"{episode.env}: {episode.error}"] += 1
            elif config.collect.min_score is None and not episode.success and not is_kept:
                dropped[f"{episode.env}: not successful"] += 1
            elif episode.score < (config.collect.min_score or 0.0) and not is_kept:
                dropped[f"{episode.env}: score below {config.collect.min_score}"] += 1
            else:
                yield trajectory_of(episode, part, expert_style(config, part))


def expert_style(config: PipelineConfig, part: str) -> ExpertStyle:
    """How experts play the trajectories of a part: `warmup` or `tuning`."""
    chosen = config.collect
    if part == "warmup" and chosen.warmup_style is not None:
        return ExpertStyle(style=chosen.warmup_style, rate=chosen.warmup_rate)
    return ExpertStyle(style=chosen.style, rate=chosen.rate)


def warmup_tasks(config: PipelineConfig, env: str, count: int) -> frozenset[int]:
    """The tasks whose trajectories are the warm-up's, drawn by the seed: their share of the tasks is exact."""
    if config.train.warmup is None:
        return frozenset()
    order = sorted(range(count), key=lambda task: content_hash([config.seed, "warmup", env, task]))
    return frozenset(order[: round(config.train.warmup.fraction * count)])


def _check_style(env: str, options: dict[str, Any], style: ExpertStyle) -> None:
    """Refuse a style that cannot show in an environment before anything is played."""
    if style.style != "plain" and style.rate > 0:
        with contextlib.closing(registry.make(env, **options)) as made:
            check_style(made, style)


def trajectory_of(episode: Episode, part: str = "tuning", style: ExpertStyle | None = None) -> Trajectory:
    """An expert's episode as a trajectory; its id depends on what was said, so equal episodes have equal ids.

    Args:
        episode: a finished one.
        part: `warmup` or `tuning`, recorded.
        style: how the expert played, recorded with the kind of every step; None: as it is.
    """
    metadata: dict[str, Any] = {"task": episode.task, "seed": episode.seed, "stop": episode.stop, "part": part}
    if episode.kinds is not None:
        metadata |= {"style": (style or ExpertStyle()).model_dump(), "kinds": list(episode.kinds)}
    steps = [message.step for message in episode.messages if message.step is not None]
    item_id = f"{episode.env}_{episode.task}"
    return Trajectory(
        trajectory_id=f"{item_id}_{content_hash([message.model_dump() for message in episode.messages])[:8]}",
        env=episode.env, item_id=item_id, split=episode.split, source="expert", messages=episode.messages,
        n_steps=len(steps), reward=episode.score, success=episode.success,
        metadata=metadata,
    )  # fmt: skip
