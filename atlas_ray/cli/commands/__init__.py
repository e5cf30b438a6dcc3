"""The commands of `atlas-ray`, one file each; a file has a `COMMAND` and imports what it needs when it works.

`GROUPS` is their order in the help. A command's file is called like the command, with `_` behind a word of Python's.
"""

from __future__ import annotations

import keyword
from importlib import import_module

from atlas_ray.cli.command import Command

GROUPS: dict[str, tuple[str, ...]] = {
    "a run, from trajectories to an agent": (
        "pipeline", "collect", "select", "train", "evaluate", "verify", "report", "serve",
    ),
    "many runs": ("experiment",),
    "data in and out": ("import", "export", "push", "inspect", "view"),
    "this installation, and what you add to it": ("doctor", "env", "method", "completion"),
}  # fmt: skip


def names() -> list[str]:
    """All commands, in the order of the help."""
    return [name for group in GROUPS.values() for name in group]


def load(name: str) -> Command:
    """The command of a name in `names()`."""
    command: Command = import_module(f"{__name__}.{name}{'_' * keyword.iskeyword(name)}").COMMAND
    return command
