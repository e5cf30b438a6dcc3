"""The command `python -m atlas_ray.pretrain`: options to settings, and one line for an error that the user can mend."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic import ValidationError

from atlas_ray import config_files
from atlas_ray.errors import AtlasError, ConfigError
from atlas_ray.pretrain import shapes
from atlas_ray.progress import say

_EPILOG = """\
examples:
  python -m atlas_ray.pretrain --environments maze babyai --options 'babyai: {levels: [20]}' --out models/small
  python -m atlas_ray.pretrain --config configs/quickstart.yaml --family qwen3 --seed 1 --out models/small-qwen3

A killed run goes on where its last state left it when the same command is given. The last training tasks are used;
collecting takes the first ones, so the two can be kept apart.
"""
"""Part of --help."""


class _Parser(argparse.ArgumentParser):
    """Raises where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"command line: {message}; see --help")


def parser() -> argparse.ArgumentParser:
    """The command line; what is not given has the default of `train.PretrainSettings`."""
    made = _Parser(
        prog="python -m atlas_ray.pretrain", allow_abbrev=False, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Make a small base agent: a language model with a tokenizer of its own, trained from scratch on "
        "the experts' episodes.",
    )  # fmt: skip
    add = made.add_argument
    add("--out", required=True, metavar="DIR", type=Path, help="model directory to write")
    add("--config", metavar="FILE", help="take `environments` and `collect.trajectories` from a run's configuration")
    add("--environments", nargs="+", metavar="NAME", help="environments, with --tasks training tasks each")
    add("--tasks", type=int, metavar="N", help="training tasks per environment [300 with --environments]")
    add("--options", metavar="YAML", help="options of environments, laid over those of --config")
    add("--repeats", type=int, metavar="N", help="episodes per task, with an environment seed each [1]")
    add("--family", choices=shapes.FAMILIES, help="shape of the model [llama]")
    add("--parameters", metavar="N", help="number of weights to come close to, as in 3M, 10M, 20M [3M]")
    add("--vocabulary", type=int, metavar="N", help="tokenizer entries at most [2048]")
    add("--epochs", type=int, metavar="N", help="times that each episode is read [4]")
    add("--learning-rate", type=float, metavar="X", help="peak learning rate [0.003]")
    add("--batch-size", type=int, metavar="N", help="episodes per optimizer step [4]")
    add("--seed", type=int, metavar="N", help="of weights, order and environments [0]")
    add("--threads", type=int, metavar="N", help="CPU threads [all cores]")
    add("--checkpoint-every", type=int, metavar="N", help="optimizer steps between states to resume from [100]")
    add("--max-minutes", type=float, metavar="X", help="refuse, or stop with a state, when training takes longer")
    return made


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The values for `train.PretrainSettings` that the command line gives.

    Raises:
        ConfigError: the configuration is wrong, no environment is named, or an option is no YAML mapping.
    """
    tasks, options = {}, {}
    if arguments.config is not None:
        run = config_files.load(arguments.config)
        tasks, options = dict(run.collect.trajectories), dict(run.environments)
    if arguments.environments:
        tasks = dict.fromkeys(arguments.environments, 300)
    if not tasks:
        raise ConfigError("no environment is named; give --environments, or --config with collect.trajectories")
    if arguments.tasks is not None:
        tasks = dict.fromkeys(tasks, arguments.tasks)
    options |= _mapping(arguments.options)
    strange = sorted(set(_mapping(arguments.options)) - set(tasks))
    if strange:
        raise ConfigError(f"--options: {strange[0]!r} is none of the environments ({', '.join(sorted(tasks))})")
    others = ("repeats", "family", "vocabulary", "epochs", "learning_rate", "batch_size", "seed", "checkpoint_every",
              "max_minutes")  # fmt: skip
    given = {name: getattr(arguments, name) for name in others if getattr(arguments, name) is not None}
    if arguments.parameters is not None:
        given["parameters"] = shapes.parse_size(arguments.parameters)
    threads = arguments.threads or len(os.sched_getaffinity(0))
    return {"tasks": tasks, "options": {name: options.get(name, {}) for name in tasks}, "threads": threads, **given}


def _mapping(text: str | None) -> dict[str, dict[str, Any]]:
    try:
        value = yaml.safe_load(text or "{}")
    except yaml.YAMLError as error:
        raise ConfigError(f"--options {text}: no valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(value, dict) or not all(isinstance(each, dict) for each in value.values()):
        raise ConfigError(f"--options {text}: give a mapping, as in 'babyai: {{levels: [20]}}'")
    return value


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; exits with code 2 and one line on any error that the user can mend."""
    try:
        arguments = parser().parse_args(argv)
        values = settings_of(arguments)
        from atlas_ray.pretrain.train import (  # torch: --help and a wrong option need not wait for it
            PretrainSettings,
            pretrain,
        )

        try:
            settings = PretrainSettings.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = "--" + str(first["loc"][0]).replace("_", "-")
            raise ConfigError(f"{name}: {first['msg']}, found {first['input']!r}; see --help") from error
        say(f"  the model is in {pretrain(settings, arguments.out)}")
    except AtlasError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
