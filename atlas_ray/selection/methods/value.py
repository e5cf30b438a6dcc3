"""Method `value`: the steps that raise the chance of success (paper section 4.5.4, Appendix B.3).

A model plays N rollouts from before every step of a trajectory. Equations (6)-(8): r_t is the mean reward of the
rollouts from before step t; at the end of the trajectory it is the expert's own reward. V_t is r_t (`mean`, as the
paper describes it in words), or the discounted sum of r_t, r_(t+1), ... along the trajectory (`discounted`, equation
(9) as printed). The score of step t is V_(t+1) - V_t.

The rollouts of all trajectories are under way at once (`evaluation/forked.py`) and are kept in `select/value.jsonl`,
which all selections by this method share. An adaptive run leaves rollouts out (`selection/adaptive.py`); every tenth
trajectory gets all of them anyway, which tells whether the selection would have changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from math import fsum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from atlas_ray.config import PipelineConfig
from atlas_ray.hashing import content_hash
from atlas_ray.progress import Progress, say
from atlas_ray.roster import RosterEntry
from atlas_ray.selection.adaptive import PILOT, Prior, fit_prior, open_steps
from atlas_ray.selection.budget import budget
from atlas_ray.selection.method import SelectionContext
from atlas_ray.selection.sampling import SamplingMethod, SamplingOptions
from atlas_ray.trajectory import Selection, Trajectory, Usage

if TYPE_CHECKING:
    import pyarrow as pa

    from atlas_ray.evaluation.forked import Fork, Forked, ForkedRollouts
    from atlas_ray.selection.chunks import Plan

JOURNAL = ("select", "value.jsonl")
_AUDITED = 10
"""One trajectory in so many gets all rollouts in an adaptive run."""


class ValueOptions(SamplingOptions):
    """Method `value` (paper section 4.5.4, Appendix B.3): rollouts fork off before every step.

    They play as `evaluate` says (length of a reply, calls per step, when to give up), but sample.
    """

    rollouts: int = Field(5, gt=1)
    """N, from every step (paper section 4.5.4)."""
    gamma: float = Field(0.99, ge=0, le=1)
    """Discount of equation (9) (paper Appendix B.3)."""
    threshold: float = Field(0.1, ge=0)
    """A step is critical when the value rises by more (paper Appendix B.3)."""
    absolute: bool = False
    """A fall of the value counts as much as a rise."""
    estimate: Literal["mean", "discounted"] = "mean"
    """`mean`: the mean reward of the rollouts, as the paper describes it; `discounted`: equations (6)-(9) as printed,
    which select next to nothing."""
    adaptive: bool = False
    """Stop sampling a step once its difference is decided either way (not in the paper)."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Of such a decision."""


