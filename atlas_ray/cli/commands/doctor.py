"""What this machine and its cluster can do, and what to install for what is missing.

Exits with 1 where something keeps the quickstart from running. Keys are said to be set or not, never shown.
"""

from __future__ import annotations

import sys

from atlas_ray.cli.command import Command, Request

_COLOURS = {"ok": "green", "optional": "yellow", "missing": "bold red", "wrong": "bold red"}


def work(request: Request) -> None:
    from rich.console import Console
    from rich.text import Text

    from atlas_ray.cli.doctor import examine, findings, works

    found = findings(examine())
    console = Console(highlight=False, soft_wrap=True)
    for each in found:
        console.print(Text(f"{each.state:<10}", _COLOURS[each.state]) + f"{each.subject:<16}{each.found}")
        if each.advice:
            console.print(f"{'':<26}-> {each.advice}", markup=False)
    if not works(found):
        console.print("\nWhat is missing or wrong keeps the quickstart from running.")
        sys.exit(1)
    console.print("\nThe quickstart can run: atlas-ray pipeline --config quickstart")


COMMAND = Command("doctor", __doc__, ("atlas-ray doctor",), work)
