"""Episodes at scale against the usual ways: a request per step, replayed prefixes, one episode at a time.

Every ratio is of one run on one machine: the ways are measured in turn, three rounds each, and medians compared. Nodes
are simulated (Ray's cluster utility on this machine) with steps that sleep as long as a model's call would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
PYTHONPATH = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'plugin'}"
"""The project, and the trivial environment `faulty` of the tests, which nothing makes fail here."""
CORES = os.cpu_count() or 1
ROUNDS = 3
NODES = (1, 2, 4, 8)
SLOTS_A_NODE = 16


def main() -> None:
    """Measure all claims and publish."""
    from benchmarks.result import Result, publish

    results: list[Result] = []
    _start_ray()
    results += _per_step(Result)
    results += _in_process(Result)
    results += _value(Result)
    results += _batching(Result)
    import ray

    ray.shutdown()
    results.append(_scaling(Result))
    publish("rollouts", results)


def _start_ray() -> None:
    import ray

    ray.init(
        num_cpus=max(4, CORES), include_dashboard=False, log_to_driver=False, logging_level="error",
        object_store_memory=400_000_000, _temp_dir=tempfile.mkdtemp(prefix="atlas-bench-", dir="/tmp"),
        runtime_env={"env_vars": {"PYTHONPATH": PYTHONPATH, "TOKENIZERS_PARALLELISM": "false"}},
    )  # fmt: skip


def _specs(env: str, count: int, *, model: str, **options: Any) -> list[Any]:
    from atlas_ray.rollout.episode import EpisodeSpec

    return [EpisodeSpec(model, model, env, task, "train", 0, options) for task in range(count)]


def _steady(player: Any, config: Any, warm: Iterable[Any], works: list[Any], ready: int) -> tuple[list[Any], float]:
    """Results of `works` and the seconds they took once `ready` servers were up and had played."""
    from atlas_ray.rollout.driver import Rollouts

    warm = list(warm)
    with Rollouts(player, config) as rollouts:
        while sum(server.was_ready for server in rollouts._pool) < ready:
            rollouts.add(warm)
            list(rollouts)
        start = time.perf_counter()
        rollouts.add(works)
        return list(rollouts), time.perf_counter() - start


# --- a request per step ----------------------------------------------------------------------------------------------
def _per_step(result: Any) -> list[Any]:
    """Steps per second of a trivial environment: whole episodes in a call, against a request per step."""
    from atlas_ray.config import RolloutConfig
    from atlas_ray.rollout.player import Player

    works = _specs("faulty", 600, model="random", max_rounds=50, goal=1000)
    config = RolloutConfig(servers=CORES, slots=4, memory_gib=0.5)

    def ours() -> float:
        episodes, seconds = _steady(Player(), config, works[: 8 * CORES], works, CORES)
        return sum(episode.environment_steps for episode in episodes) / seconds

    with _HttpServer() as url:

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
    return [result("an episode a call, trivial environment", "FastAPI server, requests.post a step",
                   median(rates) / median(peers), "x", 25, detail=detail)]  # fmt: skip


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


def _in_turn(*ways: Callable[[], float]) -> list[list[float]]:
    """Each way's figures, measured in turn."""
    rounds = [[way() for way in ways] for _ in range(ROUNDS)]
    return [list(figures) for figures in zip(*rounds, strict=True)]


# --- in-process ------------------------------------------------------------------------------------------------------
_LOOP = """
import sys, time
from atlas_ray.environments import registry
from atlas_ray.rollout.episode import EpisodeSpec, play
from atlas_ray.rollout.policy import ExpertPolicy
env = registry.make("babyai")
specs = [EpisodeSpec("expert", "expert", "babyai", task, "train", 0) for task in range(*map(int, sys.argv[1:]))]
play(env, lambda env, spec: ExpertPolicy(env), specs[0])
print("ready", flush=True)
input()
start = time.perf_counter()
steps = sum(play(env, lambda env, spec: ExpertPolicy(env), spec).environment_steps for spec in specs)
print(steps, time.perf_counter() - start, flush=True)
"""


