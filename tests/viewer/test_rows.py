"""Rows are found as a loop over them would find them."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.errors import DataError
from atlas_ray.viewer.rows import Query, Rows

ROW = st.fixed_dictionaries(
    {
        "env": st.sampled_from(["a", "b", None]), "n": st.integers(0, 5), "marked": st.booleans(),
        "text": st.text("aBc.*İ ", max_size=8),
    }
)  # fmt: skip
SCHEMA = pa.schema([("env", pa.string()), ("n", pa.int64()), ("marked", pa.bool_()), ("text", pa.string())])


@settings(deadline=None)
@given(
    st.lists(st.tuples(ROW, st.booleans()), max_size=12),
    st.sampled_from([(), (("env", "a"),), (("env", "b"), ("marked", "")), (("n", "3"),)]),
    st.lists(st.sampled_from(["a", "AB", ".", "*", "c c"]), max_size=2),
    st.sampled_from([None, "n"]),
)
def test_a_query_finds_what_a_loop_finds(rows, equal, words, order):
    table = pa.concat_tables([pa.Table.from_pylist([row], SCHEMA) for row, _ in rows] or [SCHEMA.empty_table()])
    known = Rows(table, pa.array([live for _, live in rows], pa.bool_()))

    def fits(row):
        columns = all(row[name] if isinstance(row[name], bool) else str(row[name]) == value for name, value in equal)
        return columns and all(word.lower() in row["text"].lower() for word in words)

    wanted = [number for number, (row, live) in enumerate(rows) if live and fits(row)]
    if order:
        wanted.sort(key=lambda number: -rows[number][0][order])
    assert known.find(Query(tuple(equal), tuple(words), order)).tolist() == wanted
    assert known.total == sum(live for _, live in rows)
    assert known.values("env") == sorted({row["env"] for row, live in rows if live and row["env"]})


def test_some_columns_of_some_rows_and_what_is_unknown():
    rows = Rows(pa.table({"env": ["a", "b", "a"], "text": ["x", "y", "z"]}))
    assert rows.taken([2, 0], ["env"]) == [{"env": "a"}, {"env": "a"}]
    assert (rows.where("env", "a"), rows.where("env", "c")) == (2, None)
    for query in (Query((("envv", "a"),)), Query(order="text")):
        with pytest.raises(DataError, match="no filter or order"):
            rows.find(query)
    with pytest.raises(DataError, match="no number"):
        rows.find(Query(order="env"))
