"""Sheet as an environment: the actions, its score, isolation, fuzzing, the templates, upstream's 20 tasks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_ray.errors import ConfigError, DataError, EnvironmentError
from envs.sheet import env as sheet_module
from envs.sheet.cells import Cell
from envs.sheet.env import TEMPLATES, SheetEnv
from envs.sheet.workbook import Workbook
from envs.sheet.worksheet import Sheet, agreement
from envs.tools.grammar import format_call
from envs.tools.tasks import Task, TaskSet
from tests.envs.tools.calls import assert_answered, calls, nothing_executed
from tests.reference import reference


def _call(env: SheetEnv, tool: str, **arguments: Any) -> str:
    return env.step(format_call(tool, arguments))[0].removeprefix("Observation: ").removesuffix("\nGive me one action.")


def _sheet(*rows: list[Any]) -> Sheet:
    return Sheet("T", tuple(tuple(map(Cell, row)) for row in rows))


def _env(sheet: Sheet, monkeypatch: pytest.MonkeyPatch) -> SheetEnv:
    book = Workbook((sheet, Sheet("Other", ((Cell(5.0),),))))
    env = SheetEnv(max_rounds=1000)
    monkeypatch.setattr(env, "_given", TaskSet((Task("g", None, {"workbook": book}, final=[["x"]]),), ()))
    env.reset()
    return env


def test_what_actions_return_and_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    env = _env(_sheet(["n", "v", "w"], ["a", 1.0, 5.0], ["b", 3.0, 4.0], ["c", 2.0, 6.0]), monkeypatch)
    assert _call(env, "get_all_values") == "Please open a sheet before operating it"
    assert _call(env, "open_sheet", name="X") == "There is no sheet 'X'; there are T, Other"
    assert _call(env, "open_sheet", name="T") == "<Worksheet 'T' id:0>"
    assert _call(env, "get_A1_annotation", row="2", col=28) == (
        "Range (T!AB2) exceeds grid limits. Max rows: 1000, max columns: 26"
    )
    assert _call(env, "get_A1_annotation", row="2", col=3) == "C2"
    assert _call(env, "get_cell_value", position="Z9") == "None"
    assert _call(env, "get_range_values", start_position="B3", end_position="C9") == "[['3', '4'], ['2', '6']]"
    assert _call(env, "get_value_by_formula", start_position="B2", end_position="B4", operator="SUM") == "6"
    assert _call(env, "get_value_by_formula", position_list="['B2', 'C2']", operator="MINUS") == "-4"
    assert _call(env, "filter_cells", query="^[23]$", in_column="2") == "['B3', 'B4']"
    assert _call(env, "filter_cells", query="3", in_column=2, in_row=3).startswith("Either 'in_row' or")
    assert env.step("filter_cells with Action Input: {'query': re.compile('^[ab]$')}")[0].startswith(
        "Observation: ['A2', 'A3']"
    )
    assert _call(env, "update_note", position="A1", content="hi") == "Updated! the A1's note is hi"
    assert _call(env, "get_note", position="A1") == "hi"
    assert _call(env, "get_note", position="A2") == ""
    assert _call(env, "update_range", start_position="B2", end_position="B3", values_list="[['7'], [None]]") == (
        "[['n', 'v', 'w'], ['a', '7', '5'], ['b', '3', '4'], ['c', '2', '6']]"
    )
    assert "has 2 rows, but values_list has 3" in _call(
        env, "update_range", start_position="B2", end_position="B3", values_list=[[1], [2], [3]]
    )
    assert _call(env, "update_range", start_position="A1", end_position="C4", values_list=[[1]]).startswith("Warning")
    assert _call(env, "delete_batch_data", dimension="row", index_list="[2, 3, 4]").startswith("Warning")
    assert "'=B2*2'" not in _call(env, "update_cell", position="C2", value="=B2*2")
    assert _call(env, "get_cell_value", position="C2") == "14"
    assert "'25%'" in _call(env, "update_cell", position="C2", value="25%")
    assert "'=1+1'" in _call(env, "update_range", start_position="C3", end_position="C3", values_list=[["=1+1"]])
    assert "dimension: Input should be 'rows' or 'columns'" in _call(env, "freeze_data", dimension="row", num=1)
    assert "A cell holds a text" in _call(env, "update_cell", position="C2", value=[1])
    assert _call(env, "del_sheet", name="T") == "You have deleted sheet T successfully"
    assert _call(env, "get_all_values") == "Please open a sheet before operating it"
    assert "all the sheets" in _call(env, "del_sheet", name="Other")


def test_the_score_is_the_best_agreement_and_success_is_the_whole_table() -> None:
    assert agreement([["a", "b"], ["c", "d"]], [["a", "x", "y"]]) == 0.5
    assert agreement([[]], [["a"]]) == 0
    env = SheetEnv()
    env.reset(options={"task": 3})
    name = env.task.parameters["sheet"]
    *_, info = env.step(format_call("open_sheet", {"name": name}))
    start = info["score"]
    assert 0 < start < 1
    table = env._store.shown()
    *_, info = env.step(
        format_call("update_range", {"start_position": "A1", "end_position": "B2", "values_list": [["x"]]})
    )
    assert info["score"] == start, "the best so far"
    *_, ended, truncated, info = env.step(format_call("finish", {}))
    assert (ended, truncated, info["success"]) == (True, False, False)
    assert table != env._store.shown()


def test_64_sessions_do_not_see_each_other() -> None:
    sessions = [SheetEnv() for _ in range(64)]
    for env in sessions:
        env.reset(options={"task": 7})
        _call(env, "open_sheet", name=env.task.parameters["sheet"])
    for n, env in enumerate(sessions):
        assert f"'mark {n}'" in _call(env, "update_cell", position="B2", value=f"mark {n}")
    assert [env._store.shown()[1][1] for env in sessions] == [f"mark {n}" for n in range(64)]
    fresh = SheetEnv()
    fresh.reset(options={"task": 7})
    _call(fresh, "open_sheet", name=fresh.task.parameters["sheet"])
    assert "mark" not in str(fresh._store.shown())


def test_any_call_is_answered() -> None:
    env = SheetEnv(max_rounds=10**6)
    env.reset(options={"task": 3})
    name = env.task.parameters["sheet"]
    _call(env, "open_sheet", name=name)
    start = env.snapshot()
    plausible = st.sampled_from(
        [name, "A1", "B2", "C3", "Z1000", "AA1", 1, 2, "3", 0, -1, "rows", "row", "col", "asc", "SUM", "MINUS", "^a",
         [[1]], [["=SUM(A1:B2)"]], "[['a', 2]]", [2], "[2, 3]", ["B2", "C2"], "=B2/0", "=SUM(A1:Z999)"]
    )  # fmt: skip

    @settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(action=calls(env, plausible))
    def run(action: str) -> None:
        if env.rounds % 25 == 0:
            env.restore(start)
        before = len(env.log)
        changing = tuple(name for name in env.toolbox.names if (tool := env.toolbox.get(name)) and tool.changes)
        assert_answered(env, action, changing)
        if len(env.log) == before:
            assert env.snapshot().inner[:2] == (env.task, env.log)

    run()
    with pytest.raises(AssertionError), nothing_executed():
        eval("1 + 1")
    long = "y" * 1_000_000
    for action in (
        long,
        format_call("update_cell", {"position": "A1", "value": long}),
        format_call("open_sheet", {"name": long}),
    ):
        assert_answered(env, action, ())


def test_experts_and_templates() -> None:
    tasks = sheet_module.generated()
    assert len(TEMPLATES) == 15
    assert {task.template for task in tasks.train} == {template.name for template in TEMPLATES}
    assert all(task.final != task.setting["workbook"].sheet(task.parameters["sheet"]).shown for task in tasks.train)


# -- upstream's tasks -------------------------------------------------------------------------------------------------


@reference("tools/sheet.jsonl")
def test_all_20_tasks_of_upstream_are_solved_by_their_reference(path: str) -> None:
    env = SheetEnv(data=path, max_rounds=40)
    assert (env.card.n_train, env.card.n_test) == (0, 20)
    whole = []
    for task in range(20):
        observation, _ = env.reset(options={"task": task, "split": "test"})
        assert "Answer" not in _call(env, "open_sheet", name="nosuch"), "right tables must not be in reach"
        expert, info = env.expert(), {}
        while env.running:
            _, action = expert.next_action(observation)
            observation, *_, info = env.step(action)
            assert "ERROR" not in observation
        assert info["score"] == 1.0, task
        whole.append(info["success"])
    # The reference of item 6 leaves out the title of the new column, and writes its numbers with no decimals.
    assert [task for task in range(20) if not whole[task]] == [6]
    env.reset(options={"task": 6, "split": "test"})
    _call(env, "open_sheet", name="Sheet7")
    _call(env, "sort_sheet_by_col", col_num=7, order="des")
    _call(env, "insert_cols", values_list=[["Biology_Rank", *range(1, 26)]], col_idx=8)
    assert env.step(format_call("finish", {}))[4]["success"]


@reference("tools/sheets.xlsx")
def test_files_that_are_wrong_are_named(path: str, tmp_path: Path) -> None:
    row = {"goal": 'In "Sheet1"', "subgoals": "none", "additional_info": {"tool": "sheet", "answer": "[[1]]"}}
    (tmp_path / "sheet.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match="holds no sheets.xlsx"):
        SheetEnv(data=tmp_path / "sheet.jsonl")
    shutil.copy(path, tmp_path / "sheets.xlsx")
    with pytest.raises(DataError, match=r"line 1: field additional_info.answer.0.0: Input should be a valid string"):
        SheetEnv(data=tmp_path / "sheet.jsonl")
    row["additional_info"]["answer"] = '[["a"]]'  # type: ignore[index]
    (tmp_path / "sheet.jsonl").write_text(json.dumps(row))
    env = SheetEnv(data=tmp_path / "sheet.jsonl")
    env.reset(options={"task": 0, "split": "test"})
    with pytest.raises(EnvironmentError, match="line 1 has no reference solution"):
        env.expert().next_action("")
    with pytest.raises(ConfigError, match="give both"):
        SheetEnv(workbook=path)
