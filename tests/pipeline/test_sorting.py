"""Trajectories that come in any order are stored in the order of their ids."""

from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlas_ray.pipeline.sorting import sorted_trajectories
from atlas_ray.store import Store
from atlas_ray.trajectory import Message, Trajectory, trajectories_to_table


def trajectory(number: int) -> Trajectory:
    messages = (Message(role="user", content=f"é {number}"), Message(role="assistant", content="x" * 50, step=0))
    return Trajectory(
        trajectory_id=f"ü{number}" if number % 7 == 0 else f"a{number}", env="maze", item_id=str(number), source="s",
        messages=messages, n_steps=1, metadata={"n": number},
    )  # fmt: skip


@pytest.mark.parametrize(("count", "run_bytes"), [(0, 1), (1, 1), (1500, 1), (1500, 60_000), (1500, 1 << 30)])
def test_any_order_and_any_size_of_runs_give_the_same_bytes(tmp_path, count, run_bytes):
    expected = [trajectory(number) for number in range(count)]
    reference = Store(str(tmp_path / "reference"))
    reference.write_trajectories(expected)
    shuffled = list(expected)
    random.Random(0).shuffle(shuffled)
    store = Store(str(tmp_path / "run"))
    with sorted_trajectories(store, run_bytes=run_bytes) as add:
        for start in range(0, count, 97):
            add(trajectories_to_table(shuffled[start : start + 97]))
    part = ("trajectories", "part-0.parquet")
    assert store.fs.cat_file(store.path(*part)) == reference.fs.cat_file(reference.path(*part))
    assert [name for name in store.names() if name != "trajectories"] == []


def test_an_error_leaves_what_was_there(tmp_path):
    store = Store(str(tmp_path / "run"))
    store.write_trajectories([trajectory(1)])

    def fail() -> None:
        with sorted_trajectories(store, run_bytes=1) as add:
            add(trajectories_to_table([trajectory(2)]))
            raise ValueError

    with pytest.raises(ValueError, match="^$"):
        fail()
    assert store.read_trajectories() == [trajectory(1)]
    assert store.names() == ["trajectories"]


def test_memory_is_flat(tmp_path):
    """Ten times the trajectories take the memory of a few runs more, not ten times as much."""
    store, run_bytes = Store(str(tmp_path / "run")), 1 << 20
    rows = trajectories_to_table([trajectory(number) for number in range(256)])

    def table(start: int) -> pa.Table:
        ids = pa.array([f"{(start * 256 + number) * 7919 % 1_000_003:07}" for number in range(256)])
        return rows.set_column(0, rows.schema.field(0), ids)

    peak = 0
    before = pa.total_allocated_bytes()
    with sorted_trajectories(store, run_bytes=run_bytes) as add:
        for start in range(400):
            add(table(start))
            peak = max(peak, pa.total_allocated_bytes() - before)
    assert 400 * rows.nbytes > 15 * run_bytes
    assert peak < 3 * run_bytes
    ids = pq.read_table(store.path("trajectories", "part-0.parquet"), columns=["trajectory_id"])[0].to_pylist()
    assert len(ids) == 400 * 256
    assert ids == sorted(ids)
