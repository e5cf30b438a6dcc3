"""Whether anything grows: episodes on two environment servers, served sessions whose clients vanish, engines that die.

`python -m benchmarks.soak [episodes] [sessions] [engines]` does all by default. `episodes`: a random policy plays in
ten environments; after every twentieth of them the memory, file handles and threads of the servers, of this driver and
of Ray's raylet and GCS are looked at, and the object references that the driver holds. `sessions`: clients of the
served agent close their session, leave it open, or break the connection while the environment or the model is at work.
At the end a server must take as many sessions as it may hold, so none that was left is still there. `engines`: a model
on two vLLM engines plays the same tasks of all environments again and again, first undisturbed, then while every 30 s
one of the engines is killed, drawn from `--seed`. Everything is compared with itself after the first part of the work.
Speeds are not measured.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import ray

from atlas_ray.cluster import connect
from atlas_ray.config import EngineConfig, Playing, RolloutConfig
from atlas_ray.config_files import load
from atlas_ray.environments import registry
from atlas_ray.errors import EnvironmentError
from atlas_ray.rollout.driver import Rollouts
from atlas_ray.rollout.player import ModelSpec, engines
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.serving import app
from atlas_ray.trajectory import Episode
from benchmarks._faults import line_of
from benchmarks.result import Result, asked, parser_for, publish
from tests import tiny_model

ENVIRONMENTS = (
    "academia", "babyai", "maze", "movie", "pddl", "sheet", "textcraft", "todo", "weather", "wordle",
)  # fmt: skip
IDLE_S = 5.0
"""Seconds after which a session that was left is closed."""
MOST_SESSIONS = 64
_CERTIFICATES = ssl.create_default_context()
CLIENTS = 8
"""Sessions that are played at a time."""
KILL_AFTER_S = 30.0
"""Seconds between two kills of an engine."""
HISTORY = {"RAY_task_events_max_num_task_in_gcs": "1000"}
"""Ray's GCS keeps events of 100,000 calls, and grows until it has them. Where Ray is started here they are fewer, so
that whatever else grows is seen."""
SLACK = 1.05
"""What may be more than at the beginning: an allocator's pieces, a connection that is just being closed."""


@dataclass(frozen=True)
class Sample:
    """What the processes hold at a moment."""

    done: int
    """Episodes or sessions so far."""
    served: float
    """MiB of the actors that do the work."""
    driver: float
    """MiB of this process."""
    raylet: float
    """MiB of Ray's raylet."""
    gcs: float
    """MiB of Ray's GCS."""
    handles: int
    threads: int
    objects: int
    """Object references that the driver holds."""


def sample(done: int, *titles: str) -> Sample:
    """Look at this process, at the actors below it with these titles, and at Ray's own processes.

    Args:
        done: episodes or sessions so far.
        titles: parts of the actors' titles.
    """
    own = psutil.Process()
    lines = {each: line_of(each) for each in own.children(recursive=True)}
    actors = [each for each, line in lines.items() if line.startswith("ray::") and any(it in line for it in titles)]
    raylets = [each for each, line in lines.items() if "/raylet/raylet " in line]
    gcs = [each for each, line in lines.items() if "/gcs/gcs_server " in line]
    every = [own, *actors, *raylets, *gcs]
    worker: Any = ray._private.worker.global_worker.core_worker  # has no public name
    return Sample(
        done, _mib(actors), _mib([own]), _mib(raylets), _mib(gcs), sum(each.num_fds() for each in every),
        sum(each.num_threads() for each in every), len(worker.get_all_reference_counts()),
    )  # fmt: skip


def _mib(processes: list[psutil.Process]) -> float:
    return sum(each.memory_info().rss for each in processes) / 2**20


def _show(at: Sample) -> None:
    print(
        f"{at.done:>7,}: actors {at.served:,.0f} MiB, driver {at.driver:,.0f} MiB, raylet {at.raylet:,.0f} MiB, "
        f"GCS {at.gcs:,.0f} MiB; {at.handles} file handles, {at.threads} threads, {at.objects} object references",
        flush=True,
    )


def growth(what: str, samples: list[Sample]) -> Iterator[Result]:
    """The last sample against the first one, and how memory went in between."""
    of = ("actors", "driver", "raylet", "GCS")
    names = (*(f"memory of {each}" for each in of), "file handles", "threads", "objects")
    first, last = astuple(samples[0]), astuple(samples[-1])
    for place, name in enumerate(names, start=1):
        values = [float(astuple(each)[place]) for each in samples]
        slope = 1000 * statistics.linear_regression([each.done for each in samples], values).slope
        yield Result(
            f"{what}: {name}", f"itself after {samples[0].done:,}", last[place] / max(first[place], 1), "x", SLACK,
            at_least=False, detail=f"{first[place]:,.0f} to {last[place]:,.0f}; slope {slope:+.2f} for every thousand",
        )  # fmt: skip


