"""Trajectories from files in the shapes that people have; a bad row becomes a `BadRow`, not an exception.

The content of a row decides how it is read, row by row (`fields.py`). Files are found in `sources.py` and cut into rows
in `rows.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa

from atlas_ray.environments.calling import ActionFormat
from atlas_ray.formats.actions import Actions
from atlas_ray.formats.fields import SHAPE, trajectory, visible
from atlas_ray.formats.names import Names
from atlas_ray.formats.rows import SKIPPED, Problem, rows
from atlas_ray.formats.sources import files, fingerprint
from atlas_ray.formats.turns import Malformed
from atlas_ray.trajectory import Trajectory, trajectories_to_table

__all__ = ["SHAPE", "BadRow", "DistinctIds", "ImportTally", "Options", "blocks", "fingerprint", "read"]

BLOCK_ROWS = 256
"""Rows of a file that are read, sent to another process and stored together."""
MAX_NOTES = 100
"""Different notes of an import; what comes after them is counted together as `MORE`."""
MORE = "more of the same kind"


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read as a trajectory."""

    file: str
    row: int
    """Index in the list, or number of the line, from 0."""
    problem: str
    """Field, what was expected and what was found."""

    def __str__(self) -> str:
        return f"{self.file}: row {self.row}: {self.problem}"


@dataclass
class ImportTally:
    """What reading met, counted in rows."""

    rows: int = 0
    bad: list[BadRow] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    """What was read in another way than it was written, or not at all: a line for each."""
    given: set[str] = field(default_factory=set)
    """Names of `Options.environments` that were met up to here, in lower case."""

    def note(self, text: str, count: int = 1) -> None:
        """Count rows that have shown something."""
        if text not in self.notes and len(self.notes) >= MAX_NOTES:
            text = MORE
        self.notes[text] += count


@dataclass(frozen=True)
class Options:
    """How rows are read."""

    environments: Mapping[str, str] = field(default_factory=dict)
    """Our names of environments by theirs."""
    reasoning: bool = False
    """Keep an assistant's reasoning beside its text, as `Message.thinking`."""
    action_format: ActionFormat | None = None
    """How actions are written; None: as they come."""


def read(source: str, options: Options | None = None) -> Iterator[Trajectory | BadRow]:
    """The rows of the files that a path, a folder or a glob names, in the files' order; every id is distinct.

    Raises:
        DataError: no file matches, or a file cannot be opened.
    """
    ids, options = DistinctIds(), options or Options()
    for _, found, _ in _rows(source, options, Names(options.environments), (0, 1)):
        if isinstance(found, Trajectory):
            identity = ids.take(found.trajectory_id)
            yield found if identity == found.trajectory_id else found.model_copy(update={"trajectory_id": identity})
        elif found is not None:
            yield found


def blocks(source: str, options: Options, share: tuple[int, int] = (0, 1)) -> Iterator[tuple[pa.Table, ImportTally]]:
    """As `read`, but blocks of at most `BLOCK_ROWS` rows as tables in `TRAJECTORY_SCHEMA`, whose ids may repeat.

    Args:
        source: see `sources.files`.
        options: how rows are read.
        share: `(k, n)`: the blocks whose number leaves k when it is divided by n. So n processes read a source, and
            taking their blocks in turn gives the rows in order.

    Raises:
        DataError: no file matches, or a file cannot be opened.
    """
    number, count = share
    names = Names(options.environments)
    for block, group in groupby(_rows(source, options, names, share), key=lambda row: row[0]):
        if block % count != number:
            continue
        trajectories, tally = [], ImportTally()
        for _, found, notes in group:
            tally.rows += 1
            if isinstance(found, Trajectory):
                trajectories.append(found)
                for note in notes:
                    tally.note(note)
            elif found is not None:
                tally.bad.append(found)
        tally.given = set(names.met)
        yield trajectories_to_table(trajectories), tally


def _rows(
    source: str, options: Options, names: Names, share: tuple[int, int]
) -> Iterator[tuple[int, Trajectory | BadRow | None, set[str]]]:
    """Number of the block, what was read (None: another process reads it) and notes of every row."""
    first, actions = 0, Actions(options.action_format)
    for path in files(source):
        block = first

        def wanted(position: int, first: int = first) -> bool:
            return (first + position // BLOCK_ROWS) % share[1] == share[0]

        for position, row in rows(path, wanted):
            block = max(block, first + position // BLOCK_ROWS)
            notes: set[str] = set()
            found: Trajectory | BadRow | None = None
            if isinstance(row, Problem):
                found = BadRow(visible(path), position, row.text)
            elif row is not SKIPPED:
                try:
                    found = actions.of(trajectory(row, path, position, names, notes, options.reasoning), notes)
                except Malformed as error:
                    found = BadRow(visible(path), position, str(error))
            yield first + position // BLOCK_ROWS, found, notes
        first = block + 1


class DistinctIds:
    """Makes ids distinct: `a`, `a#2`, `a#3`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._repeats: Counter[str] = Counter()

    def take(self, identity: str) -> str:
        """The id, or the first of its numbered forms that is not taken."""
        found = identity
        while found in self._taken:
            self._repeats[identity] = max(self._repeats[identity], 1) + 1
            found = f"{identity}#{self._repeats[identity]}"
        self._taken.add(found)
        return found
