"""Derived files: built once, whole or not at all, whoever else builds them."""

from __future__ import annotations

import threading

import pytest

from atlas_ray.cache import cached


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATLAS_CACHE", str(tmp_path))
    return tmp_path


def test_two_that_build_at_once_get_one_whole_folder(cache):
    both = threading.Barrier(2)

    def build(folder):
        both.wait(timeout=10)
        (folder / "part").write_text("a")
        (folder / "last").write_text("b")

    found = []
    threads = [threading.Thread(target=lambda: found.append(cached("kind/1", "last", build))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert found == [cache / "kind" / "1"] * 2
    assert sorted(path.name for path in (cache / "kind").iterdir()) == ["1"]
    assert cached("kind/1", "last", lambda folder: pytest.fail("built again")) == cache / "kind" / "1"


def test_what_fails_leaves_nothing_and_can_be_tried_again(cache):
    def fail(folder):
        (folder / "part").write_text("a")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cached("thing", "last", fail)
    assert list(cache.iterdir()) == []
    assert (cached("thing", "last", lambda folder: (folder / "last").write_text("b")) / "last").read_text() == "b"
