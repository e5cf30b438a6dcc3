"""Run an experiment: a grid of pipelines over one cluster, that share equal work.

The file names options with lists of values (configs/experiments/). A dotted option given here is laid over the base
configuration; one that is in the grid takes the place of its values there. A killed run goes on where it was.

With --plan: check every combination, print the power table and the time that is left, and run nothing.
With --report: write experiment.json and the page from what has been run so far. With --join, also from what was run
on other machines: the rows of their experiment.json.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser

from atlas_ray.cli.command import Command, Request
from atlas_ray.errors import ConfigError


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--plan", action="store_true", help="check, print power and time, run nothing")
    parser.add_argument("--report", action="store_true", help="write the page of what has been run so far")
    parser.add_argument(
        "--join", nargs="+", default=[], metavar="FILE", help="with --report: experiment.json of parts run elsewhere"
    )


def work(request: Request) -> None:
    from rich.console import Console

    from atlas_ray.cluster import check_address, connect
    from atlas_ray.pipeline import experiment, grid
    from atlas_ray.report.tables import to_terminal

    chosen = request.options
    if chosen.config is None:
        raise ConfigError("command line: give --config configs/experiments/NAME.yaml")
    if chosen.join and not chosen.report:
        raise ConfigError("command line: --join belongs to --report, which writes the page")
    wanted = grid.read_experiment(chosen.config, request.overrides)
    grid.check(wanted)
    works = not (chosen.plan or chosen.report)
    if works:
        check_address(os.environ.get("RAY_ADDRESS"))  # before anything is written
    runs = experiment.runs_of(wanted)
    cells = experiment.cells_of(wanted, runs)
    powers, said = experiment.power_of(wanted)
    if not chosen.report:
        Console(width=110).print(to_terminal(powers))
        print(said)
        print(f"{len(wanted.combinations)} combinations, {len(cells)} cells; {experiment.estimate(runs)}", flush=True)
    if chosen.plan:
        return
    if works:
        connect()
        experiment.run_grid(wanted, cells)
    written = experiment.report(wanted, cells, chosen.join)
    if written.success.rows:
        Console(width=110).print(to_terminal(written.success))
    for combination, found in experiment.failures_of(wanted).items():
        for name, error in found.items():
            print(f"failed  {combination} {name}: {error}")
    print(f"rows    {written.data}\npage    {written.page}")


COMMAND = Command(
    "experiment", __doc__,
    ("atlas-ray experiment --config experiments/habits --plan",
     "atlas-ray experiment --config experiments/habits --collect.style checks"),
    work, ("collect", "select", "train", "evaluate"), arguments,
)  # fmt: skip
