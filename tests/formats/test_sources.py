"""Which files a path, a folder or a glob names."""

import os

import pytest

from atlas_ray.errors import DataError
from atlas_ray.formats.sources import files, fingerprint, stem


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("[]")
    return folder


def names(folder, source):
    return [os.path.relpath(path, folder) for path in files(str(source))]


def test_a_folder_is_its_data_files(tmp_path):
    make(tmp_path, "b.jsonl", "a.json", "sub/c.jsonl.gz", "sub/d.parquet", "README.md", ".cache/e.json", ".f.json")
    expected = ["a.json", "b.jsonl", "sub/c.jsonl.gz", "sub/d.parquet"]
    assert names(tmp_path, tmp_path) == expected
    assert names(tmp_path, f"{tmp_path}/*") == ["README.md", *expected]  # the glob names the file, and meets a folder


def test_a_folder_without_data_is_one_line(tmp_path):
    make(tmp_path, "README.md")
    with pytest.raises(DataError, match="a folder without data files; give a path, a folder or a glob"):
        files(str(tmp_path))
    with pytest.raises(DataError, match="no such file"):
        files(str(tmp_path / "none*.json"))


def test_brackets_and_the_home_folder(tmp_path, monkeypatch):
    make(tmp_path, "[v2]/x[1].jsonl", "[v2]/y.jsonl", "v/x1.jsonl")
    assert names(tmp_path, tmp_path / "[v2]/x[1].jsonl") == ["[v2]/x[1].jsonl"]
    assert names(tmp_path, tmp_path / "[v2]/*.jsonl") == ["[v2]/x[1].jsonl", "[v2]/y.jsonl"]
    assert names(tmp_path, tmp_path / "[v2]") == ["[v2]/x[1].jsonl", "[v2]/y.jsonl"]
    assert names(tmp_path, tmp_path / "*/x[1].jsonl") == ["v/x1.jsonl"]  # a pattern where no such file is
    assert names(tmp_path, tmp_path / "*/y*[l]") == ["[v2]/y.jsonl"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files("~/v/x1.jsonl") == [str(tmp_path / "v/x1.jsonl")]


def test_stem_leaves_out_how_a_file_is_written():
    assert [stem(f"/d/maze{suffix}") for suffix in (".json", ".jsonl.gz", ".parquet", "")] == ["maze"] * 4


def test_a_fingerprint_changes_with_the_content(tmp_path):
    make(tmp_path, "a.json")
    before = fingerprint(str(tmp_path))
    (tmp_path / "a.json").write_text("[ ]")
    assert fingerprint(str(tmp_path)) != before
