"""The run directory: atomic files, journals with torn lines, manifests, identity."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.errors import StoreError
from atlas_ray.hashing import content_hash
from atlas_ray.selection.chunks import Chunk, plan, read
from atlas_ray.store import Store
from atlas_ray.trajectory import TRAJECTORY_SCHEMA, Message, Selection, Trajectory, trajectories_to_table
from tests.conftest import STORAGE, run_dir_on

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


@pytest.fixture(params=STORAGE)
def store(request, tmp_path):
    return Store(run_dir_on(request.param, request, tmp_path))


def trajectory(number):
    turns = (Message(role="user", content="o"), Message(role="assistant", content="Action: é", step=0))
    return Trajectory(
        trajectory_id=f"t{number}", env="maze", item_id=f"maze_{number}", source="s", messages=turns, n_steps=1,
        metadata={"a": [1, {"b": None}]},
    )  # fmt: skip


def test_rows_come_back_as_they_were_sorted_by_id(store):
    rows = [trajectory(number) for number in (2, 0, 1)]
    store.write_trajectories(rows)
    assert store.read_trajectories() == sorted(rows, key=lambda row: row.trajectory_id)
    chosen = Selection(
        trajectory_id="t0", method="llm", ratio=0.3, steps=(0,), scores=(1.5,), categories=("plan creation",),
        provenance={"model": "m"},
    )  # fmt: skip
    failed = Selection(trajectory_id="t1", method="llm", ratio=0.3, error="out_of_range: step 9")
    store.write_selections("llm", [failed, chosen])
    assert store.read_selections("llm") == [chosen, failed]


def test_a_selection_is_of_the_runs_trajectories_or_of_its_own(store):
    store.write_trajectories([trajectory(0)])
    store.write_selections("picks", [Selection(trajectory_id="t0", method="random", ratio=0.3)])
    rows = [Selection(trajectory_id=f"t{number}", method="verified", ratio=0.3) for number in (4, 5)]
    store.write_selections("found", rows)
    with store.table_writer(TRAJECTORY_SCHEMA, "selections", "found", "trajectories", "part-0.parquet") as write:
        write(trajectories_to_table([trajectory(4), trajectory(5)]))
    assert store.trajectory_folder("picks") == store.trajectory_folder() == "trajectories"
    assert store.trajectory_folder("found") == "selections/found/trajectories"
    assert store.read_trajectories("picks") == store.read_trajectories() == [trajectory(0)]
    assert store.read_trajectories("found") == [trajectory(4), trajectory(5)]
    assert store.every_trajectory() == [trajectory(0), trajectory(4), trajectory(5)]
    assert list(store.iter_selections("found")) == store.read_selections("found") == rows
    chunks = plan(store, ["t0"], 1, "found").chunks
    assert [each for chunk in chunks for each in read(store, Chunk.from_json(chunk.to_json()))] == [
        trajectory(4), trajectory(5)
    ]  # fmt: skip
    assert plan(store, ["t0"], 1, "picks").n_trajectories == plan(store, ["t0"], 1).n_trajectories == 1
    store.remove("selections", "found", "trajectories")
    assert store.trajectory_folder("found") == "trajectories"
    store.remove("selections", "found", "trajectories")  # nothing is there, nothing happens


def test_the_same_rows_are_the_same_bytes(store):
    rows = [trajectory(number) for number in range(3)]
    first = store.fs.cat_file(store.write_trajectories(rows))
    assert store.fs.cat_file(store.write_trajectories(rows[::-1])) == first


def test_a_torn_last_line_is_owed_again_and_the_next_row_is_whole(store):
    store.append([{"key": "a"}, {"key": "b"}], "evaluation", "m", "maze.jsonl")
    target = store.path("evaluation", "m", "maze.jsonl")
    data = store.fs.cat_file(target)
    with store.fs.open(target, "wb") as file:
        file.write(data[:-4])  # killed in the middle of a line
    assert [row["key"] for row in store.journal("evaluation", "m", "maze.jsonl")] == ["a"]
    store.append([{"key": "c"}], "evaluation", "m", "maze.jsonl")
    assert [row["key"] for row in store.journal("evaluation", "m", "maze.jsonl")] == ["a", "c"]


def test_a_manifest_tells_what_is_current(store):
    assert not store.is_current("train", "llm", "k1")
    store.finish("train", "llm", "k1", seconds=1.5)
    store.finish("train", "all", "k9")
    assert store.is_current("train", "llm", "k1")
    assert not store.is_current("train", "llm", "k2")
    assert store.facts("train")["llm"]["seconds"] == 1.5


def test_another_experiment_needs_another_directory(store):
    store.claim({"seed": 0, "model": "a", "environments": {}, "train": {"epochs": 1}})
    store.claim({"seed": 0, "model": "a", "environments": {}, "train": {"epochs": 2}})
    with pytest.raises(StoreError, match="another experiment.*model was 'a', is 'b'"):
        store.claim({"seed": 0, "model": "b", "environments": {}, "train": {"epochs": 2}})


def test_a_failed_write_leaves_the_old_file(tmp_path, store):
    if not store.is_local:
        pytest.skip("needs file rights")
    store.write_text("old", "config.yaml")
    os.makedirs(store.path("report.md"))  # a folder where a file should go
    with pytest.raises(StoreError, match="cannot write"):
        store.write_text("new", "report.md")
    assert store.names() == ["config.yaml", "report.md"]
    assert store.read_text("config.yaml") == "old"


def test_a_full_disk_is_one_line_and_nothing_half_written():
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    store = Store("/dev")
    with pytest.raises(StoreError, match="No space left on device"):
        store.append([{"a": 1}], "full")


def test_foreign_parquet_and_missing_tables_are_named(store):
    with pytest.raises(StoreError, match="run the stage that writes it first"):
        store.read_trajectories()
    store.write_trajectories([trajectory(0)])
    with store.fs.open(store.path("trajectories", "part-0.parquet"), "rb") as file:
        data = file.read()
    store.write_bytes(data, "selections", "llm", "part-0.parquet")
    with pytest.raises(StoreError, match="columns"):
        store.read_selections("llm")


def test_an_unknown_protocol_is_one_line():
    with pytest.raises(StoreError, match="run_dir"):
        Store("nosuch://x/y")


@settings(max_examples=30, deadline=None)
@given(JSON)
def test_equal_content_has_equal_hash(value):
    if isinstance(value, dict):
        assert content_hash(dict(reversed(value.items()))) == content_hash(value)
    assert content_hash([value]) != content_hash([value, value])