def _in_process(result: Any) -> list[Any]:
    """BabyAI's steps per second with its expert: servers on every core, against plain loops on every core."""
    from atlas_ray.config import RolloutConfig
    from atlas_ray.rollout.player import Player

    count = 300
    works = _specs("babyai", count * CORES, model="expert")
    config = RolloutConfig(servers=CORES, slots=2, memory_gib=0.5)

    def ours() -> float:
        episodes, seconds = _steady(Player(), config, works[: 4 * CORES], works, CORES)
        assert not [episode.error for episode in episodes if episode.error]
        return sum(episode.environment_steps for episode in episodes) / seconds

    def plain() -> float:
        loops = [
            subprocess.Popen([sys.executable, "-c", _LOOP, str(i * count), str((i + 1) * count)], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": PYTHONPATH})
            for i in range(CORES)
        ]  # fmt: skip
        for loop in loops:
            assert loop.stdout is not None
            loop.stdout.readline()
        for loop in loops:
            assert loop.stdin is not None
            loop.stdin.write("\n")
            loop.stdin.flush()
        figures = [tuple(map(float, loop.communicate()[0].split())) for loop in loops]
        return sum(steps for steps, _ in figures) / max(seconds for _, seconds in figures)

    rates, peers = _in_turn(ours, plain)
    detail = f"{median(rates):,.0f} against {median(peers):,.0f} steps/s on {CORES} cores"
    return [result("BabyAI on as many servers as cores", "the same loop without Ray, a process a core",
                   100 * median(rates) / median(peers), "%", 80, detail=detail)]  # fmt: skip


# --- value rollouts --------------------------------------------------------------------------------------------------
def _value(result: Any) -> list[Any]:
    """Rollouts before each of ten steps of a TextCraft trajectory: forks, against replayed prefixes, cold cache."""
    import ray

    from atlas_ray import models
    from atlas_ray.config import EngineConfig, RolloutConfig
    from atlas_ray.rollout.driver import Rollouts, run_episodes
    from atlas_ray.rollout.forks import ReplaySpec
    from atlas_ray.rollout.player import Player, engines

    directory, options = models.resolve(models.ON_BOARD), {"depths": [3], "distractors": 2, "max_rounds": 20}
    trajectory = _ten_steps(options)
    engine, config = EngineConfig(max_model_len=2048), RolloutConfig(slots=50)
    with engines(engine, "on board", directory) as player:
        start = time.perf_counter()
        with Rollouts(player, config) as rollouts:
            rollouts.add([ReplaySpec(trajectory, options=options)])
            replay, episodes = None, []
            for found in rollouts:
                if replay is None:
                    replay = found
                    assert replay.error is None, replay.error
                    forks = [_fork(replay, step, sample, options) for step in range(10) for sample in range(5)]
                    rollouts.add(forks)
                else:
                    episodes.append(found)
        ours_s = time.perf_counter() - start
    assert replay is not None
    cold = ray.remote(_ColdEngine).options(num_cpus=1).remote(directory, engine)
    once = [replace(fork, sample=9) for fork in forks[::5]]
    ray.get(cold.ready.remote())
    start = time.perf_counter()
    replayed = list(run_episodes(once, Player(directory, (cold,), engine.max_model_len), config))
    theirs_s = (time.perf_counter() - start) * 5
    ray.kill(cold)
    errors = [episode.error for episode in [*episodes, *replayed] if episode.error]
    lost = f"; {len(errors)} of {len(episodes) + len(replayed)} rollouts failed ({errors[0]})" if errors else ""
    own = sum(episode.environment_steps for episode in episodes)
    computed = sum(episode.prompt_tokens - episode.cached_tokens for episode in episodes)
    everything = sum(episode.prompt_tokens for episode in episodes)
    prefixes = sum(5 * step for step in range(10))
    peer = "every prefix replayed, cold cache"
    return [
        result("value rollouts: prefill tokens computed", peer, everything / computed, "x fewer", 3,
               detail=f"{everything:,} against {computed:,}; 10 steps x 5 rollouts"),
        result("value rollouts: environment steps", peer, (prefixes + own) / (10 + own), "x fewer", 4,
               detail=f"{prefixes} + {own} against 10 + {own} of the rollouts' own"),
        result("value rollouts: wall-clock", peer, theirs_s / ours_s, "x", 1,
               detail=f"{ours_s:.0f} s; one of five measured cold, x 5: {theirs_s:.0f} s{lost}"),
    ]  # fmt: skip


def _ten_steps(options: dict[str, Any]) -> Any:
    """The first expert trajectory of ten steps or more, cut to ten."""
    from atlas_ray.environments import registry
    from atlas_ray.rollout.episode import EpisodeSpec, play
    from atlas_ray.rollout.policy import ExpertPolicy
    from atlas_ray.trajectory import Trajectory

    env = registry.make("textcraft", **options)
    for task in range(200):
        spec = EpisodeSpec("expert", "expert", "textcraft", task, "train", 0, options)
        episode = play(env, lambda env, spec: ExpertPolicy(env), spec)
        if episode.rounds >= 10:
            turns = tuple(m for m in episode.messages if m.step is None or m.step < 10)[: 3 + 2 * 10]
            return Trajectory(
                trajectory_id="ten", env="textcraft", item_id=f"textcraft_{task}", source="expert", messages=turns,
                n_steps=10, metadata={"task": task, "seed": 0},
            )  # fmt: skip
    raise AssertionError("no task of ten steps")


def _fork(replay: Any, step: int, sample: int, options: dict[str, Any]) -> Any:
    from atlas_ray.rollout.episode import EpisodeSpec

    return EpisodeSpec(
        "on board", "on board", "textcraft", replay.task, replay.split, replay.seed, options,
        start=replay.starts[step], sample=sample, temperature=1.0, max_new_tokens=24, give_up_after=1,
    )  # fmt: skip


class _ColdEngine:
    """An engine without a prefix cache."""

    def __init__(self, directory: str, config: Any) -> None:
        from atlas_ray.inference import engine

        arguments = engine.engine_arguments
        engine.engine_arguments = lambda *a, **o: arguments(*a, **o) | {"enable_prefix_caching": False}  # type: ignore[assignment]
        self._engine = engine.Engine(directory, config)

    async def ready(self) -> int:
        return self._engine.max_len

    async def generate(self, ids: list[int], **sampling: Any) -> Any:
        return await self._engine.generate(ids, **sampling)


# --- batching --------------------------------------------------------------------------------------------------------
def _batching(result: Any) -> list[Any]:
    """Generated tokens per second of the model on board: 32 Wordle episodes at a time against one."""
    from atlas_ray import models
    from atlas_ray.config import EngineConfig, RolloutConfig
    from atlas_ray.rollout.player import engines

    works = [
        replace(spec, max_new_tokens=48, temperature=1.0) for spec in _specs("wordle", 40, model="m", max_rounds=2)
    ]
    with engines(EngineConfig(max_model_len=2048), "on board", models.resolve(models.ON_BOARD)) as player:

        def rate(slots: int, count: int) -> float:
            sampled = [replace(spec, sample=slots + count) for spec in works[:count]]
            episodes, seconds = _steady(player, RolloutConfig(slots=slots), works[-1:], sampled, 1)
            return sum(episode.completion_tokens for episode in episodes) / seconds

        many, one = _in_turn(lambda: rate(32, 32), lambda: rate(1, 3))
    detail = f"{median(many):.0f} against {median(one):.0f} tokens/s"
    return [result("32 episodes at a time", "one at a time", median(many) / median(one), "x", 5, detail=detail)]


# --- nodes -----------------------------------------------------------------------------------------------------------
def _scaling(result: Any) -> Any:
    """Episodes per second on 1, 2, 4 and 8 simulated nodes of one server each."""
    rates = {}
    for nodes in NODES:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.rollouts", "--nodes", str(nodes)], cwd=ROOT, text=True,
            env=os.environ | {"PYTHONPATH": PYTHONPATH}, capture_output=True, timeout=300,
        )  # fmt: skip
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        assert lines, done.stdout + done.stderr
        rates[nodes] = json.loads(lines[-1])["rate"]
    shares = ", ".join(f"{n}: {rate:.1f}/s ({rate / n / rates[1]:.0%})" for n, rate in rates.items())
    return result("8 simulated nodes, steps of 0.5 s", "one node, times 8", 100 * rates[8] / 8 / rates[1], "%", 90,
                  detail=f"episodes by nodes: {shares}")  # fmt: skip


