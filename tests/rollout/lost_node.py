"""Run by `test_faults.py` in a process of its own: a cluster of two nodes, of which one dies and later one joins."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time

FOLDER = tempfile.mkdtemp(prefix="atlas-nodes-", dir="/tmp")
os.makedirs(f"{FOLDER}/ray")
os.environ |= {
    "RAY_TMPDIR": FOLDER,
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
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


def alive() -> int:
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())


def main() -> None:
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "memory": 2**30,
                                              "object_store_memory": 100_000_000}
    )  # fmt: skip
    victim, _ = (cluster.add_node(wait=False, **NODE) for _ in range(2))
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error",
             runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}})  # fmt: skip
    while alive() < 2:
        time.sleep(0.1)
    begun = time.monotonic()
    config = RolloutConfig(servers=4, slots=2, memory_gib=0.5)
    work = specs(160, step_s=0.1)
    episodes, again, nodes, joined, joiner = [], [], [alive()], 0, None
    with Rollouts(ModelSpec(), config, on_retry=again.append) as rollouts:
        rollouts.add(work)
        for episode in rollouts:
            episodes.append(episode)
            if len(episodes) == 20:
                os.kill(victim.all_processes["raylet"][0].process.pid, signal.SIGKILL)
            if len(nodes) == 1 and alive() == 1:
                nodes.append(1)
            if len(episodes) >= 60 and len(nodes) == 2 and joiner is None:
                joiner = cluster.add_node(wait=False, **NODE)
            if len(nodes) == 2 and alive() == 2:
                nodes.append(2)
            if len(nodes) == 3 and not joined:
                raylet = psutil.Process(joiner.all_processes["raylet"][0].process.pid)
                lines = [(child.cmdline() or [""])[0] for child in raylet.children()]
                joined = sum(line.startswith("ray::EnvironmentServer.do") for line in lines)
    keys = [episode.key for episode in episodes]
    facts = {
        "episodes": len(keys), "distinct": len(set(keys)), "owed": len(work), "done_again": len(again), "nodes": nodes,
        "identical": content(episodes) == undisturbed(work), "joined": joined,
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
