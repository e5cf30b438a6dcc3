"""Method `value` on the cluster: every trajectory is replayed once, and rollouts fork off before each of its steps.

All forks of all trajectories are under way at once. They are appended to `select/value.jsonl` as they finish, so that a
rerun plays what is owed. An adaptive run plays a few rollouts of every step first, then only those of steps whose
difference is open; every tenth trajectory gets all of them, which tells whether the selection changed. The rule itself
is `selection/value.py`, the servers are `rollout/`.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from atlas_ray.config import PipelineConfig
from atlas_ray.models import token_counter
from atlas_ray.progress import Progress, say
from atlas_ray.rollout.driver import Rollouts
from atlas_ray.rollout.episode import EpisodeSpec
from atlas_ray.rollout.forks import Replay, ReplaySpec
from atlas_ray.rollout.player import Agent, Player, playing
from atlas_ray.selection import value
from atlas_ray.selection.summary import Calls, Tally, line, share_of_tokens, step_tokens
from atlas_ray.selection.value import PILOT, Prior
from atlas_ray.store import Store, content_hash
from atlas_ray.trajectory import Episode, Selection, Trajectory, Usage

_AUDITED = 10
"""One trajectory in so many gets all rollouts in an adaptive run."""
_COUNTS = ("environment_steps", "prompt_tokens", "cached_tokens", "completion_tokens")


@dataclass
class _Forked:
    """A trajectory and the episodes that fork off it."""

    trajectory: Trajectory
    audited: bool
    replay: Replay | None = None
    episodes: dict[tuple[int, int], Episode] = field(default_factory=dict)
    """By step and sample."""
    under_way: int = 0

    def rewards(self, most: int) -> list[list[float]]:
        """Of the first `most` samples of each step."""
        found: list[list[float]] = [[] for _ in range(self.trajectory.n_steps)]
        for (step, sample), episode in sorted(self.episodes.items()):
            if sample < most:
                found[step].append(episode.score)
        return found

    @property
    def error(self) -> str | None:
        if self.replay is None:
            return "replay: not played"
        if self.replay.error is not None:
            return f"replay: {self.replay.error}"
        failed = [episode.error for episode in self.episodes.values() if episode.error is not None]
        return f"rollouts: {len(failed)} of {len(self.episodes)} failed ({failed[0]})" if failed else None


def select(config: PipelineConfig, store: Store, trajectories: Sequence[Trajectory], agent: Agent) -> list[Selection]:
    """Play what rollouts are owed and write `selections/value/`.

    Args:
        config: of the run.
        store: its run directory.
        trajectories: what to judge.
        agent: who plays.

    Returns:
        One selection a trajectory, sorted by id; a trajectory that cannot be replayed, or whose rollouts failed, has
        an error.
    """
    begun = time.monotonic()
    forked = [_Forked(t, _is_audited(config, t, i)) for i, t in enumerate(sorted(trajectories, key=_identity))]
    with playing(agent, config.engine) as player:
        run = _Run(config, store, agent, forked)
        run.play(player)
    selections = [_selection(config, agent, each) for each in forked]
    store.write_selections("value", selections)
    tally = Tally("value")
    for selection, each in zip(selections, forked, strict=True):
        tally.add(selection, each.trajectory.n_steps, Calls())
    summary = tally.summary(_share_of_tokens(trajectories, selections, agent), time.monotonic() - begun)
    facts = summary | _facts(config, forked)
    store.append([facts], "metrics", "select.jsonl")
    say(f"  select value: {line(summary)}")
    say(f"  select value: {_line(facts)}")
    return selections


def _share_of_tokens(trajectories: Sequence[Trajectory], selections: Sequence[Selection], agent: Agent) -> float | None:
    """Mean share of the steps' tokens in the steps selected; None where no tokenizer is at hand."""
    if agent.directory is None:
        return None
    tokens = step_tokens(trajectories, token_counter(agent.directory))
    shares = [
        share_of_tokens(row.steps, tokens[row.trajectory_id])
        for row in selections
        if row.error is None and tokens[row.trajectory_id]
    ]
    return fmean(shares) if shares else None


def _identity(trajectory: Trajectory) -> str:
    return trajectory.trajectory_id


def _is_audited(config: PipelineConfig, trajectory: Trajectory, place: int) -> bool:
    """The first, and by lot one in ten of the others; in a run that is not adaptive, all."""
    lot = int(content_hash([config.seed, "audit", trajectory.trajectory_id]), 16)
    return not config.select.value.adaptive or place == 0 or lot % _AUDITED == 0


