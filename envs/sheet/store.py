"""The offline backend: the actions on a workbook in memory, one for each episode."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from envs.sheet.cells import Box, as_entered
from envs.sheet.toolkit import Block, Toolkit
from envs.sheet.workbook import Workbook
from envs.sheet.worksheet import Axis, Sheet, Table
from envs.tools.tasks import Task


class SheetStore(Toolkit):
    """One episode's workbook.

    Args:
        workbook_of: The start state of a task.
    """

    def __init__(self, workbook_of: Callable[[Task], Workbook]) -> None:
        self._workbook_of = workbook_of
        self.workbook = Workbook(())

    def open(self, task: Task) -> None:
        """See `Backend`."""
        self.workbook = self._workbook_of(task)

    def save(self) -> Workbook:
        """See `Backend`: workbooks never change."""
        return self.workbook

    def load(self, task: Task, saved: Workbook) -> None:
        """See `Backend`."""
        self.workbook = saved

    def table(self) -> Table | None:
        """What the open sheet shows, None if no sheet is open."""
        return self._sheet.shown if self.workbook.current is not None else None

    # -- see `Toolkit` --------------------------------------------------------------------------------------------

    def shown(self) -> Table:
        return self._sheet.shown

    def plain(self) -> Table:
        return self._sheet.plain

    def calculated(self, text: str) -> str:
        return self._sheet.calculate(text)

    def note(self, row: int, col: int) -> str:
        return self._sheet.cell(row, col).note

    def require(self, row: int, col: int) -> None:
        self._sheet.require(row, col)

    def select(self, name: str) -> int:
        self.workbook = self.workbook.open(name)
        return [sheet.name for sheet in self.workbook.sheets].index(name)

    def drop(self, name: str) -> None:
        self.workbook = self.workbook.without(name)

    def freeze(self, *, rows: int | None = None, cols: int | None = None) -> None:
        self._keep(self._sheet.freeze(rows=rows, cols=cols))

    def insert(self, axis: Axis, at: int, lines: Block, *, inherit: bool) -> None:
        lines = [[None if value == "" else value for value in line] for line in lines]
        self._keep(self._sheet.insert(axis, at, lines, inherit=inherit))

    def delete(self, axis: Axis, numbers: Sequence[int]) -> None:
        self._keep(self._sheet.delete(axis, numbers))

    def sort(self, col: int, *, descending: bool) -> None:
        self._keep(self._sheet.sort(col, descending=descending))

    def merge(self, box: Box) -> None:
        self._keep(self._sheet.merge(box))

    def write(self, box: Box, block: Block) -> None:
        sheet = self._sheet
        cells = [
            [
                None if value is None else sheet.cell(row, col)._replace(content=None if value == "" else value)
                for col, value in enumerate(line, box.left)
            ]
            for row, line in enumerate(block, box.top)
        ]
        self._keep(sheet.write(box.top, box.left, cells))

    def enter(self, row: int, col: int, text: str) -> None:
        content, number_format = as_entered(text)
        sheet = self._sheet.put(row, col, content=content)
        self._keep(sheet.put(row, col, format=number_format) if number_format else sheet)

    def annotate(self, row: int, col: int, note: str) -> None:
        self._keep(self._sheet.put(row, col, note=note))

    @property
    def _sheet(self) -> Sheet:
        return self.workbook.opened

    def _keep(self, sheet: Sheet) -> None:
        self.workbook = self.workbook.changed(sheet)