class ValueSteps(SamplingMethod):
    """Steps whose value difference exceeds the threshold; the largest differences where the budget holds fewer."""

    summary = "the steps that raise the chance that rollouts succeed"
    source = "paper 4.5.4, B.3"
    needs = "rollouts from every step"
    version = 2
    color = ("#a03050", "#ff8fab")
    Options = ValueOptions

    _facts: dict[str, Any] | None = None

    def tables(self, context: SelectionContext, plan: Plan, stack: ExitStack) -> Iterator[pa.Table]:
        """The selections, after all rollouts have been played."""
        from atlas_ray.evaluation.forked import Forked, costs, forked_rollouts
        from atlas_ray.selection import batches
        from atlas_ray.selection.chunks import read

        config, (entry, playing) = context.config, self.player(context)
        chunks = [[Forked(trajectory) for trajectory in read(context.store, chunk)] for chunk in plan.chunks]
        forked = [each for chunk in chunks for each in chunk]
        audited = _audited([each.trajectory for each in forked], self.spec.seed) if self.options.adaptive else None
        steps = sum(each.trajectory.n_steps for each in forked)
        progress = Progress(f"select {self.spec.name}", steps * self.options.rollouts, "rollouts")
        rollouts = stack.enter_context(
            forked_rollouts(config, context.store, entry, playing, forked, JOURNAL, progress)
        )
        self._play(rollouts, forked, audited)
        facts: dict[str, Any] = costs(forked) | {"adaptive": None if audited is None else self._saving(forked, audited)}
        self._facts = facts
        for chunk in chunks:
            yield batches.output_table([self._selection(each, entry, config) for each in chunk])
        say(f"  select {self.spec.name}: {_line(facts)}")

    def facts(self) -> dict[str, Any]:
        """Rollouts, environment steps and tokens, and what an adaptive run saved."""
        return self._facts or {}

    def differences(self, returns: NDArray[np.float64], outcome: float) -> NDArray[np.float64]:
        """The score of every step: V_(t+1) - V_t, or its absolute value.

        Args:
            returns: r_t of every step; the steps are the last axis.
            outcome: the expert's own reward.
        """
        along = self.values(returns, outcome)
        gains: NDArray[np.float64] = np.round(along[..., 1:] - along[..., :-1], 9)
        falls_count: bool = self.options.absolute
        return np.abs(gains) if falls_count else gains

    def values(self, returns: NDArray[np.float64], outcome: float) -> NDArray[np.float64]:
        """V_0 .. V_T of trajectories of T steps; the last is the expert's own reward. See `differences`."""
        along: NDArray[np.float64] = np.concatenate([returns, np.full((*returns.shape[:-1], 1), outcome)], axis=-1)
        if self.options.estimate == "discounted":
            for t in reversed(range(returns.shape[-1])):
                along[..., t] += self.options.gamma * along[..., t + 1]
        return along

    def choose(self, trajectory: Trajectory, samples: Sequence[Sequence[float]], outcome: float) -> Selection:
        """The selection that follows from rollouts.

        Args:
            trajectory: that they forked off.
            samples: rewards of the rollouts from before every step, at least one for each.
            outcome: the expert's own reward.
        """
        returns = np.array([fsum(rewards) / len(rewards) for rewards in samples])
        variances = [round(float(np.var(rewards)), 9) for rewards in samples]
        scores = self.differences(returns, outcome).tolist()
        above = [step for step in range(trajectory.n_steps) if scores[step] > self.options.threshold]
        above.sort(key=lambda step: (-scores[step], step))
        return self.row(
            trajectory, steps=tuple(sorted(above[: budget(trajectory.n_steps, self.spec.ratio)])), scores=tuple(scores),
            provenance={
                "returns": returns.tolist(), "values": self.values(returns, outcome).tolist(), "outcome": outcome,
                "samples": [len(rewards) for rewards in samples], "variances": variances,
            },
        )  # fmt: skip

    def open_forks(self, forked: Forked, samples: Sequence[Sequence[float]], priors: dict[str, Prior]) -> list[Fork]:
        """The next round of an adaptive run, given the rewards so far: the next sample of every open step."""
        from atlas_ray.evaluation.forked import Fork

        trajectory, outcome = forked.trajectory, forked.replayed.outcome
        steps = open_steps(
            samples, priors[trajectory.env], lambda returns: self.differences(returns, outcome),
            rollouts=self.options.rollouts, threshold=self.options.threshold, confidence=self.options.confidence,
            key=[self.spec.seed, trajectory.trajectory_id],
        )  # fmt: skip
        return [Fork(step, len(samples[step])) for step in steps]

    def _play(self, rollouts: ForkedRollouts, every: Sequence[Forked], audited: set[str] | None) -> None:
        """Ask for rollouts until no more are needed; `audited` trajectories get all, None means every trajectory."""
        from atlas_ray.evaluation.forked import Fork

        priors: dict[str, Prior] | None = None
        for forked in rollouts:
            if _is_unasked(forked):
                is_whole = audited is None or forked.trajectory.trajectory_id in audited
                count = self.options.rollouts if is_whole else PILOT
                steps = range(forked.trajectory.n_steps)
                rollouts.ask(forked, [Fork(step, sample) for step in steps for sample in range(count)])
                continue
            if audited is None:
                continue
            ready = [forked]
            if priors is None:
                if any(each.replay is None or each.under_way or _is_unasked(each) for each in every):
                    continue  # the first rounds of all trajectories make the prior
                priors, ready = _priors(every), list(every)
            for each in ready:
                if each.error is None and each.trajectory.n_steps and each.trajectory.trajectory_id not in audited:
                    rollouts.ask(each, self.open_forks(each, each.scores(), priors))

    def _selection(self, forked: Forked, entry: RosterEntry, config: PipelineConfig) -> Selection:
        provenance = {
            "policy": entry.name, "policy_key": entry.player_key(config.engine), "seed": self.spec.seed,
            **self.options.determinants(),
        }  # fmt: skip
        if forked.error is not None:
            return self.row(forked.trajectory, error=forked.error, provenance=provenance)
        replay, spent = forked.replayed, forked.episodes.values()
        chosen = self.choose(forked.trajectory, forked.scores(self.options.rollouts), replay.outcome)
        usage = Usage(
            prompt_tokens=sum(episode.prompt_tokens for episode in spent),
            completion_tokens=sum(episode.completion_tokens for episode in spent),
        )
        provenance |= {"env_seed": replay.seed, **chosen.provenance}
        return chosen.model_copy(update={"usage": usage, "provenance": provenance})

    def _saving(self, forked: Sequence[Forked], audited: set[str]) -> dict[str, int]:
        """Rollouts left out; and of audited trajectories, which have all, whether the selection would have changed."""
        whole = [each for each in forked if each.error is None]
        priors = _priors(whole)
        checked = [each for each in whole if each.trajectory.trajectory_id in audited]
        others = [each for each in whole if each.trajectory.trajectory_id not in audited]
        changed = saved = 0
        for each in checked:
            everything, known = each.scores(self.options.rollouts), each.scores(PILOT)
            while wanted := self.open_forks(each, known, priors) if known else []:
                for fork in wanted:
                    known[fork.step].append(everything[fork.step][fork.sample])
            saved += sum(map(len, everything)) - sum(map(len, known))
            outcome = each.replayed.outcome
            full, early = (self.choose(each.trajectory, rewards, outcome).steps for rewards in (everything, known))
            changed += len({*full} ^ {*early})
        return {
            "saved": sum(each.trajectory.n_steps * self.options.rollouts - len(each.episodes) for each in others),
            "of": sum(each.trajectory.n_steps * self.options.rollouts for each in others),
            "audited": len(checked),
            "audited_saved": saved,
            "audited_of": sum(each.trajectory.n_steps * self.options.rollouts for each in checked),
            "audited_steps": sum(each.trajectory.n_steps for each in checked),
            "audited_steps_changed": changed,
        }


