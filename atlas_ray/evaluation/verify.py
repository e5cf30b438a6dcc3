"""Critical-step verification (paper section 4.6, Table 6): from scratch against from right after a critical step.

For each trajectory a model plays its task from the beginning, and from the state after each critical step in turn. Not
in the paper: as many other steps, drawn at random, are taken over from too, because starting later is easier whatever
the step was. A takeover after the last step has nothing to play; such steps are counted and left out. Episodes are
appended to `verification/<model>/<selection>.jsonl` as they finish.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from atlas_ray.config import PipelineConfig
from atlas_ray.environments.contract import EnvironmentCard, Metric
from atlas_ray.evaluation import metrics
from atlas_ray.progress import Progress
from atlas_ray.rollout.driver import Rollouts
from atlas_ray.rollout.episode import EpisodeSpec
from atlas_ray.rollout.forks import Replay, ReplaySpec
from atlas_ray.rollout.player import Agent, playing
from atlas_ray.selection.random import draw
from atlas_ray.store import Store, content_hash
from atlas_ray.trajectory import Episode, Selection, Trajectory

SCRATCH, CRITICAL, OTHER = "from_scratch", "from_critical", "from_other"


def verify(
    config: PipelineConfig,
    store: Store,
    agent: Agent,
    trajectories: Sequence[Trajectory],
    selections: Sequence[Selection],
    cards: Mapping[str, EnvironmentCard],
) -> dict[str, Any]:
    """Play what is owed and write `verification/<model>/<selection>.json`.

    Args:
        config: of the run; `verify.selection` names the selection.
        store: its run directory.
        agent: who takes over.
        trajectories: the tuning set.
        selections: the critical steps of each.
        cards: one for each environment.

    Returns:
        The content of that file: by environment the score from scratch, after critical and after other steps, in
        percent, with 95 % intervals over tasks and the paired difference.
    """
    chosen = _chosen(config, trajectories, selections)
    run = _Run(config, store, agent, chosen)
    with playing(agent, config.engine) as player, Rollouts(player, config.rollout) as rollouts:
        rollouts.add(run.replays())
        for result in rollouts:
            if isinstance(result, Replay):
                rollouts.add(run.forks(result))
            else:
                run.take(result)
    result = {"model": agent.name, "selection": config.verify.selection, "environments": run.results(cards)}
    store.write_json(result, "verification", agent.name, f"{config.verify.selection}.json")
    return result


def markdown(result: Mapping[str, Any]) -> str:
    """The result as a table in the manner of the paper's Table 6."""
    lines = [
        "| tasks | from scratch | after a critical step | after another step | critical - scratch | critical - other |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, entry in result["environments"].items():
        cells = [_score(entry[group]) for group in (SCRATCH, CRITICAL, OTHER)]
        cells += [_difference(entry[f"critical_against_{other}"]) for other in ("scratch", "other")]
        lost = f", {entry['errors']} errors" if entry["errors"] else ""
        lines.append(f"| {name} (n={entry['tasks']}{lost}) | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _score(entry: Mapping[str, Any] | None) -> str:
    return "–" if entry is None else f"{entry['score']:.1f} [{entry['ci95'][0]:.1f}, {entry['ci95'][1]:.1f}]"


def _difference(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "–"
    low, high = entry["ci95"]
    return f"{entry['difference']:+.1f} [{low:+.1f}, {high:+.1f}], p = {entry['p_value']:.3g} (n={entry['n']})"


def _chosen(
    config: PipelineConfig, trajectories: Sequence[Trajectory], selections: Sequence[Selection]
) -> dict[str, tuple[Trajectory, tuple[int, ...]]]:
    """Trajectories with critical steps by id, so many per environment, drawn by the seed."""
    steps = {selection.trajectory_id: selection.steps for selection in selections}
    by_env: dict[str, list[Trajectory]] = defaultdict(list)
    for trajectory in trajectories:
        if steps.get(trajectory.trajectory_id):
            by_env[trajectory.env].append(trajectory)
    chosen = {}
    for name in sorted(by_env):
        by_env[name].sort(key=lambda trajectory: content_hash([config.seed, "verify", trajectory.trajectory_id]))
        for trajectory in by_env[name][: config.verify.trajectories]:
            chosen[trajectory.trajectory_id] = (trajectory, steps[trajectory.trajectory_id])
    return chosen


class _Run:
    """What is played of each trajectory, and what came of it."""

    def __init__(
        self, config: PipelineConfig, store: Store, agent: Agent, chosen: dict[str, tuple[Trajectory, tuple[int, ...]]]
    ) -> None:
        self._config, self._store, self._agent, self._chosen = config, store, agent, chosen
        self._place = ("verification", agent.name, f"{config.verify.selection}.jsonl")
        self._finished = {
            row["key"]: Episode.model_validate(row) for row in store.journal(*self._place) if row["error"] is None
        }
        self._owed: dict[str, tuple[str, str]] = {}
        """Trajectory and group of the episodes under way, by key."""
        self._values: dict[str, dict[str, list[Episode]]] = defaultdict(lambda: defaultdict(list))
        """Episodes by trajectory and group."""
        self._replay_errors: dict[str, str] = {}
        self._progress = Progress("verify", sum(1 + len(self._takeovers(name)) for name in chosen), "episodes")

    def replays(self) -> list[ReplaySpec]:
        """What is to be replayed."""
        config = self._config
        return [
            ReplaySpec(trajectory, frozenset(step for _, step in self._takeovers(name)) | {0}, config.seed,
                       config.environments.get(trajectory.env, {}), config.rollout.deadline_s)
            for name, (trajectory, _) in self._chosen.items()
        ]  # fmt: skip

    def forks(self, replay: Replay) -> list[EpisodeSpec]:
        """The episodes of one trajectory that are owed."""
        name = replay.trajectory_id
        if replay.error is not None:
            self._replay_errors[name] = replay.error
            return []
        owed = []
        for group, step in [(SCRATCH, 0), *self._takeovers(name)]:
            spec = self._spec(replay, step)
            if spec.key in self._finished:
                self._count(name, group, self._finished[spec.key])
            else:
                self._owed[spec.key] = (name, group)
                owed.append(spec)
        return owed

    def take(self, episode: Episode) -> None:
        """Keep a result."""
        self._store.append([episode.model_dump(mode="json")], *self._place)
        self._count(*self._owed.pop(episode.key), episode)

    def results(self, cards: Mapping[str, EnvironmentCard]) -> dict[str, Any]:
        """By environment."""
        names: dict[str, list[str]] = defaultdict(list)
        for name, (trajectory, _) in self._chosen.items():
            names[trajectory.env].append(name)
        return {env: self._result(cards[env], names[env]) for env in sorted(names)}

    def _takeovers(self, name: str) -> list[tuple[str, int]]:
        """Group and first own step of the takeovers of a trajectory: after critical steps, and after as many others."""
        trajectory, critical = self._chosen[name]
        last = trajectory.n_steps - 1
        after = [step for step in critical if step < last]
        others = [step for step in range(last) if step not in critical]
        drawn = draw(others, len(after), "verify", self._config.seed, name)
        return [(CRITICAL, step + 1) for step in after] + [(OTHER, step + 1) for step in drawn]

    def _spec(self, replay: Replay, step: int) -> EpisodeSpec:
        config, agent = self._config, self._agent
        trajectory, _ = self._chosen[replay.trajectory_id]
        playing = config.evaluate
        return EpisodeSpec(
            model=agent.name, model_key=agent.key, env=trajectory.env, task=replay.task, split=replay.split,
            seed=replay.seed, options=config.environments.get(trajectory.env, {}), start=replay.starts[step],
            temperature=playing.temperature, max_new_tokens=playing.max_new_tokens,
            give_up_after=playing.give_up_after, calls_per_step=playing.calls_per_step,
            token_budget=playing.token_budget, deadline_s=config.rollout.deadline_s,
        )  # fmt: skip

    def _count(self, name: str, group: str, episode: Episode) -> None:
        self._values[name][group].append(episode)
        self._progress.add()

    def _result(self, card: EnvironmentCard, names: Sequence[str]) -> dict[str, Any]:
        means: dict[str, dict[str, float]] = {SCRATCH: {}, CRITICAL: {}, OTHER: {}}
        errors = sum(name in self._replay_errors for name in names)
        for name in names:
            for group, episodes in self._values[name].items():
                errors += sum(episode.error is not None for episode in episodes)
                values = [metrics.value(episode, card.metric) for episode in episodes if episode.error is None]
                if values:
                    means[group][name] = fmean(values)
        steps = {group: sum(len(self._values[name][group]) for name in names) for group in means}
        last = sum(self._chosen[name][0].n_steps - 1 in self._chosen[name][1] for name in names)
        return {
            "metric": card.metric, "tasks": len(names), "episodes": steps, "critical_last_steps": last,
            "errors": errors, **{group: _mean(values, card.metric) for group, values in means.items()},
            "critical_against_scratch": _paired(means[SCRATCH], means[CRITICAL]),
            "critical_against_other": _paired(means[OTHER], means[CRITICAL]),
        }  # fmt: skip


def _mean(values: Mapping[str, float], metric: Metric) -> dict[str, Any] | None:
    if not values:
        return None
    rows = [values[name] for name in sorted(values)]
    is_rate = metric == "success_rate" and {0.0, 1.0}.issuperset(rows)
    interval = metrics.wilson(int(sum(rows)), len(rows)) if is_rate else metrics.bootstrap(rows)
    return {"score": 100 * fmean(rows), "ci95": list(interval), "n": len(rows)}


def _paired(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, Any] | None:
    """Difference of the tasks that have both, in percentage points."""
    names = sorted(first.keys() & second.keys())
    if not names:
        return None
    gains = [second[name] - first[name] for name in names]
    return {
        "difference": 100 * fmean(gains), "ci95": list(metrics.bootstrap(gains, low=-1.0)),
        "p_value": metrics.sign_flip(gains), "n": len(names),
    }  # fmt: skip
