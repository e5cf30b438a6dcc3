"""`python -m envs`: the list of environments, and playing one in the terminal; `atlas-ray env` does the same and more.

python -m envs                                       every environment with its card
python -m envs play maze --task 3                    you play
python -m envs play textcraft --expert --option depths=[2]
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from atlas_ray.environments.play import add_arguments, play, show_list
from atlas_ray.errors import AtlasError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0, or 2 after an error that the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m envs", description=__doc__.splitlines()[0])
    add_arguments(parser.add_subparsers(dest="command").add_parser("play", help="play an environment in the terminal"))
    options = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        if options.command == "play":
            play(console, options)
        else:
            show_list(console, "python -m envs")
    except AtlasError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), style="red", markup=False)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
