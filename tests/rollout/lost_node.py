"""Run by `test_faults.py` in a process of its own: a cluster of two nodes, of which one dies and later one joins."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

FOLDER = tempfile.mkdtemp(prefix="atlas-nodes-", dir="/tmp")
os.makedirs(f"{FOLDER}/ray")
os.environ |= {
    "RAY_TMPDIR": FOLDER,
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "5",  # a busy machine answers late
    "RAY_health_check_initial_delay_ms": "1000",
}  # before Ray is imported

import psutil  # noqa: E402
import ray  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from atlas_ray.config import RolloutConfig  # noqa: E402
from atlas_ray.rollout.driver import Rollouts  # noqa: E402
from atlas_ray.rollout.player import ModelSpec  # noqa: E402
from tests.rollout.test_faults import content, specs, undisturbed  # noqa: E402

NODE = {"num_cpus": 2, "object_store_memory": 100_000_000, "memory": 4 * 2**30}
CONFIG = RolloutConfig(servers=4, slots=2, memory_gib=0.5)
HUNG = range(6, 30)
"""Tasks that hang in their second step until all has happened: more than the servers of both nodes hold."""


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


def alive() -> int:
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())


def is_playing(node: Any, folder: Path) -> bool:
    """Whether a server on this node is in the midst of a task that hangs."""
    here = {child.pid for child in psutil.Process(node.all_processes["raylet"][0].process.pid).children()}
    return any(
        int(trace.name.rpartition("-")[2]) in here for task in HUNG for trace in folder.glob(f"trace-{task}-1-*")
    )


def main() -> None:
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "memory": 2**30,
                                              "object_store_memory": 100_000_000}
    )  # fmt: skip
    victim, _ = (cluster.add_node(wait=False, **NODE) for _ in range(2))
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error",
             runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}})  # fmt: skip
    wait_for(lambda: alive() == 2)
    folder = Path(FOLDER, "tasks")
    folder.mkdir()
    work = [replace(spec, deadline_s=600.0) for spec in specs(40, folder=str(folder))]
    expected = undisturbed(work)
    for trace in folder.iterdir():
        trace.unlink()
    for task in HUNG:
        (folder / f"hang-{task}").touch()
    again: list[str] = []
    nodes = [alive()]

    def disturb() -> int:
        """Kill a node that is playing, then let one join and play; returns how many tasks were tried again by then."""
        wait_for(lambda: is_playing(victim, folder))
        os.kill(victim.all_processes["raylet"][0].process.pid, signal.SIGKILL)
        wait_for(lambda: alive() == 1)
        nodes.append(alive())
        joiner = cluster.add_node(wait=False, **NODE)
        wait_for(lambda: alive() == 2)
        nodes.append(alive())
        wait_for(lambda: is_playing(joiner, folder))
        return len(again)

    begun = time.monotonic()
    with ThreadPoolExecutor(1) as pool, Rollouts(ModelSpec(), CONFIG, on_retry=again.append) as rollouts:
        rollouts.add(work)
        played = pool.submit(list, rollouts)
        try:
            done_again = disturb()  # here, because Ray starts nodes from the main thread alone
        finally:
            for task in HUNG:
                (folder / f"hang-{task}").unlink()
        episodes = played.result()
    keys = [episode.key for episode in episodes]
    facts = {
        "episodes": len(keys), "distinct": len(set(keys)), "owed": len(work), "done_again": done_again, "nodes": nodes,
        "differing": [str(found) for task, found in content(episodes).items() if found != expected[task]],
        "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip
    print(json.dumps(facts), flush=True)
    ray.shutdown()
    cluster.shutdown()


try:
    main()
finally:
    sys.stdout.flush()
    shutil.rmtree(FOLDER, ignore_errors=True)
