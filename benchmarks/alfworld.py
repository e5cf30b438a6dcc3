"""ALFWorld's rules in Python against the TextWorld engine: equal texts in official games, and the speed-up.

`python -m benchmarks.environments --alfworld-all` plays the walkthrough of every official game in both engines, and
random commands in 50 games. That takes an hour or more. The outcome of each game is appended to
`benchmarks/results/alfworld_games.jsonl`, and the next run continues after the last outcome.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from atlas_ray.environments.process import EngineProcess
from benchmarks.result import Result
from envs.alfworld.data import Game, open_games
from envs.alfworld.engine import Engine, View
from envs.alfworld.env import ALFWorldEnv
from envs.alfworld.generate import generate
from envs.alfworld.problem import read_problem
from envs.alfworld.rules import Household

_DATA = Path(os.environ.get("ATLAS_REFERENCE_DATA", Path(__file__).parents[2] / "shared" / "data"))
GAMES = _DATA / "alfworld" / "games.jsonl.xz"
OUTCOMES = Path(__file__).parent / "results" / "alfworld_games.jsonl"
N_RANDOM, RANDOM_COMMANDS = 50, 40
PEER = "TextWorld's PddlEnv (textworld 1.7.0, fast-downward-textworld 20.6.4)"

Chooser = Callable[[int, Sequence[str]], str | None]
"""Chooses the command of a round from the available ones; None ends the game."""


def differences(engine: EngineProcess, game: Game, choose: Chooser) -> tuple[int, list[str]]:
    """Play a game in both.

    Returns:
        How many commands were played, and a line for every text, list of commands or end that is not the same.
    """
    house = Household(read_problem(game.problem, game.where), "move")
    view: View = engine.call("begin", game.problem, "move")
    found: list[str] = []
    command, text, played = "(opening)", house.opening(), 0
    while True:
        ours, theirs = (text, sorted(house.commands()), house.won), (view.text, view.commands, view.won)
        found += [f"{command}: {a!r} and not {b!r}" for a, b in zip(ours, theirs, strict=True) if a != b]
        chosen = choose(played, view.commands)
        if chosen is None or view.won:
            return played, found
        command, played = chosen, played + 1
        text, view = house.act(command), engine.call("step", command)


def walkthrough(game: Game) -> Chooser:
    """Plays the commands that the game comes with."""
    return lambda played, _: game.walkthrough[played] if played < len(game.walkthrough) else None


def random_walk(game: Game, n: int) -> Chooser:
    """Plays `n` commands: mostly ones that change something, now and then one that cannot be done."""
    rng = random.Random(f"{game.task} {game.trial}")

    def choose(played: int, commands: Sequence[str]) -> str | None:
        if played == n:
            return None
        acting = [command for command in commands if command.startswith(_ACTING)]
        if rng.random() < 0.05:
            return rng.choice(("go to nowhere 1", "take mug 99 from desk 1", "dance", "open fridge 1"))
        return rng.choice(acting if acting and rng.random() < 0.6 else commands)

    return choose


_ACTING = ("open", "take", "move", "use", "heat", "clean", "cool", "slice")


def engines(n: int) -> SimpleQueue[EngineProcess]:
    """Started engines, to be taken and put back."""
    queue: SimpleQueue[EngineProcess] = SimpleQueue()
    for _ in range(n):
        queue.put(EngineProcess("envs.alfworld.engine:Engine", timeout_s=600.0))  # also on a busy machine
    return queue


def compare_all(seconds: float) -> tuple[int, int, int]:
    """Compare official games that no earlier run compared, until the time is over.

    Returns:
        Of all runs: plays that were compared, commands in them, plays with a difference.
    """
    games = open_games(GAMES)
    n = games.count("train")
    plays = [("random", task) for task in range(0, n, max(1, n // N_RANDOM))][:N_RANDOM]
    plays += [("walkthrough", task) for task in range(n)]
    done = {(row["play"], row["task"]) for row in outcomes()}
    end, pool = time.monotonic() + seconds, engines(os.cpu_count() or 1)

    def one(play: tuple[str, int]) -> dict[str, object] | None:
        if time.monotonic() > end:
            return None
        kind, task = play
        game = games.game("train", task)
        engine = pool.get()
        try:
            engine.start()
            choose = walkthrough(game) if kind == "walkthrough" else random_walk(game, RANDOM_COMMANDS)
            commands, found = differences(engine, game, choose)
        finally:
            pool.put(engine)
        return {"play": kind, "task": task, "commands": commands, "differences": found}

    OUTCOMES.parent.mkdir(exist_ok=True)
    todo = [play for play in plays if play not in done]
    with OUTCOMES.open("a") as stream, ThreadPoolExecutor(os.cpu_count()) as threads:
        for row in threads.map(one, todo):
            if row is not None:
                stream.write(json.dumps(row) + "\n")
                stream.flush()
    rows = list(outcomes())
    return len(rows), sum(row["commands"] for row in rows), sum(bool(row["differences"]) for row in rows)


def outcomes() -> Iterator[dict]:
    """What all runs so far found."""
    if OUTCOMES.exists():
        yield from map(json.loads, OUTCOMES.read_text().splitlines())


def all_games(seconds: float) -> Result:
    """The claim that all official games have the same words; prints the differences."""
    plays, commands, different = compare_all(seconds)
    for row in outcomes():
        for difference in row["differences"]:
            print(f"{row['play']} of game {row['task']}: {difference}")
    goal = open_games(GAMES).count("train") + N_RANDOM
    detail = f"{plays} plays of {goal}, {commands} commands, {different} with a difference"
    return Result("alfworld: official games with the same words", PEER, plays - different, "plays", goal, detail=detail)


class TimedEngine(Engine):
    """The engine with a clock."""

    def cpu_seconds(self) -> float:
        """CPU seconds of the engine's process so far."""
        return time.process_time()


def speed(n_games: int = 5) -> Result:
    """The claim that our rules are 500 times as fast; expert's commands in generated games, CPU time."""
    engine = EngineProcess("benchmarks.alfworld:TimedEngine", False)
    engine.start()
    env = ALFWorldEnv(verbs="move")
    ours = theirs = 0.0
    steps = 0
    for task in range(n_games):
        observation, _ = env.reset(options={"task": task})
        expert = env.expert()
        engine.call("begin", generate("train", task).problem, "move")
        while env.running:
            _, command = expert.next_action(observation)
            start = time.process_time()
            observation = env.step(command)[0]
            ours += time.process_time() - start
            start = engine.call("cpu_seconds")
            view: View = engine.call("step", command)
            theirs += engine.call("cpu_seconds") - start
            assert view.text == observation
            steps += 1
    engine.close()
    detail = f"{steps / ours:,.0f} against {steps / theirs:.1f} steps/s over {steps} steps"
    return Result("alfworld: steps, our rules against the engine", PEER, theirs / ours, "x", 500, detail=detail)
