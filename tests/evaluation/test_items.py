"""Items: lists, locating, what is left out and why, evaluation of exactly these tasks, and no training on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from atlas_ray.config import PipelineConfig
from atlas_ray.environments import registry
from atlas_ray.errors import ConfigError, DataError
from atlas_ray.evaluation import items
from atlas_ray.evaluation.evaluate import cards, episode_specs, evaluate, evaluated_environments
from atlas_ray.pipeline.held_out import refuse_planned, refuse_stored
from atlas_ray.roster import RosterEntry
from atlas_ray.store import Store
from atlas_ray.trajectory import Message, Trajectory
from tests.reference import FOLDER, reference

EXPERT = RosterEntry("expert", "policy", "expert")


def _list(folder: Path, name: str, rows: list[Any]) -> str:
    (folder / name).write_text(json.dumps(rows))
    return str(folder / name)


def _config(source: str, **sections: Any) -> PipelineConfig:
    values = {"evaluate": {"items": source, **sections.pop("evaluate", {})}, "rollout": {"memory_gib": 0.5}, **sections}
    return PipelineConfig.model_validate(values)


def _find(config: PipelineConfig) -> items.Items:
    return items.find(config, registry.names())


def test_items_are_located_and_what_is_left_out_is_named_with_its_reason(tmp_path: Path) -> None:
    rows = [
        {"item_id": "babyai_1804"}, {"item_id": "babyai_7", "loss": None}, {"item_id": "babyai_1804"}, "babyai_8",
        {"item_id": "babyai_40000"}, {"item_id": "babyai_" + "9" * 5000}, {"item": 3}, {"item_id": "lmrlgym_maze_3"},
        {"item_id": "sqlgym_2"},
    ]  # fmt: skip
    found = _find(_config(_list(tmp_path, "list.json", rows)))
    assert found.tasks == {"babyai": (("train", 1804), ("train", 7), ("train", 8)), "maze": (("test", 3),)}
    reasons = {each.item_id[:12]: each.reason for each in found.missing}
    assert reasons["babyai_1804"] == "the lists name this task twice"
    assert reasons["babyai_40000"] == "babyai: there is no item ...; they are babyai_0 to babyai_39999"
    assert reasons["babyai_99999"] == reasons["babyai_40000"]
    assert reasons["row 6"].endswith("list.json: expected an object with an item_id, or an id")
    assert reasons["sqlgym_2"] == "its environment is not in evaluate.environments"
    assert len(found.missing) == 5
    assert "babyai: 2 items left out (babyai_40000, babyai_999" in "\n".join(found.lines)
    facts = found.facts()
    assert facts["named"] == 8
    assert facts["evaluated"] == {"babyai": 3, "maze": 1}
    assert sum(sum(counts.values()) for counts in facts["left_out"].values()) == 5


def test_files_of_items_are_one_list_in_any_shape(tmp_path: Path) -> None:
    (tmp_path / "maze_test.jsonl").write_text('{"item_id": 3}\n{"item_id": "lmrlgym_maze_4"}\n')
    _list(tmp_path, "babyai_test.json", [{"item_id": 5}])
    found = _find(_config(str(tmp_path)))
    assert found.tasks == {"babyai": (("train", 5),), "maze": (("test", 3), ("test", 4))}
    assert found.missing == ()


def test_a_list_of_which_nothing_can_be_evaluated_is_one_line(tmp_path: Path) -> None:
    source = _list(tmp_path, "t.json", [{"item_id": "textcraft_3"}, {"item_id": "webshop_1"}])
    with pytest.raises(
        DataError, match=r"no item can be evaluated: textcraft: 1 items left out \(textcraft_3\): .*task"
    ):
        evaluated_environments(_config(source))
    with pytest.raises(DataError, match="no item can be evaluated: it is empty"):
        evaluated_environments(_config(_list(tmp_path, "none.json", [])))
    with pytest.raises(DataError, match="no such file"):
        evaluated_environments(_config(str(tmp_path / "x.json")))


def test_exactly_the_items_are_played(tmp_path: Path) -> None:
    source = _list(tmp_path, "list.json", [{"item_id": f"babyai_{n}"} for n in (900, 3)] + [{"item_id": "maze_2"}])
    config = _config(source, evaluate={"tasks": 1, "repeats": 2})
    assert evaluated_environments(config) == ["babyai", "maze"]
    specs = episode_specs(config, EXPERT, cards(config, evaluated_environments(config)))
    assert [(spec.env, spec.split, spec.task, spec.seed) for spec in specs] == [
        ("babyai", "train", 900, 0), ("babyai", "train", 900, 1), ("babyai", "train", 3, 0), ("babyai", "train", 3, 1),
        ("maze", "test", 2, 0), ("maze", "test", 2, 1),
    ]  # fmt: skip
    alone = _config(source, evaluate={"environments": ["maze"]})
    assert evaluated_environments(alone) == ["maze"]


@reference("agentgym_runs/textcraft.jsonl")
def test_a_trajectory_in_a_list_is_the_task_that_its_text_shows(path: str, tmp_path: Path) -> None:
    found = _find(_config(path))
    assert [len(tasks) for tasks in found.tasks.values()] == [16]
    assert not found.missing
    with registry.make("textcraft") as env:
        split, task = found.tasks["textcraft"][0]
        observation, _ = env.reset(options={"split": split, "task": task})
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert observation.splitlines()[-1] in rows[0]["conversations"][2]["content"]
    torn = rows[0] | {"conversations": rows[0]["conversations"][:1]}  # no step: only its id counts
    reasons = [each.reason for each in _find(_config(_list(tmp_path, "few.json", [torn, rows[1]]))).missing]
    assert len(reasons) == 1
    assert "upstream's task order is not reproducible here" in reasons[0]


def test_instructions_of_files_open_the_episodes_under_our_names_of_environments(tmp_path: Path) -> None:
    def row(name: str) -> dict[str, Any]:
        said = [("human", f"Rules of {name}."), ("gpt", "OK."), ("human", "Go."), ("gpt", "Action: look")]
        return {"task_name": name, "conversations": [{"from": who, "value": text} for who, text in said]}

    evaluate = {
        "environments": ["maze", "babyai"], "tasks": 1, "repeats": 1,
        "instructions": _list(tmp_path, "rows.json", [row("labyrinth"), row("babyai")]),
    }  # fmt: skip
    named = PipelineConfig.model_validate({"evaluate": evaluate, "collect": {"environments": {"Labyrinth": "maze"}}})
    plain = PipelineConfig.model_validate({"evaluate": evaluate})
    for config, known in ((plain, ["babyai"]), (named, ["maze", "babyai"])):
        specs = episode_specs(config, EXPERT, cards(config, evaluated_environments(config)))
        assert {spec.env: spec.opening[0].content for spec in specs if spec.opening} == {
            env: "Rules of labyrinth." if env == "maze" else "Rules of babyai." for env in known
        }


def test_items_are_evaluated_on_ray_and_counted_in_the_results(ray_cluster: Any, tmp_path: Path, capsys: Any) -> None:
    rows = [{"item_id": item} for item in ("maze_2", "maze_25", "maze_99", "textcraft_1")]
    store = Store(str(tmp_path / "run"))
    results = evaluate(_config(_list(tmp_path, "list.json", rows)), store, EXPERT)
    assert results["environments"]["maze"]["n"] == 2
    assert results["environments"]["maze"]["score"] == 100
    assert results["items"]["evaluated"] == {"maze": 2}
    assert results["items"]["left_out"].keys() == {"maze", "textcraft"}
    assert "  evaluate expert: maze: 1 items left out (maze_99): maze: there is no item ..." in capsys.readouterr().out
    played = {(row["split"], row["task"]) for row in store.journal("evaluation", "expert", "maze.jsonl")}
    assert played == {("test", 2), ("test", 25)}


def _trajectory(item_id: str, env: str = "babyai", **fields: Any) -> Trajectory:
    messages = (Message(role="user", content="Go."), Message(role="assistant", content="Action: look", step=0))
    values = {"trajectory_id": f"t-{item_id}", "split": "train", "source": "import", "reward": 1.0, "success": True}
    return Trajectory(env=env, item_id=item_id, messages=messages, n_steps=1, **(values | fields))  # type: ignore[arg-type]


def test_training_on_evaluated_items_is_refused_unless_allowed(tmp_path: Path) -> None:
    source = _list(tmp_path, "list.json", [{"item_id": "babyai_1804"}, {"item_id": "babyai_7"}])
    few, many = ({"trajectories": {"babyai": n}} for n in (7, 8))
    refuse_planned(_config(source, collect=few))
    with pytest.raises(
        ConfigError, match=r"1 trajectories are of items that evaluate.items names \(babyai training task 7\)"
    ):
        refuse_planned(_config(source, collect=many))
    refuse_planned(_config(source, collect=many | {"allow_evaluated_items": True}))
    store = Store(str(tmp_path / "run"))
    store.write_trajectories([_trajectory("babyai_8"), _trajectory("babyai_9", metadata={"task": 9})])
    refuse_stored(_config(source), store)
    for bad in (_trajectory("babyai_1804"), _trajectory("x", metadata={"task": 7}), _trajectory("1804")):
        store.write_trajectories([_trajectory("babyai_8"), bad])
        with pytest.raises(ConfigError, match=f"1 trajectories are .* names \\({bad.item_id}\\)"):
            refuse_stored(_config(source), store)
    refuse_stored(_config(source, collect={"allow_evaluated_items": True}), store)


DATA: dict[str, dict[str, Any]] = {
    "alfworld": {"data": str(FOLDER / "alfworld/games.jsonl.xz")},
    "wordle": {"vocabulary": str(FOLDER / "wordle/tweet_words.txt")},
    **{name: {"data": str(FOLDER / f"tools/{name}.jsonl")} for name in ("academia", "sheet", "todo")},
    **{name: {"data": str(FOLDER / f"tools/{name}_sample.jsonl")} for name in ("weather", "movie")},
}


@reference("agentgym_items")
def test_agentgyms_lists_are_located_where_engine_and_data_allow(path: str) -> None:
    config = _config(path, environments=DATA)
    found = _find(config)
    assert {env: len(tasks) for env, tasks in found.tasks.items()} == {
        "academia": 20, "alfworld": 200, "babyai": 90, "maze": 25, "scienceworld": 200, "sheet": 20, "todo": 20,
        "wordle": 25, "weather": 8, "movie": 7,
    }  # fmt: skip
    left_out = {env: sum(counts.values()) for env, counts in found.facts()["left_out"].items()}
    assert left_out == {"textcraft": 100, "webshop": 200, "weather": 12, "movie": 13}, "samples lack the other lines"
    specs = episode_specs(config, EXPERT, cards(config, list(found.tasks)))
    assert len({spec.key for spec in specs}) == len(specs) == 615
    assert {split for split, _ in found.tasks["scienceworld"]} == {"train", "test"}
