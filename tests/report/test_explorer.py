"""The data of the explorer: complete or sampled, and safe inside a page."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.config import PipelineConfig
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.report import explorer
from atlas_ray.report.data import RunData, read
from atlas_ray.store import Store
from atlas_ray.trajectory import TRAJECTORY_SCHEMA, Selection, trajectories_to_table
from tests.report.synthetic import ENVIRONMENTS, TASKS, make_trajectories, write_run


def test_the_explorer_has_every_trajectory_and_every_pair_differences_first(data: RunData) -> None:
    known = explorer.payload(data, data.figures())
    assert len(known["trajectories"]) == len(data.trajectories)
    assert known["said"] == ""
    first = known["trajectories"][0]
    assert set(first["picks"]) == {"llm", "perplexity", "random"}
    assert first["picks"]["llm"]["steps"] == (0,)
    assert len(first["picks"]["perplexity"]["scores"]) == first["n"] == len(first["exchanges"])
    assert 0 <= first["disagreement"] <= 1
    outcomes = [tuple(side["solved"] for side in pair["sides"]) for pair in known["episodes"]]
    order = [(False, True), (True, False), (False, False), (True, True)]
    differ = [pair for pair in outcomes if pair[0] != pair[1]]
    assert differ
    assert outcomes[: len(differ)] == sorted(differ, key=order.index)
    assert {False, True} == {tuned for _, tuned in outcomes}
    assert all([side["model"] for side in pair["sides"]] == ["base", "llm"] for pair in known["episodes"])
    assert len(known["episodes"]) == TASKS * len(ENVIRONMENTS)


def test_trajectories_that_a_method_made_are_there_with_their_pick(
    new_store: Callable[[], Store], config: PipelineConfig, cards: dict[str, EnvironmentCard]
) -> None:
    store = new_store()
    write_run(store)
    own = make_trajectories()[0].model_copy(update={"trajectory_id": "own", "source": "policy"})
    with store.table_writer(TRAJECTORY_SCHEMA, "selections", "found", "trajectories", "part-0.parquet") as write:
        write(trajectories_to_table([own]))
    row = Selection(trajectory_id="own", method="verified", ratio=0.3, steps=(1,))
    store.write_selections("found", [row])
    data = read(config, store, cards)
    shown = {row["id"]: row for row in explorer.payload(data, data.figures())["trajectories"]}
    assert list(shown["own"]["picks"]) == ["found"]
    assert shown["own"]["picks"]["found"]["steps"] == (1,)
    assert (shown["own"]["source"], len(shown)) == ("policy", len(make_trajectories()) + 1)
    figures = {each.name: each.answered for each in data.figures().selections}
    assert (figures["found"], figures["random"]) == (1, len(make_trajectories()))
    assert data.phrase_of("found") == "verified steps (found)"


def test_a_large_run_is_sampled_and_says_so(data: RunData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "MOST_ROWS", 7)
    known = explorer.payload(data, data.figures())
    assert len(known["trajectories"]) == len(known["episodes"]) == 7
    assert f"7 of {len(data.trajectories)} trajectories are here" in known["said"]
    assert {row["env"] for row in known["trajectories"]} == set(ENVIRONMENTS)
    monkeypatch.setattr(explorer, "MOST_BYTES", 3000)
    assert 0 < len(explorer.payload(data, data.figures())["trajectories"]) < 7


@given(st.text(max_size=200))
def test_embedded_text_cannot_end_its_element(text: str) -> None:
    embedded = explorer.embed({"text": text})
    assert not set("<>&\u2028\u2029") & set(embedded)
    assert json.loads(embedded) == {"text": text}


def test_the_model_tuned_on_all_steps_stands_beside_the_first_one(outcome: Callable[..., RunData]) -> None:
    data = outcome({"base": 0.0, "llm": 0.5})
    assert explorer.payload(data, data.figures())["models"] == ["base", "llm"]
    data = outcome({"base": 0.0, "llm": 0.5, "all": 0.2})
    assert explorer.payload(data, data.figures())["models"] == ["all", "llm"]
