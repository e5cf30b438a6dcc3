"""Which rows are read, and what stands beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas_ray.errors import SelectionError
from atlas_ray.selection.chunks import plan, read, read_beside
from atlas_ray.store import SELECTION_GROUP_ROWS, Store
from tests.selection.data import made, trajectory


def test_chunks_find_their_trajectories_and_selections_in_files_of_many_row_groups(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    rows = [trajectory(number, 1 + number % 9) for number in range(SELECTION_GROUP_ROWS + 70)]
    store.write_trajectories(rows)
    chosen = [made("random").choose(row, {}) for row in rows]
    store.write_selections("random", chosen)
    wanted = {row.trajectory_id for row in rows[10::3]}
    work = plan(store, wanted, 7)
    found = [each for chunk in work.chunks for each in read(store, chunk)]
    assert found == rows[10::3]
    assert work.n_trajectories == len(found)
    assert read_beside(store, "random", found) == chosen[10::3]
    assert read_beside(store, "random", found[:3]) == chosen[10:19:3]
    store.write_selections("random", chosen[:-1])  # the file was replaced: what was known of the first is not used
    with pytest.raises(SelectionError, match="no row for trajectory 't0581'"):
        read_beside(store, "random", rows[-3:])
