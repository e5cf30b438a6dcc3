"""Sheet: bring a worksheet into the state that a goal describes (AgentGym's sheet, on Google Sheets upstream).

The score is upstream's: the share of cells that agree with the right table, out of all cells of both tables; the best
so far counts. The workbook is in `worksheet.py` and `store.py`. Tasks come from `edits.py` and `arrangements.py`, or
from upstream's files.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from atlas_ray.environments.contract import Outcome
from atlas_ray.errors import ConfigError, DataError, EnvironmentError
from envs.sheet.actions import EXAMPLE, HINT, TOOLBOX
from envs.sheet.arrangements import ARRANGEMENTS
from envs.sheet.edits import EDITS
from envs.sheet.live import GoogleSheets
from envs.sheet.store import SheetStore
from envs.sheet.workbook import Workbook, read_xlsx
from envs.sheet.worksheet import Table, agreement
from envs.tools.backend import choose
from envs.tools.env import ToolEnv
from envs.tools.files import read_tasks
from envs.tools.grammar import observation_text, refused_by
from envs.tools.tasks import Play, Task, TaskSet, generate, use

TEMPLATES = (*EDITS, *ARRANGEMENTS)
WORKBOOKS = ("sheets.xlsx", "Test Sheet-For Copy.xlsx")
"""What upstream's workbook is called if it is not named: as here, as upstream."""

_STEP = re.compile(r"Action \d+: (\w+) with Action Input: (\{.*\})")


class SheetEnv(ToolEnv):
    """Tasks on a workbook; `info["score"]` is the best agreement of the open sheet with the right table.

    Args:
        data: A task file in upstream's format instead of the generated tasks.
        workbook: The .xlsx file with the start sheets of those tasks; the file beside `data` unless given.
        backend: "offline", or "live" for a Google account; see `live.py`.
        max_rounds: Rounds before truncation, the paper's 15 unless given.
    """

    refusals: ClassVar[str] = refused_by(
        r"\w+_list is empty", "Either 'in_row' or", r"(?:row|column) \d+ is empty: the last", "Warning: You cannot ",
        "Requested writing within range ", "A cell holds a text, a number or ", "The query (?:has|takes)",
        "The pattern ", r".{1,70} is no regular expression", r".{1,70} is not of the form re\.compile",
        ".{1,70} is not a cell in A1", r"There is no (?:sheet|row|column) ", "Please open a sheet", "You can't ",
        "Each (?:row|column) may have ", "A merge needs ", "You must select all cells",
        r"Range \(.{1,90}\) exceeds grid limits", "The sheet would reach ",
    )  # fmt: skip

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        workbook: str | Path | None = None,
        backend: str = "offline",
        max_rounds: int | None = None,
    ) -> None:
        if workbook is not None and data is None:
            raise ConfigError("sheet: workbook=PATH is the start state of data=PATH; give both")
        tasks = None if data is None else _read(data, workbook)
        self._store = choose("sheet", backend, lambda: SheetStore(_workbook), lambda: GoogleSheets(_workbook))
        super().__init__(
            "sheet",
            held_in=False,
            metric="mean_reward",
            rounds=15,
            source="AgentGym agentenv-sheet (AgentBoard heritage); own workbooks and tasks",
            instruction=TOOLBOX.instruction(HINT, EXAMPLE),
            toolbox=TOOLBOX,
            backend=self._store,
            templates=TEMPLATES,
            generated=generated,
            given=tasks,
            max_rounds=max_rounds,
        )

    def _judge(self, finished: bool, given: Any) -> float:
        table = self._store.table()
        return 0.0 if table is None else agreement(table, self.task.final)

    def _solved(self, score: float) -> bool:
        # Parts of a sheet can agree fully; solved is a table that is right as a whole.
        return self._success or self._store.table() == self.task.final

    def _finish(self, arguments: Mapping[str, Any]) -> Outcome:
        table = self._store.finish()
        score = max(self._score, self._judge(True, None))
        return Outcome(observation_text(table), score, self._solved(score), done=True)

    def _play_file(self, task: Task) -> Play:
        steps = _STEP.findall(str(task.parameters.get("reference", "")))
        name = sheet_of(task)
        if not steps or name is None:
            raise EnvironmentError(f"sheet: {task.origin} has no reference solution, so there is no expert for it")
        yield use(f'The goal is about the sheet "{name}", so I open it first.', "open_sheet", name=name)
        for n, (action, arguments) in enumerate(steps, 1):
            thought = f"Step {n} of the {len(steps)} of the reference solution is {action}."
            yield use(thought, action, **ast.literal_eval(arguments))
        yield use("All steps of the reference solution are taken, so I finish.", "finish")


def sheet_of(task: Task) -> str | None:
    """The sheet that a goal of upstream names: the first "Sheet" with a number, in quotes."""
    match = re.search(r'"(Sheet\d{1,2})"', task.goal)
    return match[1] if match else None


@cache
def generated() -> TaskSet:
    """The generated tasks, 200 for training and 20 for tests."""
    return generate("sheet", TEMPLATES)


def _workbook(task: Task) -> Workbook:
    workbook: Workbook = task.setting["workbook"]
    return workbook


def _read(data: str | Path, workbook: str | Path | None) -> TaskSet:
    """Upstream's tasks; sheets called "Answer" with a number are what a task must lead to, and are left out."""
    if workbook is None:
        present = [Path(data).parent / name for name in WORKBOOKS if (Path(data).parent / name).is_file()]
        if not present:
            raise DataError(f"{Path(data).parent}: holds no {WORKBOOKS[0]}; give the start sheets as workbook=PATH")
        workbook = present[0]
    book = read_xlsx(workbook, lambda name: not re.fullmatch(r"Answer\d*", name))
    tasks = read_tasks(data, "sheet")
    return TaskSet((), tuple(replace(task, setting={"workbook": book}, final=_table(task)) for task in tasks.test))


def _table(task: Task) -> Table:
    try:
        text = task.final if isinstance(task.final, str) else json.dumps(task.final)
        return TypeAdapter(list[list[str]]).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{task.origin}: field additional_info.answer.{where}: {first['msg']}") from None