def _on_nodes(nodes: int) -> None:
    """Print the rate on so many nodes; in a process of its own, for a cluster of its own."""
    folder = tempfile.mkdtemp(prefix="atlas-nodes-", dir="/tmp")
    os.makedirs(f"{folder}/ray")
    os.environ["RAY_TMPDIR"] = folder
    import ray
    from ray.cluster_utils import Cluster

    from atlas_ray.config import RolloutConfig
    from atlas_ray.rollout.player import Player

    store = {"object_store_memory": 80_000_000, "memory": 2 * 2**30}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **store})
    for _ in range(nodes):
        cluster.add_node(num_cpus=1, **store)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error",
             runtime_env={"env_vars": {"PYTHONPATH": PYTHONPATH}})  # fmt: skip
    works = _specs("faulty", 6 * SLOTS_A_NODE * nodes, model="random", step_s=0.5, max_rounds=6, goal=1000)
    config = RolloutConfig(servers=nodes, slots=SLOTS_A_NODE, memory_gib=0.5)
    warm = _specs("faulty", SLOTS_A_NODE * nodes, model="random", step_s=0.1)
    episodes, seconds = _steady(Player(), config, warm, works, nodes)
    print(json.dumps({"rate": len(episodes) / seconds}), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    if "--nodes" in sys.argv:
        _on_nodes(int(sys.argv[-1]))
    else:
        main()
