"""The claim `forks` of `benchmarks.rollouts`: the rollouts of `value`, beside their engine alone with equal requests.

One rollout from before each of the eight steps of 50 trajectories, through all that the selection uses: replays,
environments, tokenising, the journal, Ray. Then the engine alone gets the same prompts in the order in which they came,
as many at a time, and writes as many tokens after each. Both take turns in one engine, whose prefix cache is emptied
before each. The last rollouts have fewer beside them, which counts against ours. CPU time is that of all processes.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import psutil

from benchmarks.result import Result

TRAJECTORIES, STEPS, SLOTS = 50, 8, 50
OPTIONS = {"depths": [3], "distractors": 2, "max_rounds": 14}
MAX_NEW_TOKENS = 48


def forks(model: str, rounds: int) -> Iterator[Result]:
    """Generated tokens per second.

    Args:
        model: what `models.resolve` takes.
        rounds: both take that many turns.
    """
    import ray

    from atlas_ray import models
    from atlas_ray.config import EngineConfig, Playing, RolloutConfig
    from atlas_ray.config_files import load
    from atlas_ray.evaluation.forked import Fork, Forked, ForkedRollouts
    from atlas_ray.inference.engine import engine_environment
    from atlas_ray.progress import Progress
    from atlas_ray.rollout.driver import Rollouts
    from atlas_ray.rollout.player import ModelSpec
    from atlas_ray.roster import RosterEntry
    from atlas_ray.store import Store

    directory, config = models.resolve(model), EngineConfig(max_model_len=2048)
    actor = ray.remote(_Recording).options(num_cpus=1, runtime_env={"env_vars": engine_environment(config)})
    engine = actor.remote(directory, config)
    spec = ModelSpec(directory=directory, engines=(engine,), max_len=ray.get(engine.ready.remote()))
    run = load(None, {"environments": {"textcraft": OPTIONS}, "model": directory})
    playing = Playing(temperature=1.0, max_new_tokens=MAX_NEW_TOKENS, give_up_after=1)
    entry = RosterEntry("base", "base", model, directory=directory)
    trajectories = cut_trajectories(STEPS, TRAJECTORIES, OPTIONS)
    rates: list[tuple[float, float]] = []
    cpu: list[tuple[float, float]] = []
    with Rollouts(spec, RolloutConfig(slots=SLOTS, memory_gib=2)) as rollouts:
        for number in range(1 + rounds):  # the first one, of one trajectory, starts the server, and is not counted
            every = [Forked(trajectory) for trajectory in (trajectories if number else trajectories[:1])]
            store = Store(tempfile.mkdtemp(prefix="atlas-bench-"))
            ray.get(engine.fresh.remote())
            begin, spent = time.perf_counter(), _cpu_seconds()
            progress = Progress("forks", len(every) * STEPS, "rollouts")
            playing_on = ForkedRollouts(run, store, entry, playing, every, ("forks.jsonl",), rollouts, progress)
            for each in playing_on:
                if not each.episodes:
                    assert each.error is None, each.error
                    playing_on.ask(each, [Fork(step, number) for step in range(STEPS)])
            seconds, ours_cpu = time.perf_counter() - begin, _cpu_seconds() - spent
            assert not [each.error for each in every if each.error]
            if number:
                spent = _cpu_seconds()
                tokens, alone_s = ray.get(engine.alone.remote(SLOTS))
                rates.append((tokens / seconds, tokens / alone_s))
                cpu.append((ours_cpu, _cpu_seconds() - spent))
    ray.kill(engine)
    shown = " ".join(f"{ours:,.0f}/{alone:,.0f}" for ours, alone in rates)
    detail = (
        f"{shown} tokens/s, {tokens:,} tokens of {TRAJECTORIES * STEPS} rollouts; CPU seconds "
        f"{' '.join(f'{ours:.0f}/{alone:.0f}' for ours, alone in cpu)} (load {psutil.getloadavg()[0]:.1f})"
    )
    yield Result(f"value's forks, {os.path.basename(directory)}", "the engine alone, the same requests",
                 median(ours / alone for ours, alone in rates), "x", 0.85, detail=detail)  # fmt: skip


def cut_trajectories(steps: int, count: int, options: dict[str, Any]) -> list[Any]:
    """The first trajectories of TextCraft's expert that have at least so many steps, cut to them."""
    from atlas_ray.environments import registry
    from atlas_ray.rollout.episode import play
    from atlas_ray.rollout.policy import ExpertPolicy
    from atlas_ray.rollout.spec import EpisodeSpec
    from atlas_ray.trajectory import Trajectory

    env, found = registry.make("textcraft", **options), []
    for task in range(env.card.n_train):
        spec = EpisodeSpec("expert", "expert", "textcraft", task, "train", 0, options=options)
        episode = play(env, lambda env, spec: ExpertPolicy(env), spec)
        if episode.rounds >= steps:
            turns = tuple(m for m in episode.messages if m.step is None or m.step < steps)[: 3 + 2 * steps]
            found.append(Trajectory(
                trajectory_id=f"{task}", env="textcraft", item_id=f"textcraft_{task}", source="expert",
                messages=turns, n_steps=steps, metadata={"task": task, "seed": 0},
            ))  # fmt: skip
        if len(found) == count:
            return found
    raise AssertionError(f"{len(found)} of {count} trajectories of {steps} steps")


class _Recording:
    """An engine that can do anew, alone, what it was asked to do."""

    def __init__(self, directory: str, config: Any) -> None:
        from atlas_ray.inference.engine import Engine

        self._engine = Engine(directory, config)
        self._asked: list[tuple[list[int], dict[str, Any], int]] = []

    async def ready(self) -> int:
        return self._engine.max_len

    async def generate(self, ids: list[int], *, model: str | None = None, **sampling: Any) -> Any:
        place = len(self._asked)
        self._asked.append((ids, sampling, 0))
        answer = await self._engine.generate(ids, **sampling)
        self._asked[place] = ids, sampling, len(answer.ids)
        return answer

    async def fresh(self) -> None:
        self._asked.clear()
        assert self._engine._engine.reset_prefix_cache()

    async def alone(self, batch: int) -> tuple[int, float]:
        """Tokens and seconds of the same requests, `batch` of them at a time."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        assert self._engine._engine.reset_prefix_cache()
        requests = iter(self._asked)

        async def some() -> int:
            tokens = 0
            for ids, sampling, count in requests:
                params = SamplingParams(
                    temperature=sampling["temperature"], seed=sampling["seed"], max_tokens=count, ignore_eos=True,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                )  # fmt: skip
                output = await asyncio.wrap_future(self._engine.submit(ids, params))
                tokens += len(output.outputs[0].token_ids)
            return tokens

        begin = time.perf_counter()
        tokens = sum(await asyncio.gather(*(some() for _ in range(batch))))
        return tokens, time.perf_counter() - begin


def _cpu_seconds() -> float:
    """Of this process and all below it."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
