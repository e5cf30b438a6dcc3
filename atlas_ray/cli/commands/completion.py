"""Print the completion of commands, options and configurations for bash or zsh.

Put the line of the example into ~/.bashrc or ~/.zshrc (there after compinit).
"""

from __future__ import annotations

from argparse import ArgumentParser

from atlas_ray.cli.command import Command, Request


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh"], help="the shell that reads it")


def work(request: Request) -> None:
    from atlas_ray.cli.completion import script

    print(script(request.options.shell), end="")


COMMAND = Command("completion", __doc__, ('eval "$(atlas-ray completion bash)"',), work, arguments=arguments)
