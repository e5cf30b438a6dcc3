"""Import: files of other people's trajectories, read in blocks, filtered, counted and stored in flat memory.

Shapes are read in `formats/files.py`. A large source is read by Ray tasks on this node, as many as it has CPUs.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from atlas_ray import plugins
from atlas_ray.config import CollectConfig
from atlas_ray.environments import registry
from atlas_ray.errors import ConfigError, DataError
from atlas_ray.formats import files, sources
from atlas_ray.pipeline.sorting import sorted_trajectories
from atlas_ray.progress import say
from atlas_ray.store import Store
from atlas_ray.trajectory import has_failed

SHOWN = 10
"""Malformed rows that are named; all are counted."""
LARGE = 32 << 20
"""Bytes of files from which on several processes read them."""
MAX_READERS = 8
_AHEAD = 4
"""Blocks that a reader may be ahead."""
_SAY_EVERY_S = 5.0


@dataclass
class _Kept:
    """What became of an environment's trajectories."""

    trajectories: int = 0
    steps: int = 0
    successes: int = 0
    failures: int = 0
    kept: int = 0


@dataclass
class Imported:
    """What a source holds, and what is kept of it."""

    rows: int = 0
    malformed: int = 0
    environments: dict[str, _Kept] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    """What was read in another way than it was written, or not at all, with the number of rows."""
    given: set[str] = field(default_factory=set)
    """Names of `collect.environments` that were met, in lower case."""
    failed: int = 0
    """Failed trajectories among those that are kept."""

    @property
    def kept(self) -> int:
        """Trajectories that are stored."""
        return sum(each.kept for each in self.environments.values())

    def facts(self) -> dict[str, Any]:
        """For the stage's manifest."""
        facts: dict[str, Any] = {"trajectories": self.kept, "dropped": dict(sorted(self.dropped.items()))}
        if self.failed:
            facts["failed_trajectories"] = self.failed
        return facts | {"notes": dict(sorted(self.notes.items()))} if self.notes else facts

    def lines(self) -> list[str]:
        """What the source holds, for a terminal."""
        good = self.rows - self.malformed
        lines = [f"{self.rows} rows: {good} trajectories, {self.malformed} malformed; {self.kept} are kept"]
        lines += [f"  shape        {count:>8}  {shape}" for shape, count in self.shapes.most_common()]
        header = (
            f"  {'environment':<20}{'rows':>8}{'steps':>9}{'successes':>11}{'failures':>10}{'untold':>8}{'kept':>8}"
        )
        lines.append(header)
        for name, each in sorted(self.environments.items()):
            untold = each.trajectories - each.successes - each.failures
            lines.append(
                f"  {name:<20}{each.trajectories:>8}{each.steps:>9}{each.successes:>11}{each.failures:>10}"
                f"{untold:>8}{each.kept:>8}"
            )
        lines += [f"  dropped      {count:>8}  {reason}" for reason, count in self.dropped.most_common()]
        return lines + [f"  note         {count:>8}  {note}" for note, count in self.notes.most_common()]


def import_files(config: CollectConfig, store: Store) -> dict[str, Any]:
    """Replace `trajectories/` by what the files hold; returns the facts for the manifest.

    Raises:
        ConfigError: `collect.environments` names an environment that there is not.
        DataError: no file matches, one cannot be opened, or nothing is left.
    """
    imported = Imported()
    with sorted_trajectories(store) as add:
        for table in _kept(config, imported):
            add(table)
        for note, count in imported.notes.most_common():
            say(f"  collect: {note} ({count} rows)")
        for reason, count in imported.dropped.most_common():
            say(f"  collect: dropped {count} rows: {reason}")
        if not imported.kept:
            raise DataError(
                f"collect: {config.source}: no trajectory is left of {imported.rows} rows "
                f"({_listed(imported.dropped)}); see collect.min_score and collect.trajectories"
            )
    return imported.facts()


def survey(config: CollectConfig) -> Imported:
    """What the files hold and what an import would keep; nothing is stored. Raises as `import_files`."""
    imported = Imported()
    for _ in _kept(config, imported):
        pass
    return imported


