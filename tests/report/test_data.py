"""Reading a run directory: which episodes count, in which order models stand, and what is called missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from atlas_ray.config import PipelineConfig
from atlas_ray.config_files import load
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.errors import StoreError
from atlas_ray.evaluation.ledger import counted
from atlas_ray.report.comparisons import pairs
from atlas_ray.report.data import RunData, in_order, model_name, read
from atlas_ray.report.results import result_table, with_groups
from atlas_ray.store import Store
from tests.report.synthetic import make_card, make_episodes, write_model


def test_the_report_shows_the_episodes_that_the_table_counts(
    tmp_path: Path, config: PipelineConfig, cards: dict[str, EnvironmentCard]
) -> None:
    store = Store(str(tmp_path))
    write_model(store, "base", (0.0, 0.0))
    other_weights = [e.model_copy(update={"key": f"stale-{e.task}"}) for e in make_episodes("base", "textcraft", 1.0)]
    store.append(
        [episode.model_dump(mode="json") for episode in other_weights], "evaluation", "base", "textcraft.jsonl"
    )
    episodes = read(config, store, cards).models["base"].episodes
    assert episodes == counted(store, "base")
    assert not any(episode.success for episode in episodes)
    results = store.read_json("evaluation", "base", "results.json")
    [row] = result_table(store, [results], cards).rows
    assert row[2].text.startswith("0.0 [0.0")


def test_models_stand_in_the_order_of_their_kinds(outcome: Callable[..., RunData]) -> None:
    names = ["llm.s1", "random_10", "gpt", "llm", "expert", "mine", "base", "warmup", "random"]
    data = outcome(
        dict.fromkeys(names, 0.5), train__seeds=[0, 1], train__selections=["random_10", "llm"],
        select__selections={"random_10": {"method": "random", "ratio": 0.1}},
    )  # fmt: skip
    assert list(data.models) == ["expert", "random", "base", "warmup", "gpt", "mine", "random_10", "llm", "llm.s1"]
    assert data.method_of("random_10") == "random"
    assert "Model random_10 with training seed 1: not evaluated." in data.missing
    assert not any(line.startswith("Model llm") for line in data.missing)
    assert "Checkpoint llm.s1: no training log." in data.missing


def test_models_tuned_by_preferences_are_no_seeds_of_those_tuned_on_the_same_steps(
    outcome: Callable[..., RunData],
) -> None:
    names = ["value", "value.s1", "value.dpo", "value.dpo.s1", "base"]
    data = outcome(dict.fromkeys(names, 0.5), train__objective="dpo", train__seeds=[0, 1], train__selections=["value"])
    assert [model.name for model in data.tuned["value"]] == ["value.dpo", "value.dpo.s1"]
    assert not any(line.startswith("Model value") for line in data.missing)
    assert data.phrase_of("value") == "preferences at the steps that value selected"
    rows = with_groups(
        [each.results for each in data.models.values()], data.cards, lambda name: data.models[name].episodes
    )
    groups = [row["model"] for row in rows if "seeds" in row]
    assert groups == ["value, mean of 2 seeds", "value.dpo, mean of 2 seeds"]
    compared = {(first.name, second.name) for first, second in pairs(data)}
    assert ("value", "value.dpo") in compared


def test_results_of_the_first_edition_are_refused_in_a_line(
    tmp_path: Path, config: PipelineConfig, cards: dict[str, EnvironmentCard]
) -> None:
    store = Store(str(tmp_path))
    store.write_json({"model": "base", "environments": {}}, "evaluation", "base", "results.json")
    with pytest.raises(
        StoreError, match=r"base/results\.json: field 'kind' is missing, so an earlier edition wrote it"
    ):
        read(config, store, cards)


def test_an_evaluation_in_other_environments_is_named_and_left_out(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_model(store, "base", (0.5, 0.5))
    found = read(load(None), store, {"textcraft": make_card("textcraft")})
    assert found.models == {}
    assert "Model base: its evaluation is of other environments (babyai)." in found.missing


def test_names() -> None:
    assert in_order(["b", "c", "a"], ["c", "x"]) == ["c", "a", "b"]
    assert [model_name(name) for name in ("llm", "models/tuned/", "/a/b")] == ["llm", "tuned", "b"]
