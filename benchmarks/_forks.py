"""The claim `forks` of `benchmarks.rollouts`: the rollouts of `value`, beside their engine alone with equal requests.

One rollout from before each of the eight steps of 50 trajectories, through all that the selection uses: replays,
environments, tokenising, the journal, Ray. Then the engine alone gets the same prompts in the order in which they came,
as many at a time, and writes as many tokens after each. It does so twice. First any prompt takes a free place, so that
the batch is full until the last prompts; ours has fewer and fewer rollouts side by side at the end, which counts
against it. Then a rollout's prompts follow one another, as in play, and both batches run empty alike; what is missing
then is lost to environments, tokenising and Ray. All take turns in one engine, whose prefix cache is emptied before
each. Processor time is that of all processes.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
        rounds: all take that many turns.
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
    rounds_of: list[list[_Turn]] = []
    with Rollouts(spec, RolloutConfig(slots=SLOTS, memory_gib=2)) as rollouts:
        for number in range(1 + rounds):  # the first one, of one trajectory, starts the server, and is not counted
            every = [Forked(trajectory) for trajectory in (trajectories if number else trajectories[:1])]
            store = Store(tempfile.mkdtemp(prefix="atlas-bench-"))
            ray.get(engine.fresh.remote())
            with _measured(engine) as ours:
                progress = Progress("forks", len(every) * STEPS, "rollouts")
                playing_on = ForkedRollouts(run, store, entry, playing, every, ("forks.jsonl",), rollouts, progress)
                for each in playing_on:
                    if not each.episodes:
                        assert each.error is None, each.error
                        playing_on.ask(each, [Fork(step, number) for step in range(STEPS)])
            assert not [each.error for each in every if each.error]
            ours.tokens = sum(episode.completion_tokens for each in every for episode in each.episodes.values())
            if number:
                rounds_of.append([ours])
                for played in (None, len(every) * STEPS):
                    with _measured(engine) as peer:
                        peer.tokens = ray.get(engine.alone.remote(SLOTS, played))
                    rounds_of[-1].append(peer)
    ray.kill(engine)
    peers = {"the engine alone, the same requests": 0.85, "the engine alone, the same rollouts": None}
    for place, (name, goal) in enumerate(peers.items(), 1):
        shown = "; ".join(f"{turns[0]} against {turns[place]}" for turns in rounds_of)
        detail = f"{TRAJECTORIES * STEPS} rollouts, {ours.tokens:,} tokens: {shown} (load {psutil.getloadavg()[0]:.1f})"
        ratio = median(turns[0].rate / turns[place].rate for turns in rounds_of)
        yield Result(f"value's forks, {os.path.basename(directory)}", name, ratio, "x", goal, detail=detail)


@dataclass
class _Turn:
    """What the same rollouts took, played or by the engine alone."""

    tokens: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    """Processor time of all processes."""
    engine_cpu_s: float = 0.0
    """Of it, the engine's."""
    steps: int = 0
    """Of the engine: the fewer, the fuller its batches."""

    @property
    def rate(self) -> float:
        """Generated tokens per second."""
        return self.tokens / self.seconds

    def __str__(self) -> str:
        return (
            f"{self.rate:,.0f} tokens/s, {self.cpu_s:.0f} s of processor time ({self.engine_cpu_s:.0f} the engine's), "
            f"{self.steps:,} steps"
        )


@contextmanager
def _measured(engine: Any) -> Iterator[_Turn]:
    """Measures the block; its tokens are the caller's to count."""
    import ray

    turn, (own, steps), spent, begin = _Turn(), ray.get(engine.spent.remote()), _cpu_seconds(), time.perf_counter()
    yield turn
    turn.seconds, turn.cpu_s = time.perf_counter() - begin, _cpu_seconds() - spent
    own_now, steps_now = ray.get(engine.spent.remote())
    turn.engine_cpu_s, turn.steps = own_now - own, steps_now - steps


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


@dataclass
class _Asked:
    """A request to the engine, and the tokens that it answered."""

    ids: list[int]
    sampling: dict[str, Any]
    answer: list[int] = field(default_factory=list)

    def follows(self, other: _Asked) -> bool:
        """Whether the prompt begins with another one and its answer."""
        begin, end = len(other.ids), len(other.ids) + len(other.answer)
        return self.ids[begin:end] == other.answer and self.ids[:begin] == other.ids


class _Recording:
    """An engine that can do anew, alone, what it was asked to do."""

    def __init__(self, directory: str, config: Any) -> None:
        from atlas_ray.inference.engine import Engine

        self._engine = Engine(directory, config)
        self._asked: list[_Asked] = []
        self._steps, step = 0, self._engine._engine.step

        def counted() -> Any:
            self._steps += 1
            return step()

        self._engine._engine.step = counted

    async def ready(self) -> int:
        return self._engine.max_len

    async def generate(self, ids: list[int], *, model: str | None = None, **sampling: Any) -> Any:
        asked = _Asked(ids, sampling)
        self._asked.append(asked)
        answer = await self._engine.generate(ids, **sampling)
        asked.answer = answer.ids
        return answer

    async def fresh(self) -> None:
        self._asked.clear()
        assert self._engine._engine.reset_prefix_cache()

    async def spent(self) -> tuple[float, int]:
        """Processor time of this process, and steps of the engine."""
        return time.process_time(), self._steps

    async def alone(self, batch: int, rollouts: int | None) -> int:
        """Do the same requests, `batch` of them at a time, and return the number of generated tokens.

        Args:
            batch: requests under way.
            rollouts: so many were played, and the requests of each follow one another; None: any request takes a free
                place.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        assert self._engine._engine.reset_prefix_cache()
        rows = [[asked] for asked in self._asked] if rollouts is None else _rollouts(self._asked)
        assert len(rows) == (rollouts or len(self._asked)), f"{len(rows)} rollouts were told apart"
        waiting = iter(rows)

        async def some() -> int:
            tokens = 0
            for row in waiting:
                for asked in row:
                    params = SamplingParams(
                        temperature=asked.sampling["temperature"], seed=asked.sampling["seed"],
                        max_tokens=len(asked.answer), ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY,
                    )  # fmt: skip
                    output = await asyncio.wrap_future(self._engine.submit(asked.ids, params))
                    tokens += len(output.outputs[0].token_ids)
            return tokens

        return sum(await asyncio.gather(*(some() for _ in range(batch))))


def _rollouts(asked: Sequence[_Asked]) -> list[list[_Asked]]:
    """The requests of each rollout, in the order of play."""
    found: list[list[_Asked]] = []
    for each in asked:
        row = next((row for row in found if each.follows(row[-1])), None)
        if row is None:
            found.append([each])
        else:
            row.append(each)
    return found


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
