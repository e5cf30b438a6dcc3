"""`atlas-ray`: one command on the PATH for all that is in `commands/`; `jobs/<name>.py` call the same functions.

The list of commands names each by the first line of its file. Finding the command imports neither ray nor torch nor the
configuration.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from atlas_ray import __version__
from atlas_ray.cli import commands
from atlas_ray.cli.command import PROGRAM, call, guarded
from atlas_ray.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; returns 0, or exits with 2 and one line for what the user can mend. Returns 1
    where nobody reads the output any more.

    Args:
        argv: the command's name and its arguments; None: those of this process, which was started as `atlas-ray`.
    """
    if argv is None:
        argv = sys.argv[1:]
        sys.argv[0] = PROGRAM  # what manifests record as the command
    words = list(argv)
    try:
        try:
            guarded(lambda: _main(words))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if _is_read():
            raise  # it was another pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to print
        return 1
    return 0


def _is_read() -> bool:
    """Whether somebody still reads what this process prints; `head` stops reading."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)
    return not any(event & select.POLLERR for _, event in watched.poll(0))


def _main(words: list[str]) -> None:
    name, *rest = words or ["--help"]
    if name in ("-h", "--help"):
        print(overview())
    elif name == "--version":
        print(f"{PROGRAM} {__version__}")
    elif name in commands.names():
        call(commands.load(name), rest)
    else:
        close = get_close_matches(name, commands.names(), 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(commands.names())}"
        raise ConfigError(f"{PROGRAM} has no command {name!r}; {hint}")


def overview() -> str:
    """The commands in their groups, a line for each."""
    lines = [f"usage: {PROGRAM} COMMAND [options]", "", "Tune LLM agents on the steps that matter, on Ray."]
    for title, names in commands.GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<12}{commands.load(name).summary}" for name in names)]
    lines += [
        "", "example:", f"  {PROGRAM} doctor", f"  {PROGRAM} pipeline --config quickstart",
        "", f"{PROGRAM} COMMAND --help explains a command, {PROGRAM} --version says which version this is.",
    ]  # fmt: skip
    return "\n".join(lines)
