"""Sheet's workbook: what cells show, formulas, edits, files, and the queries that search it."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.errors import DataError
from envs.sheet.cells import Box, Cell, Formula, Value, as_entered, show
from envs.sheet.patterns import _Automaton, _parser, matcher
from envs.sheet.workbook import Workbook, read_xlsx, write_xlsx
from envs.sheet.worksheet import Axis, Sheet
from envs.tools.backend import Refused
from tests.reference import reference


def _sheet(*rows: list[Any], **options: Any) -> Sheet:
    """A sheet of contents; texts that begin with = are formulas."""
    made = [[Cell(as_entered(x)[0] if isinstance(x, str) and x[:1] == "=" else x) for x in row] for row in rows]
    return Sheet("T", tuple(map(tuple, made)), **options)


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
        ("=SUM(" + ",".join(["A1"] * 500) + ")", "1000"),
    ],
)  # fmt: skip
def test_formulas(text: str, shown: str) -> None:
    assert _sheet([2.0, 5.0], [None, 8.0], ["text", None]).calculate(text) == shown


def test_formulas_settle_in_any_order_and_circles_end() -> None:
    chain = _sheet(*[[f"=A{n + 1}+1"] for n in range(1, 400)], [1.0])
    assert chain.shown[0] == ["400"]
    circle = _sheet(["=B1", "=C1", "=A1", "=A1+1", 3.0])
    assert circle.shown == [["#REF!", "#REF!", "#REF!", "#REF!", "3"]]


def test_texts_do_not_grow_without_end() -> None:
    doubled = "=" + "&".join(["{0}1"] * 100)
    cells = ["x" * 900, *(doubled.format(letter) for letter in "ABCDEFG")]
    shown = _sheet(cells).shown[0]
    assert shown[1:3] == ["#VALUE!", "#VALUE!"]
    assert sum(map(len, shown)) < 100_000


_formula_texts = st.lists(
    st.sampled_from(["A1", "B2", "$C$3", "A1:B3", "SUM(", "MAX(", "MINUS(", ")", "(", "+", "-", "*", "/", "^", "&", "%",
                     "<=", ",", "2", "0.5", '"x"', " ", "TRUE", "FOO", "#REF!", "!", "'", "1e9", ":"]),
    max_size=12,
).map("".join)  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True)
@given(texts=st.lists(_formula_texts, min_size=1, max_size=6), edits=st.lists(st.integers(0, 9), max_size=5))
def test_any_formula_has_a_value_through_any_edit(texts: list[str], edits: list[int]) -> None:
    start = Sheet("T", tuple((Cell(float(n)), Cell(Formula("=" + text)), Cell("t")) for n, text in enumerate(texts)))
    before = start.shown
    copied = [list(row) for row in before]
    sheet = start
    for edit in edits:
        axis: Axis = "row" if edit % 2 else "col"
        if edit < 4:
            sheet = sheet.insert(axis, 1 + edit // 2, [[1.0]], inherit=False)
        elif edit < 8 and len(sheet.rows) > 1 and len(sheet.rows[0]) > 1:
            sheet = sheet.delete(axis, [1 + (edit - 4) // 2])
        else:
            sheet = sheet.sort(1, descending=edit == 9)
        assert all(isinstance(text, str) for row in sheet.shown for text in row)
    assert start.shown == copied, "a sheet never changes"


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
    with pytest.raises(Refused, match="10000 cells"):
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


@reference("tools/sheets.xlsx")
def test_upstreams_right_tables_are_shown_as_google_showed_them(path: str) -> None:
    book = read_xlsx(path, lambda name: name.startswith("Answer"))
    for line in Path(path).with_name("sheet.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert book.sheet(f"Answer{row['id'] + 1}").shown == json.loads(row["additional_info"]["answer"])
