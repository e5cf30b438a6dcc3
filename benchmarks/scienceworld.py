"""ScienceWorld's lean step against the package's own step, which lists every valid action each time.

Both play the same gold paths in alternation, each in a Java process of its own. The time is the CPU time of Python and
of that Java process together.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import psutil

from benchmarks.result import Result
from envs.scienceworld.env import ScienceWorldEnv
from envs.scienceworld.jvm import ScienceWorldEngine

PEER = "scienceworld 1.2.3, ScienceWorldEnv.step"
TASKS = (("find-living-thing", 0), ("power-component", 1), ("boil", 0))
STEPS = 12
ROUNDS = 3
"""Timed rounds; one round before them warms both Java processes up."""


def speed() -> Result:
    """The claim that the lean step is four times as fast."""
    from scienceworld import ScienceWorldEnv

    engine = ScienceWorldEngine()
    before = set(psutil.Process().children())
    theirs = ScienceWorldEnv("", envStepLimit=1000)
    (java,) = set(psutil.Process().children()) - before
    ours_java = psutil.Process(engine.process.pid)
    paths = {task: engine.gold_path(*task)[:STEPS] for task in TASKS}
    lean, full = [], []
    for _ in range(ROUNDS + 1):
        for (task, variation), actions in paths.items():
            engine.load(task, variation, 0)
            lean.append(_cpu(ours_java, lambda actions=actions: [engine.step(action, 0) for action in actions]))
            theirs.load(task, variation)
            theirs.reset()
            full.append(_cpu(java, lambda actions=actions: [theirs.step(action) for action in actions]))
    engine.close()
    theirs.close()
    warm = len(TASKS)
    ratio = statistics.median(b / a for a, b in zip(lean[warm:], full[warm:], strict=True))
    n = sum(map(len, paths.values()))
    detail = f"{n * ROUNDS / sum(lean[warm:]):.0f} against {n * ROUNDS / sum(full[warm:]):.1f} steps per CPU second"
    return Result("scienceworld: steps, lean against the package's", PEER, ratio, "x", 4, detail=detail)


def beyond_the_cap(env: ScienceWorldEnv) -> str | None:
    """The type of the running task, if the engine's own solution takes more rounds than there are."""
    return env.kind if len(env.gold_path()) > env.card.max_rounds else None


def _cpu(java: psutil.Process, work: Callable[[], object]) -> float:
    def used() -> float:
        times = java.cpu_times()
        return time.process_time() + float(times.user + times.system)

    start = used()
    work()
    return used() - start
