"""Run an experiment: every combination's pipeline, cell by cell, over one cluster.

A cell is one model of one combination: its selection, its training, its evaluation. A unit that another combination has
finished under the same key is taken over from there, so what combinations share is done once. A cell that fails is
recorded with its error and the others go on; the same command tries it again. What the cells say is put together by
`report/experiment.py`.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray.exceptions

from atlas_ray.errors import AtlasError, ClusterError
from atlas_ray.evaluation import ledger
from atlas_ray.evaluation.evaluate import cards, evaluated_environments
from atlas_ray.evaluation.power import Assumptions, power, power_table
from atlas_ray.pipeline import stages
from atlas_ray.pipeline.grid import Combination, Experiment, assumptions, tasks_played
from atlas_ray.pipeline.keys import Keys
from atlas_ray.pipeline.pinned import pinned
from atlas_ray.pipeline.run import Run, open_run
from atlas_ray.progress import say
from atlas_ray.report.data import STAGES
from atlas_ray.report.experiment import RunOfGrid, Written, write_experiment
from atlas_ray.report.tables import Table, table
from atlas_ray.report.text import duration
from atlas_ray.roster import RosterEntry, tuned_selections
from atlas_ray.store import Store

FAILURES = "failures.json"
"""In the experiment's directory: the error of every cell that failed last time, by combination and model."""
_ENOUGH = 0.8
"""The power that is usually called enough."""
_FREE_S = 1.0
"""A cell that took less was finished before."""


@dataclass(frozen=True)
class GridCell:
    """One model of one combination."""

    combination: Combination
    run: Run
    entry: RosterEntry
    asked: str
    """The model's name in `evaluate.models`."""


def runs_of(experiment: Experiment) -> list[Run]:
    """The runs of an experiment, each knowing all others in its directory, at one commit of what is on the Hub."""
    home, wanted = Store(experiment.config.run_dir), [each.name for each in experiment.combinations]
    earlier = [name for name in home.names() if name not in wanted and home.exists(name, "config.yaml")]
    stores = tuple(Store(posixpath.join(experiment.config.run_dir, name)) for name in (*wanted, *earlier))
    pairs = zip(experiment.combinations, stores, strict=False)
    return [Run(pinned(combination.config, home), store, stores) for combination, store in pairs]


def cells_of(experiment: Experiment, runs: Sequence[Run]) -> list[GridCell]:
    """Every model of every combination, in the order in which they are run.

    Raises:
        ConfigError: a model or selection is unknown.
    """
    cells: list[GridCell] = []
    for combination, run in zip(experiment.combinations, runs, strict=True):
        roster = Keys(run, planned=True).roster
        found: dict[str, GridCell] = {}
        for asked in run.config.evaluate.models:
            for entry in roster.entries(asked):
                found.setdefault(entry.name, GridCell(combination, run, entry, _alone(entry, asked)))
        cells += found.values()
    return cells


def _alone(entry: RosterEntry, asked: str) -> str:
    """What `evaluate.models` calls this one model: of a tuned one, its selection alone would mean every seed."""
    if entry.kind != "tuned" or entry.name.endswith(f".s{entry.seed}"):
        return entry.name if entry.kind == "tuned" else asked
    return f"{entry.name}.s{entry.seed}"


# --- before the start ------------------------------------------------------------------------------------------------
def power_of(experiment: Experiment) -> tuple[Table, str]:
    """The power table of the design, and what it says of the design as it stands."""
    config = experiment.combinations[0].config
    seeds = len(config.training_seeds)
    tasks = sum(tasks_played(config).values())
    comparisons = max(1, len(tuned_selections(config)) - 1)
    assumed = assumptions(experiment, comparisons)
    rows = power_table(assumed)
    sizes = sorted({row.tasks for row in rows})
    powers = {(row.seeds, row.tasks): row.power for row in rows}
    found = table(
        ["training seeds", *(f"{size} tasks" for size in sizes)],
        [[str(count), *(f"{powers[count, size]:.2f}" for size in sizes)] for count in sorted({r.seeds for r in rows})],
        caption=f"chance to find {assumed.difference:g} points at {assumed.base:g} %, Holm over {comparisons}",
    )
    if seeds < 2:
        said = "One training seed: intervals cover the tasks alone, and nothing is known of another training's luck."
    elif tasks < 2:
        said = "One test task: no comparison is possible."
    else:
        chance = power(assumed, seeds, tasks)
        said = (
            f"This design, {seeds} training seeds and {tasks} tasks over all environments, finds a difference of "
            f"{assumed.difference:g} points with a chance of {chance:.2f}"
        )
        larger = [points for points in range(5, int(100 - assumed.base) + 1, 5) if points > assumed.difference]
        surely = (points for points in larger if power(_by(assumed, points), seeds, tasks) >= _ENOUGH)
        least = next(surely, None) if chance < _ENOUGH else assumed.difference
        said += (
            f", and one of {least:g} points with 0.8 or more." if least is not None else ", and no larger one with 0.8."
        )
    return found, said


