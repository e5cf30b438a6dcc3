"""A page in the browser that follows one run or several: results, curves, selections, trajectories, episodes.

It holds the runs beside each other and reads rows as they are looked at, so large runs open at once. It listens on
127.0.0.1 alone, writes nothing, and ends with Ctrl-C.
"""

from __future__ import annotations

from argparse import ArgumentParser

from atlas_ray.cli.command import Command, Request


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run directories, such as runs/quickstart")
    parser.add_argument("--port", type=int, default=8765, metavar="N", help="0 takes a free one [%(default)s]")


def work(request: Request) -> None:
    from atlas_ray.viewer.app import View, bound, serve

    view = View(request.options.runs)
    with bound(request.options.port) as listening:
        host, port = listening.getsockname()
        print(f"viewing at http://{host}:{port}/ until Ctrl-C", flush=True)
        serve(view, listening)


COMMAND = Command(
    "view", __doc__,
    ("atlas-ray view runs/quickstart", "atlas-ray view runs/habits/* --port 0"),
    work, arguments=arguments,
)  # fmt: skip
