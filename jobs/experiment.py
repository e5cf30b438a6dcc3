"""Run an experiment: a grid of pipelines over one cluster, that share equal work; then its table and its page.

The file names options with lists of values (configs/experiments/). A dotted option given here is laid over the base
configuration; one that is in the grid takes the place of its values there. A killed run goes on where it was.

With --plan: check every combination, print the power table and the time that is left, and run nothing.
With --report: write experiment.json and the page from what has been run so far.
"""

import os
import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from rich.console import Console

from atlas_ray.cli.job import guarded
from atlas_ray.cli.options import parse_overrides, parser_for
from atlas_ray.cluster import check_address, connect
from atlas_ray.errors import ConfigError
from atlas_ray.pipeline import experiment, grid
from atlas_ray.report.tables import to_terminal


def main() -> None:
    parser = parser_for(__doc__ or "")
    parser.add_argument("--plan", action="store_true", help="check, print power and time, run nothing")
    parser.add_argument("--report", action="store_true", help="write the page of what has been run so far")
    overrides, chosen = parse_overrides(parser)
    if chosen.config is None:
        raise ConfigError("command line: give --config configs/experiments/NAME.yaml")
    wanted = grid.read_experiment(chosen.config, overrides)
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
    data, page = experiment.report(wanted, cells)
    for combination, found in experiment.failures_of(wanted).items():
        for name, error in found.items():
            print(f"failed  {combination} {name}: {error}")
    print(f"rows    {data}\npage    {page}")


guarded(main)
