"""All environments: steps per second, the cost of a snapshot, and the share of tasks that the expert solves.

python -m benchmarks.environments                  steps, snapshot and restore, and the peers' ratios
python -m benchmarks.environments --experts        share of training tasks that each expert solves
python -m benchmarks.environments --alfworld-all   every official ALFWorld game in our rules and in the engine

Experts' actions are recorded first and then replayed, so that only the rules are timed. The time is the CPU time of
this process, or wall-clock time if the engine has a process of its own; the result is the median of the rounds. The
comparison with a peer is in `benchmarks/<name>.py`, function `speed() -> Result`. Environments whose engine is not
installed are listed and left out.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import ModuleType

from atlas_ray.environments import registry
from atlas_ray.environments.contract import TextEnv
from atlas_ray.errors import AtlasError, EnvironmentError
from atlas_ray.evaluation.metrics import wilson
from benchmarks.result import Result, publish

ROUNDS = 5
EPISODES = 40
ISOLATED_TASKS = 40
"""The most tasks for an expert whose engine has a process of its own."""
SNAPSHOTS = 50
STEPS = {
    "academia": 5_000, "alfworld": 5_000, "babyai": 1_000, "maze": 20_000, "movie": 5_000, "pddl": 20_000,
    "sheet": 5_000, "textcraft": 20_000, "todo": 5_000, "weather": 5_000, "webshop": 2_000, "wordle": 20_000,
}  # fmt: skip
"""Goals in steps per second."""
SNAPSHOT = {"babyai": 8.0, "scienceworld": None}
"""Milliseconds of snapshot and restore at most; 1 for all others."""
SOLVED = {"alfworld": 95.0, "babyai": 95.0, "scienceworld": None, "webshop": 95.0}
"""Percent of the training tasks that the expert solves at least; 100 for all others."""


def main() -> None:
    """Measure what the options ask for and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experts", action="store_true", help="the share of tasks that each expert solves")
    parser.add_argument("--tasks", type=int, default=500, help="with --experts: tasks of each, drawn at random")
    parser.add_argument("--alfworld-all", action="store_true", help="compare with TextWorld over all official games")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="with --alfworld-all: stop after so long")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these environments only")
    options = parser.parse_args()
    chosen = options.only or registry.names()
    if options.alfworld_all:
        publish("alfworld", [importlib.import_module("benchmarks.alfworld").all_games(options.seconds)])
    elif options.experts:
        publish("experts", _each(chosen, lambda name: [expert_share(name, options.tasks)]))
    else:
        publish("environments", _each(chosen, speed) + _each(chosen, ratio))


def _each(names: Sequence[str], measure: Callable[[str], list[Result]]) -> list[Result]:
    results = []
    for name in names:
        began = time.monotonic()
        try:
            found = measure(name)
            for result in found:
                print(f"{result.claim}: {result.value:,.4g} {result.unit}; {result.detail}", flush=True)
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
            results += found
        except AtlasError as error:
            print(f"{name}: left out: {error}", flush=True)
    return results


def ratio(name: str) -> list[Result]:
    """The comparison with the environment's peer, if it has one."""
    own = _own(name)
    return [] if own is None else [own.speed()]


def _own(name: str) -> ModuleType | None:
    """What the environment measures beyond the rest."""
    there = importlib.util.find_spec(f"benchmarks.{name}") is not None
    return importlib.import_module(f"benchmarks.{name}") if there else None


def speed(name: str) -> list[Result]:
    """Steps per second over expert episodes, and milliseconds of snapshot and restore in the midst of one."""
    env = registry.make(name)
    native, own_process = env.card.snapshot == "native", env.card.isolated
    clock = time.perf_counter if own_process else time.process_time
    rounds, n_episodes = (3, 4) if own_process else (ROUNDS, EPISODES)
    episodes = [_play(env, task)[0] for task in range(n_episodes)]
    n_steps = sum(map(len, episodes))
    seconds = statistics.median(_stepping(env, episodes, clock) for _ in range(rounds))
    env.reset(options={"task": 0})
    for action in episodes[0][: len(episodes[0]) // 2]:
        env.step(action)
    n = SNAPSHOTS if native else 1
    milliseconds = statistics.median(_snapshot(env, n, clock) for _ in range(rounds)) * 1e3
    kind = "native" if native else f"replay of {env.rounds} steps"
    goal = SNAPSHOT.get(name, 1.0)
    return [
        Result(f"{name}: steps", "-", n_steps / seconds, "steps/s", STEPS.get(name), detail=f"{n_steps} expert steps"),
        Result(f"{name}: snapshot + restore", "-", milliseconds, "ms", goal, at_least=False, detail=kind),
    ]


def expert_share(name: str, n_tasks: int) -> Result:
    """The share of training tasks that the expert solves within the round cap, with a 95 % Wilson interval.

    Tasks that `beyond_the_cap` of `benchmarks/<name>.py` marks are counted like all others, and once more by kind.
    """
    env = registry.make(name)
    beyond_the_cap = getattr(_own(name), "beyond_the_cap", lambda env: None)
    if env.card.isolated:
        n_tasks = min(n_tasks, ISOLATED_TASKS)
    tasks = range(env.card.n_train)
    if n_tasks < len(tasks):
        tasks = sorted(random.Random(f"experts {name}").sample(tasks, n_tasks))
    solved, rounds, failed, solved_beyond = 0, 0, 0, 0
    beyond: Counter[str] = Counter()
    for task in tasks:
        try:
            actions, success = _play(env, task)
            kind = beyond_the_cap(env)
        except EnvironmentError:
            failed += 1  # of the engine; the task counts as not solved
            continue
        solved, rounds = solved + success, rounds + len(actions)
        if kind is not None:
            beyond[kind] += 1
            solved_beyond += success
    n = len(tasks)
    low, high = wilson(solved, n)
    detail = f"{solved} of {n} tasks, 95 % interval {low:.1f} to {high:.1f}, {rounds / n:.1f} rounds"
    detail += f", {failed} failed" if failed else ""
    if beyond:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(beyond.items()))
        detail += f"; {beyond.total()} have a solution beyond the round cap ({kinds}), {solved_beyond} of them solved"
        detail += f"; of the others {solved - solved_beyond} of {n - beyond.total()}"
    return Result(f"{name}: solved by its expert", "-", 100 * solved / n, "%", SOLVED.get(name, 100.0), detail=detail)


def _play(env: TextEnv, task: int) -> tuple[list[str], bool]:
    """The expert's actions in a training task, and whether they solve it."""
    observation, info = env.reset(options={"task": task})
    expert, actions = env.expert(), []
    while env.running:
        actions.append(expert.next_action(observation)[1])
        observation, *_, info = env.step(actions[-1])
    return actions, info["success"]


def _stepping(env: TextEnv, episodes: list[list[str]], clock: Callable[[], float]) -> float:
    """Seconds of all steps; resets are not counted."""
    total = 0.0
    for task, actions in enumerate(episodes):
        env.reset(options={"task": task})
        start = clock()
        for action in actions:
            env.step(action)
        total += clock() - start
    return total


def _snapshot(env: TextEnv, n: int, clock: Callable[[], float]) -> float:
    """Seconds of one snapshot and one restore, from `n` of them."""
    start = clock()
    for _ in range(n):
        env.restore(env.snapshot())
    return (clock() - start) / n


if __name__ == "__main__":
    main()
