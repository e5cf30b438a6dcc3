"""The served agent against vLLM's own OpenAI server, with the same model and requests; and the memory of sessions.

Both servers run at once and rounds alternate between them, so that the machine's other load affects both alike. Each
client sends its next request when the last one is answered; latency is that of a whole request. Replies are short, so
that the servers' own cost shows.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import time
from dataclasses import dataclass

import httpx
import psutil
import ray

from atlas_ray import models
from atlas_ray.cluster import connect
from atlas_ray.config_files import load
from atlas_ray.inference.endpoint import SERVED_NAME, LocalEndpoint
from atlas_ray.serving import app
from benchmarks.result import Result, publish

ROUNDS = 3
LOADS = {1: 8, 16: 2, 64: 1}
"""Number of clients -> requests of each client in a round."""
TOKENS = 8
SETTLE_S = 3.0
"""Pause between rounds: vLLM's processes spin for a second or two after their last request."""
SESSIONS = 1_000
QUESTION = [{"role": "user", "content": "Crafting commands:\ncraft 1 sugar using 1 sugar cane\n\nGoal: craft sugar."}]


@dataclass
class Load:
    """Throughput and latencies of one round of requests."""

    per_second: float
    latencies: list[float]


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--port", type=int, default=8321)
    options = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as the peer's: Ray's workers give way to all else on the machine
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = load(None, {"engine.max_model_len": 1024, "serve.port": options.port, "serve.requests_per_minute": 10**6})
    directory = models.resolve(options.model)
    connect()
    ours = app.start(config, {"agent": directory})
    try:
        results = []
        with LocalEndpoint(directory, config.engine) as theirs:
            for clients, requests in LOADS.items():
                results += asyncio.run(compare(f"{ours}/v1", theirs, clients, requests))
        results.append(leak(ours))
        publish("serving", results)
    finally:
        app.stop()
        ray.shutdown()


async def compare(ours: str, theirs: str, clients: int, requests: int) -> list[Result]:
    """Median throughput and tail latency with this many clients, rounds interleaved."""
    rounds: dict[str, list[Load]] = {"ours": [], "theirs": []}
    await load_of(ours, "agent", clients, 1)  # warm
    await load_of(theirs, SERVED_NAME, clients, 1)
    for _ in range(ROUNDS):
        await asyncio.sleep(SETTLE_S)
        rounds["ours"].append(await load_of(ours, "agent", clients, requests))
        await asyncio.sleep(SETTLE_S)
        rounds["theirs"].append(await load_of(theirs, SERVED_NAME, clients, requests))
    median = {side: statistics.median(each.per_second for each in loads) for side, loads in rounds.items()}
    tails = {side: quantile([x for each in loads for x in each.latencies], 0.99) for side, loads in rounds.items()}
    middles = {side: quantile([x for each in loads for x in each.latencies], 0.5) for side, loads in rounds.items()}
    detail = (
        f"{median['ours']:.2f} against {median['theirs']:.2f} requests/s; "
        f"p50 {middles['ours']:.2f} s against {middles['theirs']:.2f} s"
    )
    print(f"{clients} at once: {detail}; p99 {tails['ours']:.2f} s against {tails['theirs']:.2f} s", flush=True)
    peer = "vLLM's OpenAI server"
    return [
        Result(f"throughput at {clients}", peer, median["ours"] / median["theirs"], "x", 1.0, detail=detail),
        Result(
            f"p99 latency at {clients}",
            peer,
            tails["ours"] / tails["theirs"],
            "x",
            1.1,
            at_least=False,
            detail=f"{tails['ours']:.2f} s against {tails['theirs']:.2f} s",
        ),
    ]


async def load_of(url: str, model: str, clients: int, requests: int) -> Load:
    """`clients` at once ask `requests` times each, one after the other."""
    latencies: list[float] = []

    async def client(http: httpx.AsyncClient, name: int) -> None:
        for number in range(requests):
            body = {
                "model": model, "messages": [*QUESTION, {"role": "user", "content": f"{name} {number}"}],
                "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True,
            }  # fmt: skip
            start = time.perf_counter()
            answer = await http.post(f"{url}/chat/completions", json=body)
            answer.raise_for_status()
            latencies.append(time.perf_counter() - start)

    start = time.perf_counter()
    async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=clients)) as http:
        await asyncio.gather(*(client(http, name) for name in range(clients)))
    return Load(clients * requests / (time.perf_counter() - start), latencies)


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def leak(url: str) -> Result:
    """Memory of the environment server and the front after a thousand sessions, against after the first hundred."""
    with httpx.Client(base_url=url, timeout=120) as http:
        play(http, 100)
        before = memory()
        play(http, SESSIONS)
        after = memory()
    return Result(
        f"memory after {SESSIONS:,} sessions", "itself after 100 sessions", after / before, "x", 1.05, at_least=False,
        detail=f"{before / 2**20:.0f} to {after / 2**20:.0f} MiB",
    )  # fmt: skip


def play(http: httpx.Client, sessions: int) -> None:
    """Open, play one step, close."""
    for _ in range(sessions):
        session = http.post("/v1/agent/sessions", json={"environment": "textcraft"}).raise_for_status().json()["id"]
        http.post(f"/v1/agent/sessions/{session}/step", json={"action": "inventory"}).raise_for_status()
        http.delete(f"/v1/agent/sessions/{session}").raise_for_status()


def memory() -> int:
    """RSS in bytes of the actors that sessions touch."""
    children = psutil.Process().children(recursive=True)
    lines = {each: (each.cmdline() or [""])[0] for each in children if each.status() != psutil.STATUS_ZOMBIE}
    return sum(
        each.memory_info().rss
        for each, line in lines.items()
        if line.startswith("ray::") and ("EnvironmentServer" in line or "AgentIngress" in line)
    )


if __name__ == "__main__":
    main()
