"""Episodes at scale against the usual ways: a request per step, replayed prefixes, one episode at a time.

`python -m benchmarks.rollouts [requests] [processes] [engine] [forks] [nodes]` measures those claims, all by default;
each is published when it is measured. `forks` is in `_forks.py`; a small model shows best what is not the engine's
(`--model models/small`, docs/evidence.md). Every ratio is of one run on one machine: the ways are measured in turn, in
rounds, and medians compared. Nodes are simulated (Ray's cluster utility) with steps that sleep as long as a model's
call would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from atlas_ray.models import ON_BOARD
from benchmarks._forks import cut_trajectories, forks
from benchmarks.result import Result, asked, parser_for, show, write

ROOT = Path(__file__).parents[1]
PYTHONPATH = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'plugin'}"
"""The project, and the trivial environment `faulty` of the tests, which nothing makes fail here."""
CORES = os.cpu_count() or 1
ROUNDS = 3
NODES = (1, 2, 4, 8)
SLOTS_A_NODE = 16
Play = Callable[[list[Any]], tuple[list[Any], float]]
"""Plays tasks; their results and the seconds it took."""


def main() -> None:
    """Measure what is asked for and publish each claim as it is measured."""
    claims = {
        "requests": _requests, "processes": _processes, "engine": _engine,
        "forks": lambda: _forks(options.model, options.rounds), "nodes": _nodes,
    }  # fmt: skip
    parser = parser_for("rollouts", __doc__)
    parser.add_argument("--model", default=ON_BOARD, help="of `forks`: a model, or a directory [the one on board]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of `forks`, minutes each [{ROUNDS}]")
    options = asked(parser, claims)
    results: list[Result] = []
    for name in options.claims:
        for result in claims[name]():
            results.append(result)
            show("rollouts", [result])
            write("rollouts", results)


@contextmanager
def _cluster() -> Iterator[None]:
    import ray

    ray.init(
        num_cpus=max(4, CORES), include_dashboard=False, log_to_driver=False, logging_level="error",
        object_store_memory=400_000_000, _temp_dir=tempfile.mkdtemp(prefix="atlas-bench-", dir="/tmp"),
        runtime_env={"env_vars": {"PYTHONPATH": PYTHONPATH, "TOKENIZERS_PARALLELISM": "false"}},
    )  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _servers(
    model: Any, warm: Iterable[Any], *, slots: int, servers: int = 1, memory_gib: float = 0.5
) -> Iterator[Play]:
    """A way to play tasks on servers that are all up and have played `warm`."""
    from atlas_ray.config import RolloutConfig
    from atlas_ray.rollout.driver import Rollouts

    config, warm = RolloutConfig(slots=slots, servers=servers, memory_gib=memory_gib), list(warm)
    with Rollouts(model, config) as rollouts:

        def play(tasks: list[Any]) -> tuple[list[Any], float]:
            start = time.perf_counter()
            rollouts.add(tasks)
            results = list(rollouts)
            return results, time.perf_counter() - start

        while sum(server.was_ready for server in rollouts._pool) < servers:
            play(warm)
        yield play


def _specs(env: str, count: int, *, model: str, **options: Any) -> list[Any]:
    from atlas_ray.rollout.spec import EpisodeSpec

    return [EpisodeSpec(model, model, env, task, "train", 0, options=options) for task in range(count)]


def _in_turn(*ways: Callable[[], float]) -> list[list[float]]:
    """Each way's figures, measured in turn."""
    rounds = [[way() for way in ways] for _ in range(ROUNDS)]
    return [list(figures) for figures in zip(*rounds, strict=True)]


# --- a request per step ----------------------------------------------------------------------------------------------
def _requests() -> Iterator[Result]:
    """Steps per second of a trivial environment: whole episodes in a call, against a request per step."""
    from atlas_ray.rollout.player import ModelSpec

    tasks = _specs("faulty", 600, model="random", max_rounds=50, goal=1000)
    with _cluster(), _HttpServer() as url, _servers(ModelSpec(), tasks[: 8 * CORES], servers=CORES, slots=4) as play:

        def ours() -> float:
            episodes, seconds = play(tasks)
            return sum(episode.environment_steps for episode in episodes) / seconds

        def theirs() -> float:
            import requests

            session = requests.post(f"{url}/create", json={}, timeout=30).json()["id"]
            requests.post(f"{url}/reset", json={"id": session, "data_idx": 0}, timeout=30)
            start, steps = time.perf_counter(), 0
            while time.perf_counter() - start < 3.0:
                answer = requests.post(f"{url}/step", json={"id": session, "action": "add 1"}, timeout=30).json()
                if answer["done"]:
                    requests.post(f"{url}/reset", json={"id": session, "data_idx": 0}, timeout=30)
                steps += 1
            return steps / (time.perf_counter() - start)

        rates, peers = _in_turn(ours, theirs)
    detail = f"{median(rates):,.0f} against {median(peers):,.0f} steps/s of this machine"
    yield Result("an episode a call, trivial environment", "FastAPI server, requests.post a step",
                 median(rates) / median(peers), "x", 25, detail=detail)  # fmt: skip