class _Run:
    """The forks of a run, from the replays to the last rollout."""

    def __init__(self, config: PipelineConfig, store: Store, agent: Agent, forked: Sequence[_Forked]) -> None:
        self._config, self._store, self._agent = config, store, agent
        self._forked = {each.trajectory.trajectory_id: each for each in forked}
        self._journal: dict[str, Episode] = {}
        for row in store.journal("select", "value.jsonl"):
            episode = Episode.model_validate(row["episode"])
            if episode.error is None:
                self._journal[episode.key] = episode
        self._places: dict[str, tuple[_Forked, int, int]] = {}
        """Trajectory, step and sample of the episodes under way, by key."""
        self._priors: dict[str, Prior] | None = None
        self._replays_left = len(forked)
        steps = sum(each.trajectory.n_steps for each in forked)
        self._progress = Progress("select value", steps * config.select.value.rollouts, "rollouts")

    def play(self, player: Player) -> None:
        """Replay every trajectory and play its forks."""
        config = self._config
        with Rollouts(player, config.rollout) as rollouts:
            rollouts.add(
                ReplaySpec(each.trajectory, seed=config.seed, options=config.environments.get(each.trajectory.env, {}),
                           deadline_s=config.rollout.deadline_s)
                for each in self._forked.values()
            )  # fmt: skip
            for result in rollouts:
                if isinstance(result, Replay):
                    forked = self._forked[result.trajectory_id]
                    forked.replay = result
                    self._replays_left -= 1
                    if result.error is None:
                        first = config.select.value.rollouts if forked.audited else PILOT
                        wanted = [(step, n) for step in range(forked.trajectory.n_steps) for n in range(first)]
                        self._fork(rollouts, forked, wanted)
                else:
                    forked, step, sample = self._places.pop(result.key)
                    row = {"trajectory_id": forked.trajectory.trajectory_id, "step": step, "sample": sample}
                    self._store.append([row | {"episode": result.model_dump(mode="json")}], "select", "value.jsonl")
                    self._take(forked, step, sample, result)
                    forked.under_way -= 1
                self._go_on(rollouts, forked)

    def _fork(self, rollouts: Rollouts, forked: _Forked, wanted: Sequence[tuple[int, int]]) -> None:
        """Begin the rollouts that the journal does not have."""
        for step, sample in wanted:
            spec = self._spec(forked, step, sample)
            if spec.key in self._journal:
                self._take(forked, step, sample, self._journal[spec.key])
            else:
                self._places[spec.key] = (forked, step, sample)
                forked.under_way += 1
                rollouts.add([spec])

    def _spec(self, forked: _Forked, step: int, sample: int) -> EpisodeSpec:
        config, replay = self._config, forked.replay
        assert replay is not None
        playing = config.evaluate
        return EpisodeSpec(
            model=self._agent.name, model_key=self._agent.key, env=forked.trajectory.env, task=replay.task,
            split=replay.split, seed=replay.seed, options=config.environments.get(forked.trajectory.env, {}),
            start=replay.starts[step], sample=sample, temperature=config.select.value.temperature,
            max_new_tokens=playing.max_new_tokens, give_up_after=playing.give_up_after,
            calls_per_step=playing.calls_per_step, token_budget=playing.token_budget,
            deadline_s=config.rollout.deadline_s,
        )  # fmt: skip

    def _take(self, forked: _Forked, step: int, sample: int, episode: Episode) -> None:
        forked.episodes[step, sample] = episode
        self._progress.add()

    def _go_on(self, rollouts: Rollouts, forked: _Forked) -> None:
        """In an adaptive run, begin what is still open of trajectories whose last round is over."""
        if not self._config.select.value.adaptive:
            return
        ready = [forked]
        if self._priors is None:
            if self._replays_left or any(each.under_way for each in self._forked.values()):
                return  # the pilot rounds of all trajectories make the prior
            self._priors = _priors(self._forked.values())
            ready = list(self._forked.values())
        for each in ready:
            while not each.under_way and not each.audited and each.error is None:
                wanted = open_samples(self._config, each, each.rewards(1 << 30), self._priors)
                if not wanted:
                    break
                self._fork(rollouts, each, wanted)


