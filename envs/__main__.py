"""`python -m envs`: the list of environments, and playing one in the terminal.

python -m envs                                       every environment with its card
python -m envs play maze --task 3                    you play
python -m envs play textcraft --expert --option depths=[2]
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from rich.console import Console

from atlas_ray.environments import TextEnv, card, make, names, option_names
from atlas_ray.environments.registry import read_option
from atlas_ray.errors import AtlasError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0, or 2 after an error that the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m envs", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command")
    play = commands.add_parser("play", help="play an environment in the terminal")
    play.add_argument("name", help="the environment, such as maze")
    play.add_argument("--task", type=int, default=0, help="task number, from 0")
    play.add_argument("--split", choices=("train", "test"), default="train")
    play.add_argument("--seed", type=int, default=None, help="varies what is random inside the task")
    play.add_argument("--expert", action="store_true", help="watch the expert play")
    play.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option, repeatable")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        if options.command == "play":
            env = make(options.name, **dict(read_option(text) for text in options.option))
            observation, _ = env.reset(seed=options.seed, options={"task": options.task, "split": options.split})
            _play(console, env, observation, options.expert)
        else:
            _list(console)
    except AtlasError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), style="red", markup=False)
        return 2
    return 0


def _list(console: Console) -> None:
    """Every environment with what its card says."""
    for name in names():
        it = card(name)
        process = f", in a process of its own ({it.process_mib} MiB)" if it.isolated else ""
        metric = it.metric.replace("_", " ")
        tasks = f"{it.n_train:,} training and {it.n_test:,} test tasks"
        console.print(name, style="bold", markup=False)
        console.print(f"  {'held-in' if it.held_in else 'held-out'}, {metric}, {it.max_rounds} rounds, {tasks}")
        console.print(f"  {it.source}", markup=False)
        console.print(f"  snapshots: {it.snapshot}{process}; options: {', '.join(option_names(name))}", markup=False)
    console.print("\nPlay one with: python -m envs play NAME [--task N] [--expert]", markup=False)


def _play(console: Console, env: TextEnv, observation: str, watch: bool) -> None:
    console.print(env.card.instruction, style="dim", markup=False)
    expert = env.expert() if watch else None
    info: dict[str, Any] = {}
    while True:
        console.print(f"\n{observation}", markup=False)
        if not env.running:
            break
        prompt = f"[{env.rounds + 1}/{env.card.max_rounds}] "
        if expert is not None:
            thought, action = expert.next_action(observation)
            console.print(f"{prompt}Thought: {thought}\nAction: {action}", style="green", markup=False)
        else:
            console.print(prompt, style="green", end="", markup=False)
            line = sys.stdin.readline()
            if not line:
                console.print("\nGiven up.")
                return
            action = line.strip()
        observation, _, _, _, info = env.step(action)
    result = "success" if info["success"] else "no success"
    console.print(f"\n{result} after {info['rounds']} rounds, score {info['score']:.2f}", style="bold")


if __name__ == "__main__":
    sys.exit(main())
