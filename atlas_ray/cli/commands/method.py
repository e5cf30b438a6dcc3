"""The selection methods: list, and begin one of your own.

`new` writes a small package with a method, its tests and a README; it passes its tests at once.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from atlas_ray.cli.command import Command, Request


def arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="every method with its source and needs [what happens without an action]")
    new = actions.add_parser("new", help="write a package with a selection method of your own")
    new.add_argument("name", help="of the method, as in longest")
    new.add_argument("--to", default=".", metavar="FOLDER", help="where NAME_method is written [%(default)s]")


def work(request: Request) -> None:
    from atlas_ray.cli import scaffold
    from atlas_ray.selection import method

    options = request.options
    if options.action == "new":
        folder = scaffold.write("method", options.name, Path(options.to), method.names())
        print(f"{folder}\nnext: cd {folder} && python -m pytest && pip install -e . (see its README.md)")
    else:
        print(method.describe(), end="")


COMMAND = Command("method", __doc__, ("atlas-ray method", "atlas-ray method new longest"), work, arguments=arguments)
