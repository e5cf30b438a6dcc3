"""Critical-step verification (paper section 4.6, Table 6): playing from scratch against taking over after a step.

For every trajectory a model plays the task from the beginning, and from the state after each critical step. Not in the
paper: it also takes over after as many other steps, drawn at random, because a later start is easier whatever the step
was. After the last step nothing is left to play; critical last steps are counted and left out. The episodes are played
in `forked.py` and kept in `verification/<model>/<selection>.jsonl`. The report lays out the result as a table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from atlas_ray.config import PipelineConfig
from atlas_ray.environments.contract import EnvironmentCard, Metric
from atlas_ray.evaluation import metrics
from atlas_ray.evaluation.forked import Fork, Forked, forked_rollouts
from atlas_ray.hashing import content_hash, draw
from atlas_ray.progress import Progress
from atlas_ray.roster import RosterEntry
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection, Trajectory

SCRATCH, CRITICAL, OTHER = "from_scratch", "from_critical", "from_other"


def verify(
    config: PipelineConfig,
    store: Store,
    entry: RosterEntry,
    trajectories: Sequence[Trajectory],
    selections: Sequence[Selection],
    cards: Mapping[str, EnvironmentCard],
) -> dict[str, Any]:
    """Play the episodes that the journal lacks and write `verification/<model>/<selection>.json`.

    Args:
        config: of the run; `verify.selection` names the selection.
        store: its run directory.
        entry: the model that takes over.
        trajectories: the tuning set.
        selections: the critical steps of the trajectories.
        cards: of the environments.

    Returns:
        The content of that file: what the model is, and by environment the scores from scratch, after critical and
        after other steps, in percent, with 95 % intervals over tasks and paired differences.
    """
    name = config.verify.selection
    steps = {selection.trajectory_id: selection.steps for selection in selections}
    taken_over = [_TakenOver(each, steps[each.trajectory_id], config) for each in _drawn(config, trajectories, steps)]
    by_id = {each.forked.trajectory.trajectory_id: each for each in taken_over}
    progress = Progress("verify", sum(len(each.groups) for each in taken_over), "episodes")
    with forked_rollouts(
        config, store, entry, config.evaluate.playing, [each.forked for each in taken_over],
        ("verification", entry.name, f"{name}.jsonl"), progress,
    ) as rollouts:  # fmt: skip
        for forked in rollouts:
            if forked.error is None and not forked.episodes:
                rollouts.ask(forked, list(by_id[forked.trajectory.trajectory_id].groups))
    by_env: dict[str, list[_TakenOver]] = defaultdict(list)
    for each in taken_over:
        by_env[each.forked.trajectory.env].append(each)
    entries = {env: _result(cards[env], by_env[env]) for env in sorted(by_env)}
    result = entry.facts() | {"tuned_on": entry.selection, "selection": name, "environments": entries}
    store.write_json(result, "verification", entry.name, f"{name}.json")
    return result


def _drawn(
    config: PipelineConfig, trajectories: Sequence[Trajectory], steps: Mapping[str, tuple[int, ...]]
) -> list[Trajectory]:
    """`verify.trajectories` of the trajectories with critical steps per environment, drawn by the seed."""
    by_env: dict[str, list[Trajectory]] = defaultdict(list)
    for trajectory in trajectories:
        if steps.get(trajectory.trajectory_id):
            by_env[trajectory.env].append(trajectory)

    def rank(trajectory: Trajectory) -> str:
        return content_hash([config.seed, "verify", trajectory.trajectory_id])

    return [each for env in sorted(by_env) for each in sorted(by_env[env], key=rank)[: config.verify.trajectories]]


class _TakenOver:
    """A trajectory with its episodes from scratch, after critical steps and after as many others.

    Args:
        trajectory: with at least one critical step.
        critical: its critical steps.
        config: of the run.
    """

    def __init__(self, trajectory: Trajectory, critical: Sequence[int], config: PipelineConfig) -> None:
        last = trajectory.n_steps - 1
        after = [step for step in critical if step < last]
        others = [step for step in range(last) if step not in critical]
        drawn = draw(others, len(after), "verify", config.seed, trajectory.trajectory_id)
        self.critical_last_step = last in critical
        self.groups = {Fork(0): SCRATCH}
        """The group of every episode. A takeover after a step begins with the next step."""
        self.groups |= {Fork(step + 1): CRITICAL for step in after} | {Fork(step + 1): OTHER for step in drawn}
        self.forked = Forked(trajectory, frozenset(fork.step for fork in self.groups))

    def mean(self, group: str, metric: Metric) -> float | None:
        """Mean score of the finished episodes of a group; None without any."""
        scores = [
            metrics.value(episode, metric)
            for fork, episode in self.forked.episodes.items()
            if self.groups[fork] == group and episode.error is None
        ]
        return fmean(scores) if scores else None


def _result(card: EnvironmentCard, taken_over: Sequence[_TakenOver]) -> dict[str, Any]:
    means: dict[str, dict[str, float]] = {SCRATCH: {}, CRITICAL: {}, OTHER: {}}
    steps = dict.fromkeys(means, 0)
    errors = 0
    for each in taken_over:
        errors += each.forked.replayed.error is not None
        for fork, episode in each.forked.episodes.items():
            steps[each.groups[fork]] += 1
            errors += episode.error is not None
        for group in means:
            mean = each.mean(group, card.metric)
            if mean is not None:
                means[group][each.forked.trajectory.trajectory_id] = mean
    return {
        "metric": card.metric, "tasks": len(taken_over), "episodes": steps,
        "critical_last_steps": sum(each.critical_last_step for each in taken_over),
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
    """Difference in percentage points over the tasks that have both."""
    names = sorted(first.keys() & second.keys())
    if not names:
        return None
    gains = [second[name] - first[name] for name in names]
    return {
        "difference": 100 * fmean(gains), "ci95": list(metrics.bootstrap(gains, low=-1.0)),
        "p_value": metrics.sign_flip(gains), "n": len(names),
    }  # fmt: skip
