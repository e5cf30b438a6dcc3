"""The process of an actor, and how one that does not answer is killed on its node."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class ActorProcess(NamedTuple):
    """What tells the process of an actor from all others of the cluster."""

    node: str
    """Ray's name of the node."""
    pid: int
    created: float
    """When the process began; another one may get its number."""


def this_process() -> ActorProcess:
    """The process that asks."""
    process = psutil.Process()
    return ActorProcess(ray.get_runtime_context().get_node_id(), process.pid, process.create_time())


def kill_process(process: ActorProcess) -> None:
    """Kill the process of an actor that does not answer.

    `ray.kill` asks the process itself to end. One that is frozen is not reached, Ray does not ask again, and should it
    wake, it keeps its CPU as long as the job runs.
    """
    there = NodeAffinitySchedulingStrategy(process.node, soft=False)
    ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(_kill).remote(process.pid, process.created)


def _kill(pid: int, created: float) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.create_time() == created:
            process.kill()
