"""Steps per second and the cost of snapshot and restore, environment by environment.

Experts' actions are recorded first and then replayed, so that the rules alone are timed: CPU time of this process,
median of five rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from atlas_ray.environments import registry
from atlas_ray.environments.contract import TextEnv
from atlas_ray.errors import ConfigError
from benchmarks import alfworld
from benchmarks.result import Result, publish

ROUNDS = 5
EPISODES = 20
SNAPSHOTS = 50
GOALS = {
    "alfworld": (5_000, 1.0),
    "babyai": (1_000, 8.0),
    "maze": (20_000, 1.0),
    "sheet": (5_000, 1.0),
    "textcraft": (20_000, 1.0),
    "todo": (5_000, 1.0),
    "wordle": (20_000, 1.0),
}
"""Steps per second at least, milliseconds of snapshot and restore at most."""


def main() -> None:
    """Measure every environment and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alfworld-all", action="store_true", help="compare all official ALFWorld games instead")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="how long; the next run goes on from there")
    options = parser.parse_args()
    if options.alfworld_all:
        publish("alfworld", [alfworld.all_games(options.seconds)])
        return
    results = []
    try:
        results.append(alfworld.speed())
    except ConfigError as error:
        print(f"{error}; left out here")
    for name, (steps_goal, snapshot_goal) in GOALS.items():
        env = registry.make(name)
        episodes = [_expert_actions(env, task) for task in range(EPISODES)]
        n_steps = sum(map(len, episodes))
        seconds = statistics.median(_stepping(env, episodes) for _ in range(ROUNDS))
        rate = n_steps / seconds
        results.append(
            Result(f"{name}: steps", "goal alone", rate, "steps/s", steps_goal, detail=f"{n_steps} expert steps")
        )
        env.reset(options={"task": 0})
        milliseconds = statistics.median(_cpu(lambda env=env: _snapshot(env)) for _ in range(ROUNDS)) / SNAPSHOTS * 1e3
        results.append(
            Result(f"{name}: snapshot + restore", "goal alone", milliseconds, "ms", snapshot_goal, at_least=False)
        )
    publish("environments", results)


def _expert_actions(env: TextEnv, task: int) -> list[str]:
    observation, _ = env.reset(options={"task": task})
    expert, actions = env.expert(), []
    while env.running:
        _, action = expert.next_action(observation)
        actions.append(action)
        observation = env.step(action)[0]
    return actions


def _stepping(env: TextEnv, episodes: list[list[str]]) -> float:
    """CPU seconds of all steps; resets are not counted."""
    total = 0.0
    for task, actions in enumerate(episodes):
        env.reset(options={"task": task})
        start = time.process_time()
        for action in actions:
            env.step(action)
        total += time.process_time() - start
    return total


def _snapshot(env: TextEnv) -> None:
    for _ in range(SNAPSHOTS):
        env.restore(env.snapshot())


def _cpu(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
