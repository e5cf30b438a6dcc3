"""Derived files: built once, whole or not at all, whoever else builds them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from atlas_ray.cache import cached, fetched
from atlas_ray.store import Store


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


def test_a_model_directory_by_url_is_copied_once_for_each_content(cache, tmp_path):
    store = Store(f"memory://{tmp_path.name}/run")
    for name, text in (("config.json", "{}"), ("model.safetensors", "old"), ("training_state/run.json", "{}")):
        store.write_text(text, "checkpoints", "llm", *name.split("/"))
    url = store.address("checkpoints", "llm")
    first = fetched(url)
    assert fetched(url) == first
    assert sorted(path.name for path in Path(first).iterdir()) == ["config.json", "model.safetensors"]
    store.write_text("new", "checkpoints", "llm", "model.safetensors")
    assert Path(fetched(url), "model.safetensors").read_text() == "new"
    assert Path(first, "model.safetensors").read_text() == "old"
    assert fetched(str(tmp_path)) == str(tmp_path)