def _kept(config: CollectConfig, imported: Imported) -> Iterator[pa.Table]:
    """The rows that are kept, in blocks and with distinct ids; counts everything in `imported`."""
    known = registry.names()
    for theirs, ours in config.environments.items():
        if ours not in known:
            raise ConfigError(
                f"collect.environments.{theirs}: there is no environment {ours!r}{plugins.nearest(ours, known)}"
            )
    options = files.Options(config.environments, config.reasoning, config.action_format)
    ids, said = files.DistinctIds(), time.monotonic()
    for table, tally in _blocks(config.source, options):
        _count(tally, imported)
        mask, names = [], []
        columns = table.select(["trajectory_id", "env", "n_steps", "reward", "success"]).to_pydict().values()
        for identity, env, n_steps, reward, success in zip(*columns, strict=True):
            found = imported.environments.setdefault(env, _Kept())
            found.trajectories += 1
            found.steps += n_steps
            found.successes += success is True
            found.failures += success is False
            reason = _reason(config, env, reward, success, found.kept)
            mask.append(reason is None)
            if reason is None:
                found.kept += 1
                imported.failed += has_failed(success, reward)
                names.append(ids.take(identity))
            else:
                imported.dropped[reason] += 1
        if not all(mask):
            table = table.filter(pa.array(mask, pa.bool_()))
        yield table.set_column(0, table.schema.field(0), pa.array(names, pa.string()))
        if time.monotonic() - said >= _SAY_EVERY_S:
            said = time.monotonic()
            say(f"  collect: {imported.rows} rows read, {imported.kept} kept")
    if unmet := sorted(name for name in config.environments if name.casefold() not in imported.given):
        say(f"  collect: collect.environments: no row is of {', '.join(map(repr, unmet))}; see --dry-run for the names")


def _count(tally: files.ImportTally, imported: Imported) -> None:
    imported.rows += tally.rows
    imported.given |= tally.given
    for bad in tally.bad:
        imported.malformed += 1
        imported.dropped["malformed row"] += 1
        if imported.malformed <= SHOWN:
            say(f"  collect: {bad}")
    for note, count in tally.notes.items():
        if note.startswith(files.SHAPE):
            imported.shapes[note.removeprefix(files.SHAPE)] += count
        else:
            imported.notes[note if len(imported.notes) < files.MAX_NOTES else files.MORE] += count


def _reason(config: CollectConfig, env: str, reward: float | None, success: bool | None, kept: int) -> str | None:
    """Why a trajectory is dropped, as for experts; None when it is kept. A row that tells nothing is kept."""
    if config.trajectories and env not in config.trajectories:
        return f"{env}: not in collect.trajectories"
    score = reward if reward is not None else None if success is None else float(success)
    failed = has_failed(success, reward)
    if not (failed and config.keep_failures):
        if config.min_score is not None and score is not None and score < config.min_score:
            return f"{env}: score below {config.min_score}"
        if config.min_score is None and failed:
            return f"{env}: not successful"
    if config.trajectories and kept >= config.trajectories[env]:
        return f"{env}: more than {config.trajectories[env]}"
    return None


def _blocks(source: str, options: files.Options) -> Iterator[tuple[pa.Table, files.ImportTally]]:
    """The blocks of a source in order, read here or, if it is large and Ray is connected, by tasks on this node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    size = sum(os.path.getsize(path) for path in sources.files(source))
    readers = min(os.cpu_count() or 1, MAX_READERS)
    if size < LARGE or readers < 2 or not ray.is_initialized():
        yield from files.blocks(source, options)
        return
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task = ray.remote(files.blocks).options(
        num_returns="streaming", num_cpus=0, scheduling_strategy=here, max_retries=0,
        _generator_backpressure_num_objects=_AHEAD,
    )  # fmt: skip
    path = os.path.abspath(sources.here(source))
    waiting = [task.remote(path, options, (number, readers)) for number in range(readers)]
    while waiting:
        for blocks in list(waiting):
            reference = next(blocks, None)
            if reference is None:
                waiting.remove(blocks)
            else:
                yield ray.get(reference)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in counts.most_common()) or "the files are empty"
