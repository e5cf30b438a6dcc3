"""From a stored selection and the rollouts that it rests on to step preferences at its critical steps.

Rollouts are those of a selection by method `value`: the selection itself, or one that it is made from (`pivot`). What
an established preference is, is decided in `preferences.py`. Nothing is played, and no engine is started.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from atlas_ray.config import PipelineConfig
from atlas_ray.environments import registry
from atlas_ray.errors import ConfigError, SelectionError
from atlas_ray.evaluation.fork_journal import finished
from atlas_ray.react import ActionRule
from atlas_ray.selection.chunks import plan, read, read_beside
from atlas_ray.selection.method import SelectionContext, make
from atlas_ray.selection.methods.value import JOURNAL, ValueSteps
from atlas_ray.selection.preferences import Forks, Rollout, preferences
from atlas_ray.store import GROUP_ROWS
from atlas_ray.trajectory import StepPreference, Trajectory


@dataclass
class Established:
    """The preferences of a selection, and what gave none."""

    preferences: list[StepPreference] = field(default_factory=list)
    """In the order of trajectories and steps."""
    critical_steps: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Trajectories without a preference, by reason."""
    rules: dict[str, ActionRule] = field(default_factory=dict)
    """How each environment reads actions."""

    def facts(self) -> dict[str, int]:
        """For the manifest."""
        return {
            "preferences": len(self.preferences),
            "steps": len({(each.trajectory_id, each.step) for each in self.preferences}),
            "critical_steps": self.critical_steps,
            "trajectories": len({each.trajectory_id for each in self.preferences}),
        }

    def __str__(self) -> str:
        facts = self.facts()
        text = (
            f"{facts['preferences']} preferences at {facts['steps']} of {facts['critical_steps']} critical steps of "
            f"{facts['trajectories']} trajectories"
        )
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))
        return f"{text}; trajectories left out: {reasons}" if reasons else text


def playing_selection(config: PipelineConfig, name: str) -> ValueSteps:
    """The selection whose rollouts a selection rests on: itself, or the first such one that it is made from.

    Raises:
        ConfigError: there is none.
    """
    found = _playing_selection(config, name)
    if found is None:
        raise ConfigError(
            f"selection {name!r} rests on no rollouts, so it has no step preferences; name one by method value, or one "
            "that is made from it, as pivot"
        )
    return found


def _playing_selection(config: PipelineConfig, name: str) -> ValueSteps | None:
    method = make(config.selection(name))
    if isinstance(method, ValueSteps):
        return method
    inputs = (_playing_selection(config, part) for part in method.inputs())
    return next((found for found in inputs if found is not None), None)


def established(context: SelectionContext, name: str, ids: Collection[str] | None = None) -> Established:
    """The preferences at the critical steps of a selection that are established as `train.dpo` says.

    Args:
        context: of the run; the selection has been made in it.
        name: of the selection.
        ids: the trajectories; None: all.

    Raises:
        ConfigError: the selection rests on no rollouts.
        SelectionError: it, or the one that played the rollouts, has not been made for these trajectories; or not one
            preference is established.
    """
    value, result = playing_selection(context.config, name), Established()
    chunks = plan(context.store, ids, GROUP_ROWS).chunks
    trajectories = [trajectory for chunk in chunks for trajectory in read(context.store, chunk)]
    rollouts = _rollouts(context, value, trajectories)
    rows = read_beside(context.store, name, trajectories)
    played = read_beside(context.store, value.spec.name, trajectories)
    for trajectory, row, own in zip(trajectories, rows, played, strict=True):
        if row.error is not None:
            result.left_out[f"error {row.error.partition(':')[0]}"] += 1
        elif not row.steps:
            result.left_out["no step chosen"] += 1
        else:
            env = trajectory.env
            if env not in result.rules:
                result.rules[env] = registry.card(env, **context.config.collect_options(env)).action_rule
            outcome = own.provenance.get("outcome", trajectory.reward)
            forks = Forks(trajectory, rollouts.get(trajectory.trajectory_id, {}), outcome, result.rules[env])
            found = preferences(forks, row.steps, context.config.train.dpo)
            result.preferences += found
            result.critical_steps += len(row.steps)
            result.left_out["no difference established"] += not found
    result.left_out = +result.left_out
    if not result.preferences:
        raise SelectionError(
            f"selection {name!r}: {result}; raise {value.spec.name}'s rollouts (now {value.options.rollouts}) or "
            f"train.dpo.max_p (now {context.config.train.dpo.max_p:g}), or set train.dpo.against: rest"
        )
    return result


def _rollouts(
    context: SelectionContext, value: ValueSteps, trajectories: list[Trajectory]
) -> dict[str, dict[int, list[Rollout]]]:
    """The rollouts of a selection, by trajectory and step, in the order of their samples."""
    entry, playing = value.player(context)
    by_step: dict[str, dict[int, list[tuple[int, Rollout]]]] = defaultdict(lambda: defaultdict(list))
    of = finished(
        context.store, JOURNAL, {each.trajectory_id: each for each in trajectories},
        entry.player_key(context.config.engine), playing, context.environment_versions,
    )  # fmt: skip
    for each in of:
        if each.sample < value.options.rollouts:
            by_step[each.trajectory_id][each.step].append((each.sample, Rollout(each.reply, each.score)))
    return {
        name: {
            step: [rollout for _, rollout in sorted(samples, key=lambda sample: sample[0])]
            for step, samples in steps.items()
        }
        for name, steps in by_step.items()
    }
