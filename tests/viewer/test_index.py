"""What is held of a run is what its files hold, while they grow too."""

from __future__ import annotations

import itertools
import os

import pytest

from atlas_ray.errors import StoreError
from atlas_ray.evaluation.ledger import counted, journaled
from atlas_ray.store import Store
from atlas_ray.trajectory import TRAJECTORY_SCHEMA, Selection, trajectories_to_table
from atlas_ray.viewer.index import EpisodeIndex, SelectionIndex, TrajectoryIndex, keys_in, method_column
from atlas_ray.viewer.rows import Query
from tests.report.synthetic import make_episodes, make_trajectories, write_run


@pytest.fixture
def store(tmp_path) -> Store:
    made = Store(str(tmp_path / "run"))
    write_run(made)
    return made


def index_of(store: Store) -> TrajectoryIndex:
    return TrajectoryIndex(store, {name: SelectionIndex(store, name) for name in store.names("selections")})


def test_whole_rows_are_read_from_the_right_place_of_the_right_file(store, monkeypatch):
    monkeypatch.setattr("atlas_ray.store.GROUP_ROWS", 3)
    known = store.read_trajectories()
    cuts = (0, 7, 14, 20)  # three files, of several groups of rows each
    for part, (begin, end) in enumerate(itertools.pairwise(cuts)):
        with store.table_writer(TRAJECTORY_SCHEMA, "trajectories", f"part-{part}.parquet") as write:
            write(trajectories_to_table(known[begin:end]))
    own = make_trajectories()[0].model_copy(update={"trajectory_id": "own", "source": "policy"})
    with store.table_writer(TRAJECTORY_SCHEMA, "selections", "found", "trajectories", "part-0.parquet") as write:
        write(trajectories_to_table([own]))
    store.write_selections("found", [Selection(trajectory_id="own", method="verified", ratio=0.3, steps=(1,))])
    index = index_of(store)
    every = store.every_trajectory()
    assert index.rows.total == len(every) == 21
    assert all(index.whole(each.trajectory_id) == each for each in every)
    assert index.whole("nobody") is None
    (found,) = index.rows.find(Query(((method_column("verified"), ""),)))
    assert index.rows.taken([found], ["trajectory_id"]) == [{"trajectory_id": "own"}]


def test_a_selection_is_read_by_trajectory(store):
    index = SelectionIndex(store, "perplexity")
    assert [index.of(row.trajectory_id) for row in store.read_selections("perplexity")] == store.read_selections(
        "perplexity"
    )
    assert index.of("nobody") is None
    assert [row.trajectory_id for row in index.among(["textcraft_03", "babyai_01"])] == ["babyai_01", "textcraft_03"]
    store.write_selections("perplexity", store.read_selections("perplexity")[5:])
    with pytest.raises(StoreError, match="ask again"):
        index.of("textcraft_09")


def test_texts_and_outcomes_are_found(store):
    rows = make_trajectories()
    told = {"metadata": {"style": {"style": "checks"}}, "success": None, "reward": 0.4}
    store.write_trajectories([rows[0].model_copy(update=told), *rows[1:]])
    found = index_of(store).rows
    (number,) = found.find(Query((("style", "checks"), ("outcome", "failed")), ("ONERROR=alert(1)",)))
    assert found.taken([number], ["trajectory_id"]) == [{"trajectory_id": rows[0].trajectory_id}]
    assert len(found.find(Query(words=("planks", "textcraft_0")))) == 10


def test_a_sample_is_enough_for_figures_and_spread_evenly(store):
    sample = index_of(store).sample(4)
    assert [each.trajectory_id for each in sample] == ["babyai_00", "babyai_05", "textcraft_00", "textcraft_05"]
    assert all(each.n_steps > 0 and not each.messages for each in sample)


def test_the_episodes_are_those_that_the_ledger_counts(store):
    again = make_episodes("base", "babyai", 0.5, tasks=3, errors=0)
    lost = [each.model_copy(update={"error": "engine: died", "stop": "error"}) for each in again]
    store.append([row.model_dump(mode="json") for row in [*again, *lost]], "evaluation", "base", "babyai.jsonl")
    index = EpisodeIndex(store)
    assert index.read_on() == []
    for model in store.names("evaluation"):
        keys = keys_in(store.read_json("evaluation", model, "results.json"))
        shown = index.counted(model, keys)
        assert shown == [each.model_copy(update={"messages": ()}) for each in counted(store, model)]
    played = journaled(store, "base", ["babyai", "textcraft"])
    rows = index.rows({})
    number = rows.where("key", again[0].key)
    assert index.whole(rows, number) == played[again[0].key]
    assert index.whole(rows, number).error is None  # the failed one came later, and does not count
    with pytest.raises(StoreError, match="counts episode nothing"):
        index.counted("base", {"nothing"})


def test_journals_are_read_on_and_a_torn_line_waits_for_its_end(tmp_path):
    store = Store(str(tmp_path / "run"))
    index = EpisodeIndex(store)
    assert index.read_on() == []
    assert index.rows({}).total == 0
    rows = [row.model_dump(mode="json") for row in make_episodes("base", "babyai", 0.5, tasks=4)]
    store.append(rows[:2], "evaluation", "base", "babyai.jsonl")
    path = store.path("evaluation", "base", "babyai.jsonl")
    size = os.path.getsize(path)
    store.append(rows[2:3], "evaluation", "base", "babyai.jsonl")
    with open(path, "rb") as file:
        whole = file.read()
    with open(path, "wb") as file:
        file.write(whole[: size + 30])
    index.read_on()
    assert index.rows({}).total == 2
    with open(path, "wb") as file:
        file.write(whole)
    index.read_on()
    assert index.rows({}).total == 3
    store.append([{"key": "x"}, rows[3]], "evaluation", "base", "babyai.jsonl")
    (wrong,) = index.read_on()
    assert "babyai.jsonl" in wrong
    assert "no episode" in wrong
    assert index.rows({}).total == 4
    assert index.rows({"base": {rows[0]["key"]}}).total == 1
    for anew in (rows[:1], rows[1:], rows[1:3]):  # shorter than before, longer, and shorter again
        os.remove(path)
        store.append(anew, "evaluation", "base", "babyai.jsonl")
        assert index.read_on() == []
        assert index.rows({}).total == len(anew)
        assert index.rows({}).where("key", anew[0]["key"]) is not None
    os.remove(path)
    index.read_on()
    assert index.rows({}).total == 0
