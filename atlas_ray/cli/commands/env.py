"""The environments: list, play, check, and begin one of your own.

`new` writes a small package with an environment, its tests and a README; it passes its tests at once.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from atlas_ray.cli.command import Command, Request


def arguments(parser: ArgumentParser) -> None:
    from atlas_ray.environments.play import add_arguments, add_option

    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="every environment with its card [what happens without an action]")
    add_arguments(actions.add_parser("play", help="play an environment in the terminal, or watch its expert"))
    check = actions.add_parser("check", help="check the contract on some tasks of an environment")
    check.add_argument("name", help="the environment")
    check.add_argument("--tasks", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="of both splits [0 1 2]")
    add_option(check)
    new = actions.add_parser("new", help="write a package with an environment of your own")
    new.add_argument("name", help="of the environment, as in my_shell")
    new.add_argument("--to", default=".", metavar="FOLDER", help="where NAME_env is written [%(default)s]")


def work(request: Request) -> None:
    from rich.console import Console

    from atlas_ray.cli import scaffold
    from atlas_ray.environments import check_env, names, play

    options, console = request.options, Console(highlight=False, soft_wrap=True)
    if options.action == "play":
        play.play(console, options)
    elif options.action == "check":
        check_env(options.name, tasks=options.tasks, **play.option_values(options))
        print(f"{options.name} keeps the contract on tasks {', '.join(map(str, options.tasks))}")
    elif options.action == "new":
        folder = scaffold.write("env", options.name, Path(options.to), names())
        print(f"{folder}\nnext: cd {folder} && python -m pytest && pip install -e . (see its README.md)")
    else:
        play.show_list(console, "atlas-ray env")


COMMAND = Command(
    "env", __doc__, ("atlas-ray env play textcraft --task 3", "atlas-ray env new my_shell"), work, arguments=arguments
)