def _by(assumed: Assumptions, difference: float) -> Assumptions:
    """The same two methods, as far apart as that; a discordance would have to differ as well, and is left open."""
    return replace(assumed, difference=difference, discordance=None)


def estimate(runs: Sequence[Run]) -> str:
    """How long what is left will take, by the units that any run of the experiment has finished."""
    plans = [(run, unit) for run in runs for unit in stages.plan(run) if unit.stage != "verification"]
    manifests = {run.store.url: {stage: run.store.facts(stage) for stage in STAGES} for run in runs}
    finished = {
        (stage, name, entry["key"])
        for found in manifests.values() for stage, entries in found.items() for name, entry in entries.items()
    }  # fmt: skip
    known: dict[tuple[str, str], list[float]] = {}
    for found in manifests.values():
        for stage, entries in found.items():
            for name, entry in entries.items():
                if "adopted_from" not in entry and entry.get("seconds") is not None:
                    for kind in {(stage, _kind(name)), (stage, "")}:
                        known.setdefault(kind, []).append(float(entry["seconds"]))
    owed = {unit for _, unit in plans if tuple(unit) not in finished}
    seconds, unknown = 0.0, 0
    for unit in owed:
        like = known.get((unit.stage, _kind(unit.name))) or known.get((unit.stage, ""))
        seconds += sum(like) / len(like) if like else 0.0
        unknown += like is None
    text = f"{len(owed)} of {len({unit for _, unit in plans})} different units of work are to be done"
    if not owed:
        return text
    if unknown == len(owed):
        return f"{text}; how long they take is unknown, as none like them is finished"
    rest = f", and {unknown} units of which none is finished yet" if unknown else ""
    return f"{text}: about {duration(seconds)} by the finished ones{rest}"


def _kind(name: str) -> str:
    """A unit's name without its training seed."""
    head, _, seed = name.rpartition(".s")
    return head if head and seed.lstrip("-").isdigit() else name


# --- running ---------------------------------------------------------------------------------------------------------
def run_grid(experiment: Experiment, cells: Sequence[GridCell]) -> None:
    """Run every cell; what is finished, here or in a sibling, costs nothing. Errors of cells are kept (`failures_of`).

    The page is written anew after every cell that took time.

    Raises:
        StoreError: a run directory belongs to another experiment, or cannot be written; nothing has been run then.
        ClusterError: the cluster cannot run any of them.
    """
    for run in {cell.combination.name: cell.run for cell in cells}.values():
        open_run(run.config)
    failed_before: dict[tuple[str, str], str] = {}
    start, costly = time.monotonic(), [0.0, 0]
    for number, cell in enumerate(cells, start=1):
        begun = time.monotonic()
        name = cell.combination.name
        label = f"cell {number}/{len(cells)} {name} {cell.entry.name}"
        say(f"{label}: begins")
        error = _error_of(lambda: _run(cell, failed_before))  # noqa: B023 - called at once
        _record(experiment, name, cell.entry.name, error)
        said = _scores(cell) if error is None else f"failed: {error}"
        took = time.monotonic() - begun
        if took > _FREE_S:
            costly = [costly[0] + took, costly[1] + 1]
            report(experiment, cells)
        left = f", about {duration((len(cells) - number) * costly[0] / costly[1])} left" if costly[1] else ""
        say(f"{label}: {said} ({duration(took)}; {duration(time.monotonic() - start)} so far{left})")
        if number == len(cells) or cells[number].combination is not cell.combination:
            _select_the_rest(experiment, cell)


def _select_the_rest(experiment: Experiment, cell: GridCell) -> None:
    """Make the selections of a combination that nothing is trained on: they are scored against the truth."""
    for name in stages.wanted_selections(cell.run.config):
        if name not in tuned_selections(cell.run.config):
            error = _error_of(lambda: stages.select(cell.run, [name]))  # noqa: B023 - called at once
            _record(experiment, cell.combination.name, f"selection {name}", error)
            if error is not None:
                say(f"select {name}: failed: {error}")