def _priors(forked: Iterable[_Forked]) -> dict[str, Prior]:
    """By environment, from the first rollouts of all of its trajectories."""
    pilots: defaultdict[str, list[list[float]]] = defaultdict(list)
    for each in forked:
        if each.error is None:
            pilots[each.trajectory.env] += each.rewards(PILOT)
    return {env: value.fit_prior(rewards) for env, rewards in pilots.items()}


def open_samples(
    config: PipelineConfig, forked: _Forked, rewards: Sequence[Sequence[float]], priors: dict[str, Prior]
) -> list[tuple[int, int]]:
    """The next round of an adaptive run: steps that are open, each with the number of its next sample."""
    assert forked.replay is not None
    trajectory = forked.trajectory
    steps = value.open_steps(
        rewards, forked.replay.outcome, priors[trajectory.env], config.select.value, str(config.seed),
        trajectory.trajectory_id,
    )  # fmt: skip
    return [(step, len(rewards[step])) for step in steps]


def _selection(config: PipelineConfig, agent: Agent, forked: _Forked) -> Selection:
    settings = config.select.value
    provenance: dict[str, Any] = {
        "policy": agent.name, "policy_key": agent.key, "rollouts": settings.rollouts, "seed": config.seed,
        "temperature": settings.temperature, "gamma": settings.gamma, "threshold": settings.threshold,
        "estimate": settings.estimate, "absolute": settings.absolute, "adaptive": settings.adaptive,
    }  # fmt: skip
    fields = {"trajectory_id": forked.trajectory.trajectory_id, "ratio": config.select.ratio}
    if forked.error is not None:
        return Selection(method="value", error=forked.error, provenance=provenance, **fields)
    assert forked.replay is not None
    spent = forked.episodes.values()
    usage = Usage(
        prompt_tokens=sum(episode.prompt_tokens for episode in spent),
        completion_tokens=sum(episode.completion_tokens for episode in spent),
    )
    chosen = value.select(
        forked.trajectory, config.select.ratio, config.seed, forked.rewards(settings.rollouts), forked.replay.outcome,
        settings, provenance | {"env_seed": forked.replay.seed},
    )  # fmt: skip
    return chosen.model_copy(update={"usage": usage})


def _facts(config: PipelineConfig, forked: Sequence[_Forked]) -> dict[str, Any]:
    """What the rollouts took, and what an adaptive run saved."""
    totals: Counter[str] = Counter()
    for each in forked:
        totals["replay_steps"] += each.replay.environment_steps if each.replay is not None else 0
        totals["rollouts"] += len(each.episodes)
        for episode in each.episodes.values():
            totals.update({name: getattr(episode, name) for name in _COUNTS})
    return {
        "rollouts": totals["rollouts"],
        "environment_steps": totals["replay_steps"] + totals["environment_steps"],
        "replay_steps": totals["replay_steps"],
        "prefill_tokens_computed": totals["prompt_tokens"] - totals["cached_tokens"],
        "prefill_tokens_reused": totals["cached_tokens"],
        "generated_tokens": totals["completion_tokens"],
        "adaptive": _saving(config, forked) if config.select.value.adaptive else None,
    }


def _saving(config: PipelineConfig, forked: Sequence[_Forked]) -> dict[str, int]:
    """Rollouts not played, and whether the selection of audited trajectories, which have all, would have changed."""
    settings, whole = config.select.value, [each for each in forked if each.error is None]
    priors = _priors(whole)
    audited = [each for each in whole if each.audited]
    changed = saved = 0
    for each in audited:
        assert each.replay is not None
        everything, known = each.rewards(settings.rollouts), each.rewards(PILOT)
        while wanted := open_samples(config, each, known, priors):
            for step, sample in wanted:
                known[step].append(everything[step][sample])
        saved += sum(map(len, everything)) - sum(map(len, known))
        rule = (each.trajectory, config.select.ratio, config.seed)
        full = value.select(*rule, everything, each.replay.outcome, settings).steps
        changed += len({*full} ^ {*value.select(*rule, known, each.replay.outcome, settings).steps})
    others = [each for each in whole if not each.audited]
    return {
        "saved": sum(each.trajectory.n_steps * settings.rollouts - len(each.episodes) for each in others),
        "of": sum(each.trajectory.n_steps * settings.rollouts for each in others),
        "audited": len(audited),
        "audited_saved": saved,
        "audited_of": sum(each.trajectory.n_steps * settings.rollouts for each in audited),
        "audited_steps": sum(each.trajectory.n_steps for each in audited),
        "audited_steps_changed": changed,
    }


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