class _HttpServer:
    """The same environment behind FastAPI and uvicorn, in a process of its own."""

    def __enter__(self) -> str:
        code = (
            "import socket, uvicorn; from atlas_ray.environments.http import make_app;"
            "s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True);"
            "c = uvicorn.Config(make_app('faulty', max_rounds=50, goal=1000), log_level='error');"
            "uvicorn.Server(c).run([s])"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": PYTHONPATH}
        )
        assert self._process.stdout is not None
        url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        import requests

        while True:
            try:
                requests.get(url, timeout=5)
                return url
            except requests.ConnectionError:
                time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


# --- plain processes -------------------------------------------------------------------------------------------------
_LOOP = """
import sys, time
from atlas_ray.environments import registry
from atlas_ray.rollout.episode import play
from atlas_ray.rollout.policy import ExpertPolicy
from atlas_ray.rollout.spec import EpisodeSpec
env = registry.make("babyai")
specs = [EpisodeSpec("expert", "expert", "babyai", task, "train", 0) for task in range(*map(int, sys.argv[1:]))]
play(env, lambda env, spec: ExpertPolicy(env), specs[0])
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    steps = sum(play(env, lambda env, spec: ExpertPolicy(env), spec).environment_steps for spec in specs)
    print(steps, time.perf_counter() - start, flush=True)
"""


def _processes() -> Iterator[Result]:
    """BabyAI's steps per second with its expert: servers on every core, against plain loops on every core."""
    from atlas_ray.rollout.player import ModelSpec

    count = 300
    tasks = _specs("babyai", count * CORES, model="expert")
    with _cluster(), ExitStack() as stack:
        loops = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _LOOP, str(i * count), str((i + 1) * count)], text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": PYTHONPATH},
                )
            )
            for i in range(CORES)
        ]  # fmt: skip
        play = stack.enter_context(_servers(ModelSpec(policy="expert"), tasks[: 4 * CORES], servers=CORES, slots=2))

        def ours() -> float:
            episodes, seconds = play(tasks)
            assert not [episode.error for episode in episodes if episode.error]
            return sum(episode.environment_steps for episode in episodes) / seconds

        def plain() -> float:
            for loop in loops:
                assert loop.stdin is not None
                loop.stdin.write("\n")
                loop.stdin.flush()
            figures = [tuple(map(float, _line(loop).split())) for loop in loops]
            return sum(steps for steps, _ in figures) / max(seconds for _, seconds in figures)

        assert [_line(loop) for loop in loops] == ["ready\n"] * CORES
        rates, peers = _in_turn(ours, plain)
    detail = f"{median(rates):,.0f} against {median(peers):,.0f} steps/s on {CORES} cores"
    yield Result("BabyAI on as many servers as cores", "the same loop without Ray, a process a core",
                 100 * median(rates) / median(peers), "%", 80, detail=detail)  # fmt: skip


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


# --- the model on board ----------------------------------------------------------------------------------------------
def _engine() -> Iterator[Result]:
    """What needs an engine, with one for all of it."""
    from atlas_ray import models
    from atlas_ray.config import EngineConfig
    from atlas_ray.rollout.player import engines

    with _cluster(), engines(EngineConfig(max_model_len=2048), "on board", models.resolve(models.ON_BOARD)) as model:
        yield from _value(model)
        yield from _batching(model)


def _value(model: Any) -> Iterator[Result]:
    """Five rollouts before each of ten steps of a TextCraft trajectory: forks, against replayed prefixes, cold cache.

    The peer's prompts begin with a token of their own each, so they share no block in the engine's cache. One rollout
    of each step is measured for it, and counted five times.
    """
    import ray

    from atlas_ray.rollout.replay import ReplaySpec

    options = {"depths": [3], "distractors": 2, "max_rounds": 20}
    [trajectory] = cut_trajectories(10, 1, options)
    warm = _specs("wordle", 1, model="on board", max_rounds=1)
    with _servers(model, warm, slots=50, memory_gib=2) as play:
        start = time.perf_counter()
        [replay], _ = play([ReplaySpec(trajectory, options=options)])
        assert replay.error is None, replay.error
        forks = [_fork(replay, step, sample, options) for step in range(10) for sample in range(5)]
        episodes, _ = play(forks)
        ours_s = time.perf_counter() - start
    cold = ray.remote(_ColdEngine).options(num_cpus=0).remote(model.engines[0])
    with _servers(replace(model, engines=(cold,)), warm, slots=50, memory_gib=2) as play:
        replayed, theirs_s = play([replace(fork, sample=9) for fork in forks[::5]])
    ray.kill(cold)
    errors = [episode.error for episode in [*episodes, *replayed] if episode.error]
    lost = f"; {len(errors)} of {len(episodes) + len(replayed)} rollouts failed ({errors[0]})" if errors else ""
    own = sum(episode.environment_steps for episode in episodes)
    computed = sum(episode.prompt_tokens - episode.cached_tokens for episode in episodes)
    everything = sum(episode.prompt_tokens for episode in episodes)
    prefixes = sum(5 * step for step in range(10))
    peer = "every prefix replayed, cold cache"
    yield Result("value rollouts: prefill tokens computed", peer, everything / computed, "x fewer", 3,
                 detail=f"{everything:,} against {computed:,}; 10 steps x 5 rollouts{lost}")  # fmt: skip
    yield Result("value rollouts: environment steps", peer, (prefixes + own) / (10 + own), "x fewer", 4,
                 detail=f"{prefixes} + {own} against 10 + {own} of the rollouts' own")  # fmt: skip
    yield Result("value rollouts: wall-clock", peer, 5 * theirs_s / ours_s, "x", None,
                 detail=f"{ours_s:.0f} s; one of five measured cold, x 5: {5 * theirs_s:.0f} s")  # fmt: skip


