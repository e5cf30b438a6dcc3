"""A run in the terminal: what is done, results, selections, trajectories with their picks, episodes.

With --follow the overview is drawn anew until Ctrl-C. With --tokens a trajectory is shown on its real tokens, those
that carry loss in colour. The whole report is report.html.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser

from atlas_ray.cli.command import Command, Request

_EVERY_S = 2.0


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run directory, such as runs/quickstart")
    parser.add_argument("--follow", action="store_true", help="draw the overview anew every two seconds, until Ctrl-C")
    parser.add_argument("--trajectories", action="store_true", help="a line for each trajectory")
    parser.add_argument("--trajectory", metavar="ID", help="one trajectory, with the steps that selections chose")
    parser.add_argument("--selection", metavar="NAME", help="whose steps are shown [all selections]")
    parser.add_argument("--tokens", action="store_true", help="the trajectory on its tokens, with the loss mask")
    parser.add_argument("--episodes", metavar="MODEL", help="a line for each episode of a model")
    parser.add_argument("--episode", metavar="KEY", help="with --episodes: one episode, turn by turn")
    parser.add_argument("--env", metavar="NAME", help="only trajectories and episodes of this environment")
    parser.add_argument("--failed", action="store_true", help="only episodes that did not succeed")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="lines at most [%(default)s]")


def work(request: Request) -> None:
    from rich.console import Console
    from rich.live import Live

    from atlas_ray.cli.inspect import Inspected

    asked, console = request.options, Console(highlight=False)
    run = Inspected(asked.run)
    if asked.tokens:
        from atlas_ray.chat.show import main as show

        given = {"--id": asked.trajectory, "--selection": asked.selection}
        named = [word for option, value in given.items() if value for word in (option, value)]
        show(["--show", run.store.url, "--model", run.config.model, *named])
    elif asked.trajectory:
        console.print(run.trajectory(asked.trajectory, [asked.selection] if asked.selection else []))
    elif asked.trajectories:
        console.print(run.trajectories(asked.env, asked.limit))
    elif asked.episodes and asked.episode:
        console.print(run.episode(asked.episodes, asked.episode))
    elif asked.episodes:
        console.print(run.episodes(asked.episodes, asked.env, failed=asked.failed, limit=asked.limit))
    elif asked.follow:
        with Live(run.overview(), console=console, auto_refresh=False) as live:
            try:
                while True:
                    time.sleep(_EVERY_S)
                    live.update(run.overview(), refresh=True)
            except KeyboardInterrupt:
                return
    else:
        console.print(run.overview())


COMMAND = Command(
    "inspect", __doc__,
    ("atlas-ray inspect runs/quickstart --follow",
     "atlas-ray inspect runs/quickstart --trajectory textcraft_3 --selection critical --tokens",
     "atlas-ray inspect runs/quickstart --episodes base --failed"),
    work, arguments=arguments,
)  # fmt: skip