def _audited(trajectories: Sequence[Trajectory], seed: int) -> set[str]:
    """Ids of the trajectories that get all rollouts: the first, and of the others one in ten, drawn by the seed."""
    names = [trajectory.trajectory_id for trajectory in trajectories]
    return {
        name
        for index, name in enumerate(names)
        if index == 0 or int(content_hash([seed, "audit", name]), 16) % _AUDITED == 0
    }


def _is_unasked(forked: Forked) -> bool:
    """Whether a replayed trajectory has had no rollouts yet, although it can have some."""
    return forked.error is None and forked.trajectory.n_steps > 0 and not forked.episodes


def _priors(forked: Iterable[Forked]) -> dict[str, Prior]:
    """By environment, from the first rollouts of all of its trajectories."""
    pilots: defaultdict[str, list[list[float]]] = defaultdict(list)
    for each in forked:
        if each.error is None:
            pilots[each.trajectory.env] += each.scores(PILOT)
    return {env: fit_prior(rewards) for env, rewards in pilots.items()}


def _line(facts: dict[str, Any]) -> str:
    text = (
        f"{facts['rollouts']} rollouts; {facts['environment_steps']} environment steps; prompt tokens: "
        f"{facts['prefill_tokens_computed']} computed, {facts['prefill_tokens_reused']} from the cache; "
        f"{facts['generated_tokens']} generated"
    )
    saving = facts["adaptive"]
    if saving is not None:
        text += (
            f"; adaptive: {saving['saved']} of {saving['of']} rollouts saved; in {saving['audited']} audited "
            f"trajectories, which had all of them, {saving['audited_saved']} of {saving['audited_of']} were not needed "
            f"and {saving['audited_steps_changed']} of {saving['audited_steps']} steps would have been judged otherwise"
        )
    return text