def _fork(replay: Any, step: int, sample: int, options: dict[str, Any]) -> Any:
    from atlas_ray.config import Playing
    from atlas_ray.rollout.spec import EpisodeSpec

    return EpisodeSpec(
        "on board", "on board", "textcraft", replay.task, replay.split, replay.seed,
        Playing(temperature=1.0, max_new_tokens=24, give_up_after=1), options, start=replay.starts[step],
        sample=sample,
    )  # fmt: skip


class _ColdEngine:
    """An engine whose prefix cache never applies: each prompt begins with another token."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._token = 1000

    async def generate(self, ids: list[int], **sampling: Any) -> Any:
        self._token += 1
        return await self._engine.generate.remote([self._token, *ids], **sampling)


def _batching(model: Any) -> Iterator[Result]:
    """Generated tokens per second of the model on board: 32 Wordle episodes at a time against one."""
    from atlas_ray.config import Playing

    playing = Playing(max_new_tokens=32, temperature=1.0)
    tasks = [replace(spec, playing=playing) for spec in _specs("wordle", 32, model="m", max_rounds=2)]
    samples = iter(range(1_000))
    with _servers(model, tasks[:1], slots=32, memory_gib=2) as play:

        def rate(count: int) -> float:
            sample = next(samples)
            episodes, seconds = play([replace(spec, sample=sample) for spec in tasks[:count]])
            return sum(episode.completion_tokens for episode in episodes) / seconds

        many, one = _in_turn(lambda: rate(32), lambda: rate(1))
    detail = f"{median(many):.0f} against {median(one):.0f} tokens/s"
    yield Result("32 episodes at a time", "one at a time", median(many) / median(one), "x", 5, detail=detail)


def _forks(model: str, rounds: int) -> Iterator[Result]:
    with _cluster():
        yield from forks(model, rounds)


# --- nodes -----------------------------------------------------------------------------------------------------------
def _nodes() -> Iterator[Result]:
    """Episodes per second on 1, 2, 4 and 8 simulated nodes of one server each."""
    done = subprocess.run(
        [sys.executable, "-c", "from benchmarks.rollouts import grow; grow()"], cwd=ROOT, text=True, timeout=400,
        env=os.environ | {"PYTHONPATH": PYTHONPATH}, capture_output=True,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stdout + done.stderr
    rates = {int(nodes): rate for nodes, rate in json.loads(lines[-1]).items()}
    shares = ", ".join(f"{n}: {rate:.1f}/s ({rate / n / rates[1]:.0%})" for n, rate in rates.items())
    yield Result("8 simulated nodes, steps of 0.5 s", "one node, times 8", 100 * rates[8] / 8 / rates[1], "%", 90,
                 detail=f"episodes by nodes: {shares}")  # fmt: skip


def grow() -> None:
    """Print the rates by number of nodes; in a process of its own, whose cluster grows."""
    folder = tempfile.mkdtemp(prefix="atlas-nodes-", dir="/tmp")
    os.makedirs(f"{folder}/ray")
    os.environ["RAY_TMPDIR"] = folder
    import ray
    from ray.cluster_utils import Cluster

    from atlas_ray.rollout.player import ModelSpec

    store = {"object_store_memory": 80_000_000, "memory": 2 * 2**30}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **store})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error",
             runtime_env={"env_vars": {"PYTHONPATH": PYTHONPATH}})  # fmt: skip
    rates: dict[int, float] = {}
    for nodes in NODES:
        while len(cluster.worker_nodes) < nodes:
            cluster.add_node(num_cpus=1, **store)
        tasks = _specs("faulty", 4 * SLOTS_A_NODE * nodes, model="random", step_s=0.5, max_rounds=6, goal=1000)
        warm = _specs("faulty", SLOTS_A_NODE * nodes, model="random", step_s=0.1)
        with _servers(ModelSpec(), warm, servers=nodes, slots=SLOTS_A_NODE) as play:
            episodes, seconds = play(tasks)
        rates[nodes] = len(episodes) / seconds
    print(json.dumps(rates), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
