"""Environments in the terminal: the list of them, and playing one by hand or watching its expert."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from rich.console import Console

from atlas_ray.environments.contract import TextEnv
from atlas_ray.environments.registry import card, make, names, option_names, read_option


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments that `play` reads."""
    parser.add_argument("name", help="the environment, such as maze")
    parser.add_argument("--task", type=int, default=0, help="task number, from 0")
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument("--seed", type=int, default=None, help="varies what is random inside the task")
    parser.add_argument("--expert", action="store_true", help="watch the expert play")
    add_option(parser)


def add_option(parser: ArgumentParser) -> None:
    """`--option NAME=VALUE`, as `option_values` reads it."""
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option, repeatable")


def option_values(options: Namespace) -> dict[str, Any]:
    """The options of the environment that `--option` gives.

    Raises:
        ConfigError: one is not of the form NAME=VALUE.
    """
    return dict(read_option(text) for text in options.option)


def show_list(console: Console, command: str) -> None:
    """Every environment with what its card says.

    Args:
        console: to print on.
        command: how environments are played, for the last line.
    """
    for name in names():
        it = card(name)
        process = f", in a process of its own ({it.process_mib} MiB)" if it.isolated else ""
        metric = it.metric.replace("_", " ")
        tasks = f"{it.n_train:,} training and {it.n_test:,} test tasks"
        console.print(name, style="bold", markup=False)
        console.print(f"  {'held-in' if it.held_in else 'held-out'}, {metric}, {it.max_rounds} rounds, {tasks}")
        console.print(f"  {it.source}", markup=False)
        console.print(f"  snapshots: {it.snapshot}{process}; options: {', '.join(option_names(name))}", markup=False)
    console.print(f"\nPlay one with: {command} play NAME [--task N] [--expert]", markup=False)


def play(console: Console, options: Namespace) -> None:
    """Play the task that the arguments name; a person's actions come from the standard input.

    Raises:
        ConfigError: there is no such environment or option.
        EnvironmentError: there is no such task.
    """
    env = make(options.name, **option_values(options))
    observation, _ = env.reset(seed=options.seed, options={"task": options.task, "split": options.split})
    _play(console, env, observation, options.expert)


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