def _error_of(work: Callable[[], Any]) -> str | None:
    """Do something that may fail without ending the grid; returns its error on one line.

    Raises:
        ClusterError: nothing else could be done either.
    """
    try:
        work()
    except ClusterError:
        raise
    except AtlasError as error:
        return _one_line(str(error))
    except ray.exceptions.RayError as error:  # its text ends with what was raised in the worker
        return _one_line(f"{type(error).__name__}: {str(error).strip().rpartition(chr(10))[2]}")
    return None


def failures_of(experiment: Experiment) -> dict[str, dict[str, str]]:
    """The error of every cell that failed when it was last tried, by combination and model."""
    store = Store(experiment.config.run_dir)
    found: dict[str, dict[str, str]] = store.read_json(FAILURES) if store.exists(FAILURES) else {}
    return found


def _record(experiment: Experiment, combination: str, name: str, error: str | None) -> None:
    """Keep a cell's error, or forget the one that it had."""
    found = failures_of(experiment)
    own = {other: text for other, text in found.get(combination, {}).items() if other != name}
    own |= {} if error is None else {name: error}
    changed = {other: texts for other, texts in found.items() if other != combination} | (
        {combination: own} if own else {}
    )
    if changed != found:
        Store(experiment.config.run_dir).write_json(changed, FAILURES)


def _run(cell: GridCell, failed_before: dict[tuple[str, str], str]) -> None:
    """All that a cell needs, in order."""
    run, entry = cell.run, cell.entry
    _unless_failed(cell, "", failed_before, lambda: _prepare(run))
    if entry.selection is not None and entry.seed is not None:
        selection, seed = entry.selection, entry.seed
        _unless_failed(cell, selection, failed_before, lambda: stages.select(run, [selection]))
        stages.train(run, [selection], [seed])
    alone = run.config.evaluate.model_copy(update={"models": (cell.asked,)})
    stages.evaluate_models(replace(run, config=run.config.model_copy(update={"evaluate": alone})))
    _count_looks(run, entry)


def _scores(cell: GridCell) -> str:
    results = cell.run.store.read_json("evaluation", cell.entry.name, "results.json")
    scores = {name: found["score"] for name, found in results["environments"].items()}
    return ", ".join(f"{name} {'no result' if score is None else f'{score:.1f}'}" for name, score in scores.items())


def _prepare(run: Run) -> None:
    stages.collect(run)
    stages.warm_up(run)


def _unless_failed(
    cell: GridCell, what: str, failed_before: dict[tuple[str, str], str], work: Callable[[], Any]
) -> None:
    """Do what several cells of a combination need; if it failed for one of them, it is not tried for the next."""
    key = (cell.combination.name, what)
    if key in failed_before:
        raise AtlasError(failed_before[key])
    error = _error_of(work)
    if error is not None:
        failed_before[key] = error
        raise AtlasError(error)


def _count_looks(run: Run, entry: RosterEntry) -> None:
    """In the manifest of `looks`: how many of the model's test steps only looked."""
    key = run.store.key_of("evaluate", entry.name)
    if key is None:
        return

    def work() -> dict[str, Any]:
        from atlas_ray.evaluation.looks import count_looks

        return {"environments": count_looks(ledger.counted(run.store, entry.name), run.config.environments)}

    run.once("looks", entry.name, key, work)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]


# --- after it --------------------------------------------------------------------------------------------------------
def report(experiment: Experiment, cells: Sequence[GridCell], joined: Sequence[str] = ()) -> Written:
    """Write `experiment.json`, `experiment.html`, `experiment.md` and the pictures.

    Args:
        experiment: what was asked.
        cells: all of its cells.
        joined: `experiment.json` files of cells that were run elsewhere.
    """
    by_combination: dict[str, RunOfGrid] = {}
    failures = failures_of(experiment)
    for cell in cells:
        name, config = cell.combination.name, cell.run.config
        if name not in by_combination:
            known = cards(config, evaluated_environments(config))
            by_combination[name] = RunOfGrid(
                name, cell.combination.values, config, cell.run.store, known, [], failures.get(name, {})
            )
        by_combination[name].models.append(cell.entry)
    _, said = power_of(experiment)
    return write_experiment(
        Store(experiment.config.run_dir), experiment.config.model_dump(mode="json", exclude={"run_dir"}),
        list(by_combination.values()),
        said, f"atlas-ray experiment --config {experiment.file}", joined,
    )  # fmt: skip
