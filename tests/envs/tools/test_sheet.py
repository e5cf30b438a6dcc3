"""Sheet: the workbook's rules, formulas, queries, the actions, upstream's 20 tasks, isolation and fuzzing."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_ray.errors import ConfigError, DataError, EnvironmentError
from envs.sheet import env as sheet_module
from envs.sheet.cells import Box, Cell, Formula, Value, as_entered, show
from envs.sheet.env import TEMPLATES, SheetEnv
from envs.sheet.patterns import _Automaton, _parser, matcher
from envs.sheet.workbook import Workbook, read_xlsx, write_xlsx
from envs.sheet.worksheet import Sheet, agreement
from envs.tools.backend import Refused
from envs.tools.grammar import format_call
from envs.tools.tasks import Task
from tests.envs.tools.calls import assert_answered, calls
from tests.reference import reference


def _call(env: SheetEnv, tool: str, **arguments: Any) -> str:
    return env.step(format_call(tool, arguments))[0].removeprefix("Observation: ").removesuffix("\nGive me one action.")


def _sheet(*rows: list[Any], **options: Any) -> Sheet:
    """A sheet of contents; texts that begin with = are formulas."""
    made = [[Cell(as_entered(x)[0] if isinstance(x, str) and x[:1] == "=" else x) for x in row] for row in rows]
    return Sheet("T", tuple(map(tuple, made)), **options)


def _env(sheet: Sheet, monkeypatch: pytest.MonkeyPatch) -> SheetEnv:
    book = Workbook((sheet, _sheet([1.0]).__class__("Other", ((Cell(5.0),),))))
    env = SheetEnv(max_rounds=1000)
    monkeypatch.setattr(env, "_tasks", env._tasks._replace(train=(Task("g", None, {"workbook": book}, final=[["x"]]),)))
    env.reset()
    return env


# -- the workbook -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "number_format", "shown"),
    [
        (68.0, "#,##0.00", "68.00"), (1234.5, "#,##0.00", "1,234.50"), (-87.0, "0.00", "-87.00"),
        (13.0, "General", "13"),
        (2.8 * 66, "General", "184.8"), (1 / 3, "General", "0.3333333333"), (0.285, "0.00", "0.29"),
        (0.2, "0.00%", "20.00%"),
        (95.0, "0.0", "95.0"), (7.0, "@", "7"), (1e20, "0", "100000000000000000000"), (1e20, "General", "1E+20"),
        (-0.001, "0.00", "0.00"), (0.00001234, "General", "0.00001234"), (True, "0.00", "TRUE"), (None, "0.00", ""),
        ("x", "0.00", "x"), (12.5, "$#,##0.00", "$12.50"), (12.5, "[red]0.0", "12.5"),
    ],
)  # fmt: skip
def test_values_are_shown_as_google_sheets_shows_them(value: Value, number_format: str, shown: str) -> None:
    assert show(value, number_format) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=SUM(A1:B2)", "15"), ("=AVERAGE(A1:B3)", "5"), ("=COUNT(A1:C3)", "3"), ("=MAX(A1,B2)", "8"),
        ("=MIN(A1:A2)", "2"),
        ("=PRODUCT(A1,B2,2)", "32"), ("=MINUS(B2,A1)", "6"), ("=MINUS(A1:B2)", "#N/A"), ("=A1+B2*3^2/4", "20"),
        ("=-A1^2", "4"), ("=50%*B2", "4"), ('=A3&"-"&"a""b"', 'text-a"b'), ("=A1<B2", "TRUE"), ("=(A1+B2)*2", "20"),
        ("=C1+1", "1"), ("=A3+1", "#VALUE!"), ("=A1/C1", "#DIV/0!"), ("=AVERAGE(C1:C3)", "#DIV/0!"),
        ("=SUM(C1:C3)", "0"),
        ("=FOO(A1)", "#NAME?"), ('=IMPORTDATA("http://x")', "#NAME?"), ("=Other!A1", "#ERROR!"), ("=SUM(", "#ERROR!"),
        ("=1 2", "#ERROR!"), ("=9^999", "#NUM!"), ("=SUM(A1:ZZZ9999999)", "15"), ("=(-8)^0.5", "#NUM!"),
        ("=0^-1", "#DIV/0!"),
        ("=" + "(" * 100 + "1" + ")" * 100, "1"), ("=" + "(" * 400 + "1" + ")" * 400, "#ERROR!"),
        ("=" + "+".join(["1"] * 140), "140"),
    ],
)  # fmt: skip
def test_formulas(text: str, shown: str) -> None:
    assert _sheet([2.0, 5.0], [None, 8.0], ["text", None]).calculate(text) == shown


def test_formulas_settle_in_any_order_and_circles_end() -> None:
    chain = _sheet(*[[f"=A{n + 1}+1"] for n in range(1, 400)], [1.0])
    assert chain.shown[0] == ["400"]
    circle = _sheet(["=B1", "=C1", "=A1", "=A1+1", 3.0])
    assert circle.shown == [["#REF!", "#REF!", "#REF!", "#REF!", "3"]]


def test_sums_take_over_the_number_format_of_their_cells_and_products_do_not() -> None:
    row = [Cell(2.5, "0.00"), Cell(4.0, "0.00"), Cell(Formula("=SUM(A1:B1)")), Cell(Formula("=PRODUCT(A1,B1)"))]
    assert Sheet("T", (tuple(row),)).shown == [["2.50", "4.00", "6.50", "10"]]


def test_formulas_follow_rows_and_columns() -> None:
    sheet = _sheet(["n", 1.0, "=SUM(B1:B3)"], ["m", 2.0, "=B2*$B$3"], ["o", 3.0, '=B3&"B1"'])
    moved = sheet.insert("row", 2, [["x", 10.0]], inherit=False)
    assert [row[2] for row in moved.shown] == ["16", "", "6", "3B1"]
    moved = sheet.delete("row", [3])
    assert [row[2] for row in moved.shown] == ["3", "#REF!"]
    moved = sheet.delete("col", [1])
    assert [row[1] for row in moved.shown] == ["6", "6", "3B1"]
    assert _sheet([1.0, "=A1"]).delete("col", [1]).shown == [["#REF!"]]
    turned = sheet.sort(2, descending=True)
    assert turned.shown[1] == ["m", "2", "2"], "row 2 stays, and $B$3 is another number now"


def test_sorting_keeps_equals_and_puts_empty_cells_last() -> None:
    rows = [[3.0, "a"], [None, "b"], ["x", "c"], [3.0, "d"], [1.0, "e"], [True, "f"], ["=1/0", "g"]]
    sheet = _sheet(["title", "t"], *rows, frozen_rows=1)
    assert [row[1] for row in sheet.sort(1, descending=False).shown] == ["t", "e", "a", "d", "c", "f", "g", "b"]
    assert [row[1] for row in sheet.sort(1, descending=True).shown] == ["t", "g", "f", "c", "a", "d", "e", "b"]
    with pytest.raises(Refused, match="merged"):
        sheet.merge(Box(2, 1, 2, 2)).sort(1, descending=True)


def test_merged_cells_keep_the_upper_left_value_and_shrink() -> None:
    sheet = _sheet(["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]).merge(Box(1, 1, 2, 2))
    assert sheet.shown == [["a", "a", "c"], ["a", "a", "f"], ["g", "h", "i"]]
    assert sheet.plain == [["a", "", "c"], ["", "", "f"], ["g", "h", "i"]]
    assert sheet.delete("row", [2]).merges == (Box(1, 1, 1, 2),)
    assert sheet.delete("row", [2]).delete("col", [2]).merges == ()
    assert sheet.insert("row", 2, [["x"]], inherit=False).merges == (Box(1, 1, 3, 2),)
    with pytest.raises(Refused, match="select all cells"):
        sheet.merge(Box(2, 2, 3, 3))


def test_new_rows_take_number_formats_from_their_neighbours_and_writing_stays_in_the_grid() -> None:
    sheet = Sheet("T", ((Cell("n"), Cell("v")), (Cell("a"), Cell(1.0, "0.00"))), n_rows=4, n_cols=3)
    assert sheet.insert("row", 3, [["b", 2.0]], inherit=True).shown[2] == ["b", "2.00"]
    assert sheet.insert("row", 2, [["b", 2.0]], inherit=True).shown[1] == ["b", "2"]
    assert sheet.insert("row", 2, [["b", 2.0]], inherit=False).shown[1] == ["b", "2.00"]
    assert sheet.insert("col", 3, [["w", 5.0]], inherit=True).shown[1] == ["a", "1.00", "5.00"]
    for row, col in ((5, 1), (1, 4)):
        with pytest.raises(Refused, match=r"exceeds grid limits. Max rows: 4, max columns: 3"):
            sheet.put(row, col, content=1.0)
    with pytest.raises(Refused, match="numbered 1 to 4"):
        sheet.delete("row", [5])
    with pytest.raises(Refused, match="20000 cells"):
        Sheet("T", n_rows=10**6, n_cols=26).put(10**5, 26, content=1.0)


def test_files_are_written_and_read_back(tmp_path: Path) -> None:
    rows = (
        (Cell("n"), Cell("=no formula"), Cell(Formula("=SUM(B2:C2)"))),
        (Cell("a", note="see\nhere"), Cell(1.5, "0.00"), Cell(True)),
        (Cell("m"), Cell(), Cell(2.0, "0.0")),
    )
    sheet = Sheet("S", rows, frozen_rows=1, frozen_cols=1, merges=(Box(3, 1, 3, 2),))
    book = Workbook((sheet, Sheet("Empty")))
    write_xlsx(book, tmp_path / "b.xlsx")
    assert read_xlsx(tmp_path / "b.xlsx") == book
    (tmp_path / "c.xlsx").write_text("no")
    with pytest.raises(DataError, match="c.xlsx: not a readable"):
        read_xlsx(tmp_path / "c.xlsx")


# -- queries ----------------------------------------------------------------------------------------------------------


def test_queries_find_what_python_finds() -> None:
    rng = random.Random(0)
    parts = [
        "a",
        "b",
        "A",
        "1",
        ".",
        "*",
        "+",
        "?",
        "|",
        "(",
        ")",
        "[ab]",
        "[^a]",
        "^",
        "$",
        "\\d",
        "\\w",
        "\\b",
        "{2}",
        "{1,3}",
    ]
    compared = 0
    for _ in range(2000):
        pattern = "".join(rng.choice(parts) for _ in range(rng.randint(1, 9)))
        texts = ["".join(rng.choice("abA1 \n") for _ in range(rng.randint(0, 7))) for _ in range(5)]
        try:
            wanted = [re.search(pattern, text) is not None for text in texts]
            found = _Automaton(_parser.parse(pattern, 0)).search(texts)
        except (re.error, Refused):
            continue
        assert found == wanted == matcher(pattern)(texts), (pattern, texts)
        compared += 1
    assert compared > 500


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("-1", [False, True, False]), ("re.compile('8[1-9]|[9]\\\\d')", [True, False, False]),
        ("re.compile('STORE', re.IGNORECASE)", [False, False, True]), ("^Store [AB]$", [False, False, True]),
    ],
)  # fmt: skip
def test_queries_are_expressions_or_texts(query: str, found: list[bool]) -> None:
    assert matcher(query)(["91", "-1", "Store A"]) == found


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("(", "is no regular expression"), ("re.compile(open('x').read())", "is not of the form"),
        ("re.compile('a', flags=2)", "is not of the form"), ("(?:(?:a{1000}){1000}){1000}", "too large"),
        ("a" * 600, "500 at most"), (r"(a)\1", "groupref, which is not supported"), ("(?=a)a", "not supported"),
        (".*a" * 150 + "b", "takes too long"),
    ],
)  # fmt: skip
def test_queries_that_cannot_be_run_are_refused(query: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        matcher(query)(["a" * 1000 + "!"] * 20)


def test_no_query_takes_exponential_time() -> None:
    for query in ("(a+)+$", "(a|aa)+$", "(.*)*x", "(?:a?){50}a{50}b", "^(\\w+\\s?)*$", ".*.*.*.*.*="):
        assert matcher(query)(["a" * 200 + "!"]) == [False], query


# -- actions ----------------------------------------------------------------------------------------------------------


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