# --- episodes --------------------------------------------------------------------------------------------------------
def soak_episodes(total: int) -> Iterator[Result]:
    """Play so many episodes in twenty parts."""
    part = max(total // 20, len(ENVIRONMENTS))
    config = RolloutConfig(servers=2, slots=8, cpus=0.4, memory_gib=2, recycle_after=10 * total)
    tasks = {name: registry.card(name).n_tasks("train") for name in ENVIRONMENTS}
    samples, errors, number = [], Counter[str](), 0
    with Rollouts(ModelSpec(), config) as rollouts:
        for _ in range(0, total, part):
            specs = []
            for _ in range(part):
                env = ENVIRONMENTS[number % len(ENVIRONMENTS)]
                specs.append(EpisodeSpec("random", "random", env, number % tasks[env], "train", number))
                number += 1
            rollouts.add(specs)
            errors.update(each.error for each in rollouts if each.error is not None)
            samples.append(sample(number, "EnvironmentServer"))
            _show(samples[-1])
    detail = "; ".join(sorted(errors))[:200]
    yield Result(
        "episodes: errors", f"of {number:,}", float(errors.total()), "episodes", 0, at_least=False, detail=detail
    )
    yield from growth("episodes", samples)


# --- sessions --------------------------------------------------------------------------------------------------------
def soak_sessions(total: int) -> Iterator[Result]:
    """Serve so many sessions in twenty parts; two of five clients close theirs."""
    model = tiny_model.write(Path(tempfile.mkdtemp(prefix="atlas-soak-")))
    options = {
        "engine.max_model_len": 2048, "engine.cpu_kv_cache_gib": 1, "evaluate.max_new_tokens": 8, "serve.port": 8322,
        "serve.max_sessions": MOST_SESSIONS, "serve.session_idle_s": IDLE_S, "serve.requests_per_minute": 10**6,
    }  # fmt: skip
    url, ways, samples = app.start(load(None, options), {"agent": model}), Counter[str](), []
    part = max(total // 20, CLIENTS)
    try:
        for begin in range(0, total, part):
            ways.update(asyncio.run(_clients(url, range(begin, begin + part))))
            samples.append(sample(begin + part, "EnvironmentServer", "AgentIngress", "ProxyActor"))
            _show(samples[-1])
        time.sleep(2 * IDLE_S)  # what was left is closed by its age alone
        taken = asyncio.run(_fill(url))
    finally:
        app.stop()
    detail = ", ".join(f"{count} {way}" for way, count in sorted(ways.items()))
    yield Result(
        "sessions: room at the end", f"the {MOST_SESSIONS} it may hold", taken / MOST_SESSIONS, "x", 1, detail=detail
    )
    yield from growth("sessions", samples)


async def _clients(url: str, numbers: range) -> list[str]:
    """Play these sessions, `CLIENTS` at a time; how each of them ended."""
    gate = asyncio.Semaphore(CLIENTS)

    async def one(number: int) -> str:
        async with gate, _http(url) as http:
            return await _client(http, random.Random(number))

    return await asyncio.gather(*(one(number) for number in numbers))


def _http(url: str) -> httpx.AsyncClient:
    """A client; each would load certificates of its own, and this process would grow by them."""
    return httpx.AsyncClient(base_url=f"{url}/v1/agent", timeout=120, verify=_CERTIFICATES)


async def _client(http: httpx.AsyncClient, draw: random.Random) -> str:
    """Open a session, act a few times, and end in one of the ways that clients have."""
    while (answer := await http.post("/sessions", json={"environment": draw.choice(ENVIRONMENTS)})).status_code == 429:
        await asyncio.sleep(1)  # until sessions that were left are closed
    session = f"/sessions/{answer.raise_for_status().json()['id']}"
    for _ in range(draw.randrange(4)):
        (await http.post(f"{session}/step", json={"action": "look"})).raise_for_status()
    way = draw.choice(["closed", "closed", "left", "broken off in a step", "broken off in a reply"])
    if way == "closed":
        (await http.delete(session)).raise_for_status()
    elif way != "left":
        call, body = ("step", {"action": "look"}) if way == "broken off in a step" else ("act", None)
        try:
            await asyncio.wait_for(http.post(f"{session}/{call}", json=body), timeout=draw.random() * 0.05)
        except TimeoutError:
            return way  # the request is cancelled, which closes its connection
        return "answered before it could be broken off"
    return way


async def _fill(url: str) -> int:
    """Open sessions until there is no room for more."""
    async with _http(url) as http:
        for taken in range(MOST_SESSIONS):
            if (await http.post("/sessions", json={"environment": "maze"})).status_code != 201:
                return taken
    return MOST_SESSIONS


# --- engines ---------------------------------------------------------------------------------------------------------
def playable() -> Iterator[str]:
    """The environments that run on this machine; the others are named with what they lack."""
    for name in registry.names():
        env = registry.make(name)
        try:
            env.reset(options={"split": "test"})
            yield name
        except EnvironmentError as error:
            print(f"left out: {error}", flush=True)
        finally:
            env.close()


def soak_engines(
    model: str, environments: Sequence[str], *, tasks: int, kills: int, every_s: float, seed: int
) -> Iterator[Result]:
    """Play the same tasks in parts, the first one undisturbed, the last one after the last kill.

    Args:
        model: a model directory.
        environments: to play in.
        tasks: of each environment, in each part.
        kills: of an engine.
        every_s: seconds between two kills.
        seed: draws the engines.
    """
    config, playing = RolloutConfig(servers=2, slots=8, cpus=0, memory_gib=2), Playing(max_new_tokens=8)
    work = [
        EpisodeSpec("soaked", "soaked", env, task, "test", 0, playing) for task in range(tasks) for env in environments
    ]
    two = EngineConfig(replicas=2, max_model_len=2048, cpu_kv_cache_gib=1, dtype="float32")
    with engines(two, "soaked", model) as player, Rollouts(player, config) as rollouts:
        undisturbed = _content(rollouts, work)
        samples, errors, differing = [sample(len(work), "EnvironmentServer")], Counter[str](), 0
        _show(samples[-1])
        begun, is_last = time.monotonic(), False
        with killing(kills, every_s, seed) as killed:
            while not is_last:
                is_last = len(killed) == kills
                part = _content(rollouts, work)
                errors.update(error for *_, error in part.values() if error is not None)
                differing += sum(part[key] != undisturbed[key] for key in undisturbed)
                samples.append(sample(samples[-1].done + len(work), "EnvironmentServer"))
                _show(samples[-1])
        seconds = time.monotonic() - begun
    number = samples[-1].done - len(work)
    of, detail = f"of {number:,} in {len(environments)} environments", "; ".join(sorted(errors))[:200]
    yield Result("engines: killed", f"every {every_s:g} s", float(len(killed)), "engines", None)
    yield Result("engines: errors", of, float(errors.total()), "episodes", 0, at_least=False, detail=detail)
    yield Result("engines: other than undisturbed", of, float(differing), "episodes", 0, at_least=False)
    yield Result("engines: seconds for an episode", f"{seconds:,.0f} s in all", seconds / number, "s", None)
    yield from growth("engines", samples)


def _content(rollouts: Rollouts, work: list[EpisodeSpec]) -> dict[str, tuple[Any, ...]]:
    """Play; what must not depend on the engines, by episode."""
    rollouts.add(work)
    episodes = [each for each in rollouts if isinstance(each, Episode)]
    assert sorted(each.key for each in episodes) == sorted(spec.key for spec in work)
    return {each.key: (each.messages, each.stop, each.score, each.error) for each in episodes}


@contextmanager
def killing(kills: int, every_s: float, seed: int) -> Iterator[list[int]]:
    """Kill so many engines of this process, one after the other; yields the process ids of those that were killed."""
    killed: list[int] = []
    draw, is_over = random.Random(seed), threading.Event()

    def run() -> None:
        while len(killed) < kills and not is_over.wait(every_s):
            below = sorted(psutil.Process().children(recursive=True), key=lambda each: each.pid)
            victim = draw.choice([each for each in below if line_of(each).startswith("ray::EngineActor")] or [None])
            with suppress(psutil.NoSuchProcess):
                if victim is not None:
                    victim.kill()
                    killed.append(victim.pid)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


def main() -> None:
    """Soak what is asked for and publish."""
    parser = parser_for("soak", __doc__)
    parser.add_argument("--episodes", type=int, default=20_000, help="[20000]")
    parser.add_argument("--sessions", type=int, default=2_000, help="[2000]")
    parser.add_argument("--kills", type=int, default=20, help="of engines, every 30 s [20]")
    parser.add_argument("--tasks", type=int, default=8, help="of each environment that engines play in a part [8]")
    parser.add_argument("--model", help="model directory of the engines [a random Llama of 2 layers]")
    parser.add_argument("--seed", type=int, default=0, help="draws the engines that are killed [0]")
    chosen = asked(parser, ("episodes", "sessions", "engines"))
    os.environ.update({"RAY_AUTH_MODE": "disabled"} | HISTORY | os.environ)
    connect()
    try:
        results: list[Result] = []
        if "episodes" in chosen.claims:
            results += soak_episodes(chosen.episodes)
        if "sessions" in chosen.claims:
            results += soak_sessions(chosen.sessions)
        if "engines" in chosen.claims:
            model = chosen.model or tiny_model.write(Path(tempfile.mkdtemp(prefix="atlas-soak-")))
            results += soak_engines(
                model, list(playable()), tasks=chosen.tasks, kills=chosen.kills, every_s=KILL_AFTER_S, seed=chosen.seed
            )
        publish("soak", results)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
