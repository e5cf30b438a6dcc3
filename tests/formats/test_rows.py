"""Rows of files, however they are written; a bad one costs the others nothing."""

import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlas_ray.errors import DataError
from atlas_ray.formats import rows as module
from atlas_ray.formats.rows import SKIPPED, Problem, rows

ROWS = [{"id": str(n), "messages": [{"role": "user", "content": f"é {n}"}]} for n in range(5)]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
BOM = "\ufeff"


def found(path):
    return [value for _, value in rows(str(path))]


def good(path):
    return [value for value in found(path) if not isinstance(value, Problem)]


FORMS = {
    "lines": LINES, "lines, blank between": f"\n{LINES}\n\n\n", "crlf": LINES.replace("\n", "\r\n"),
    "list": json.dumps(ROWS), "indented list": json.dumps(ROWS, indent=2),
    "list a row a line": f"[\n{LINES}\n]".replace("}\n{", "},\n{"),
    "indented objects": "\n".join(json.dumps(row, indent=2) for row in ROWS),
    "objects indented by nothing": "\n".join(json.dumps(row, indent=0) for row in ROWS),
    "wrapped": json.dumps({"train": ROWS}),
    "wrapped in two": json.dumps({"train": ROWS[:3], "test": ROWS[3:]}, indent=1),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bom", ["", BOM])
@pytest.mark.parametrize("piece", [1 << 20, 7])
def test_every_form_has_the_same_rows(tmp_path, monkeypatch, form, bom, piece):
    monkeypatch.setattr(module, "PIECE", piece)
    path = tmp_path / "x.json"
    path.write_text(bom + FORMS[form], encoding="utf-8", newline="")
    assert found(path) == ROWS


@pytest.mark.parametrize("write", [gzip.open, bz2.open, lzma.open])
def test_compressed_files_are_told_by_their_content(tmp_path, write):
    for text in (LINES, json.dumps(ROWS)):
        with write(tmp_path / "x.jsonl", "wt", encoding="utf-8") as file:
            file.write(text)
        assert found(tmp_path / "x.jsonl") == ROWS


def test_zstandard_and_parquet(tmp_path):
    with pa.output_stream(str(tmp_path / "x.jsonl.zst"), compression="zstd") as file:
        file.write(LINES.encode())
    assert found(tmp_path / "x.jsonl.zst") == ROWS
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "x.parquet")
    assert found(tmp_path / "x.parquet") == ROWS
    (tmp_path / "x.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(DataError, match=r"x\.parquet: no Parquet that can be read"):
        found(tmp_path / "x.parquet")


def test_a_compressed_file_that_is_cut_off_keeps_its_beginning(tmp_path):
    many = "\n".join(json.dumps({"id": n, "x": str(hash((n, "x")))}) for n in range(5000))
    data = gzip.compress(many.encode())
    (tmp_path / "x.jsonl.gz").write_bytes(data[: len(data) // 2])
    *before, last = found(tmp_path / "x.jsonl.gz")
    assert isinstance(last, Problem)
    assert "the compressed file ends too early" in last.text
    assert [row["id"] for row in before if not isinstance(row, Problem)] == list(range(len(before)))


BAD = {
    "torn": ('{"id": "x", "messages": [{"role"', "not JSON"),
    "no JSON": ('{"id": "x", "messages": oops}', "not JSON"),
    "an open string": ('{"id": "x}', "not JSON"),
    "long integer": ('{"id": "x", "n": %s}' % ("7" * 5000), "an integer of 5000 digits"),
    "deep": ("[" * 100_000 + "]" * 100_000, "too deeply nested"),
    "two on a line": ('{"id": "x"} {"id": "y"}', "more text"),
    "ends like an open object": ('{"id": "x",', "not JSON"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_line_costs_itself_alone(tmp_path, bad):
    text, says = BAD[bad]
    lines = LINES.split("\n")
    (tmp_path / "x.jsonl").write_text("\n".join([*lines[:2], text, *lines[2:]]))
    values = found(tmp_path / "x.jsonl")
    assert good(tmp_path / "x.jsonl") == ROWS
    assert isinstance(values[2], Problem)
    assert says in values[2].text


@pytest.mark.parametrize("bad", [name for name in BAD if name != "two on a line"])
@pytest.mark.parametrize("piece", [1 << 20, 11])
def test_a_bad_element_of_a_list_costs_itself_alone(tmp_path, monkeypatch, bad, piece):
    monkeypatch.setattr(module, "PIECE", piece)
    text, says = BAD[bad]
    lines = LINES.split("\n")
    (tmp_path / "x.json").write_text("[" + ",\n".join([*lines[:2], text, *lines[2:]]) + "]")
    assert good(tmp_path / "x.json") == ROWS
    (problem,) = [value for value in found(tmp_path / "x.json") if isinstance(value, Problem)]
    assert says in problem.text


def test_a_list_that_is_cut_off_keeps_its_beginning(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(ROWS)[:-30])
    assert good(tmp_path / "x.json") == ROWS[:-1]
    assert "nothing after it can be read" in found(tmp_path / "x.json")[-1].text
    (tmp_path / "x.json").write_text(json.dumps(ROWS)[:-1])
    assert good(tmp_path / "x.json") == ROWS


def test_a_list_of_turns_is_one_row(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    for text in (json.dumps(turns), json.dumps(turns, indent=2)):
        (tmp_path / "x.json").write_text(text)
        assert found(tmp_path / "x.json") == [turns]
    (tmp_path / "x.jsonl").write_text(f"{json.dumps(turns)}\n{json.dumps(turns)}")
    assert found(tmp_path / "x.jsonl") == [turns, turns]


@pytest.mark.parametrize("form", ["lines", "list", "parquet"])
def test_rows_that_are_not_wanted_are_skipped_in_their_positions(tmp_path, form):
    path = tmp_path / "x"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_text(FORMS[form])
    values = [value for _, value in rows(str(path), lambda position: position % 2 == 1)]
    assert values == [SKIPPED, ROWS[1], SKIPPED, ROWS[3], SKIPPED]


def test_what_cannot_be_read_at_all_is_one_line(tmp_path):
    (tmp_path / "utf16.json").write_bytes('[{"id": 1}]'.encode("utf-16"))
    with pytest.raises(DataError, match=r"utf16\.json: not UTF-8"):
        found(tmp_path / "utf16.json")
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(DataError, match="an archive; unpack it"):
        found(tmp_path / "x.zip")
    (tmp_path / "empty.json").write_text("")
    assert found(tmp_path / "empty.json") == []
