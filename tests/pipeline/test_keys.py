"""What makes a result current: every field of the configuration counts in a key, or says that it cannot."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args, get_origin

import pytest

from atlas_ray.config import PipelineConfig
from atlas_ray.pipeline import stages
from atlas_ray.pipeline.run import Run
from atlas_ray.section import leaves
from atlas_ray.store import Store

BASE: dict[str, Any] = {
    "environments": {"maze": {"max_rounds": 9}},
    "collect": {"trajectories": {"maze": 4, "textcraft": 3}, "warmup_style": "plain"},
    "select": {
        "methods": [
            "all", "random", "perplexity", "non_critical", "hybrid", "value", "llm", "entropy", "grade", "gain",
            "pivot", "verified",
        ],
        "selections": {"few": {"method": "random", "ratio": 0.1}},
    },
    "train": {"selections": ["llm"], "seeds": [0, 1], "warmup": {"fraction": 0.4}, "lora": {"rank": 8}},
    "evaluate": {
        "models": ["random", "base", "warmup", "llm", "there"], "environments": ["maze"],
        "endpoints": {"there": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}},
    },
}  # fmt: skip


def keys(values: dict[str, Any], folder: str) -> dict[tuple[str, str], str]:
    config = PipelineConfig.model_validate(values)
    return {(unit.stage, unit.name): unit.key for unit in stages.plan(Run(config, Store(folder)))}


def changed(values: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(values))
    node = copy
    *parents, leaf = dotted.split(".")
    for name in parents:
        node = node.setdefault(name, {})
    node[leaf] = value
    return copy


@pytest.fixture
def others(tmp_path, tiny_model, monkeypatch) -> dict[str, Any]:
    """Another valid value of the fields for which none can be derived from their type."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    turns = [
        {"from": "human", "loss": None, "value": "Play."}, {"from": "gpt", "loss": False, "value": "OK."},
        {"from": "human", "loss": None, "value": "Go."}, {"from": "gpt", "loss": True, "value": "Action: up"},
    ]  # fmt: skip
    data = tmp_path / "data.json"
    data.write_text(json.dumps([{"conversations": turns, "item_id": "lmrlgym_maze_1"}]))
    items = tmp_path / "items.json"
    items.write_text(json.dumps([{"item_id": "lmrlgym_maze_3"}]))
    return {
        "run_dir": str(tmp_path / "elsewhere"), "model": str(tiny_model), "collect.source": str(data),
        "evaluate.instructions": str(data), "environments": {"maze": {"max_rounds": 8}},
        "collect.trajectories": {"maze": 4, "textcraft": 2}, "collect.min_score": 0.5, "collect.style": "slips",
        "collect.warmup_style": "checks", "collect.environments": {"os": "maze"}, "collect.max_rounds": {"maze": 20},
        "select.methods": ["all"], "select.filters": ["looks"], "select.selections": {}, "select.llm.base_url": "http://127.0.0.1:9/v1",
        "select.llm.model": "another", "select.llm.prices": {"m": [1.0, 2.0]},
        "select.grade.base_url": "http://127.0.0.1:9/v1", "select.grade.model": "another",
        "select.grade.prices": {"m": [1.0, 2.0]},
        "select.perplexity.reference_model": str(tiny_model), "select.hybrid.weights": {"random": 1.0},
        "select.pivot.rollouts_of": "random", "select.verified.model": "random",
        "select.non_critical.complement_of": "random", "select.value.model": "random", "train.selections": ["random"],
        "train.labelled_tokens": 1000, "train.pack_tokens": 4096, "train.compile": True, "evaluate.items": str(items),
        "train.seeds": [0, 2], "train.betas": [0.8, 0.9], "rollout.labels": {"zone": "a"},
        "evaluate.models": ["base"],
        "evaluate.endpoints": {"there": {"base_url": "http://127.0.0.1:9/v1", "model": "n"}},
        "evaluate.environments": ["maze", "textcraft"],
        "verify.model": "random", "verify.selection": "random", "serve.model": "checkpoints/llm",
        "serve.host": "127.0.0.2", "serve.adapters": {"mine": "checkpoints/llm"},
        "track.to": ["tensorboard"], "engine.dtype": "float32",
    }  # fmt: skip


def another(dotted: str, field: Any, others: dict[str, Any], now: Any) -> Any:
    """A valid value of a field that it does not have now."""
    if dotted in others:
        return others[dotted]
    options = [each for each in get_args(field.annotation) if each is not type(None)]
    kind = options[0] if len(options) == 1 and get_origin(field.annotation) is not Literal else field.annotation
    if get_origin(kind) is Literal or get_origin(field.annotation) is Literal:
        choices = get_args(kind) if get_origin(kind) is Literal else get_args(field.annotation)
        return next(each for each in choices if each != now)
    if kind is bool:
        return not now
    if kind is int:
        return (now or 1) + 1
    if kind is float:
        return round((now or 0.5) * 0.97, 6) if now != 0 else 0.5
    assert kind is str, f"{dotted}: name another value for the test"
    return f"{now}-other"


def value_at(config: PipelineConfig, dotted: str) -> Any:
    node: Any = config
    for name in dotted.split("."):
        node = getattr(node, name, None)
    return node


FIELDS = [pytest.param(dotted, field, marks, id=dotted) for dotted, field, marks in leaves(PipelineConfig)]


@pytest.mark.parametrize(("dotted", "field", "marks"), FIELDS)
def test_every_field_counts_or_is_runtime_only(dotted, field, marks, others, tmp_path):
    before, config = keys(BASE, str(tmp_path)), PipelineConfig.model_validate(BASE)
    now = value_at(config, dotted)
    if now is None and not field.is_required():
        now = field.get_default(call_default_factory=True)
    after = keys(changed(BASE, dotted, another(dotted, field, others, now)), str(tmp_path))
    if "runtime-only" in marks:
        assert after == before
    else:
        assert after != before
    if "names units" in marks and dotted != "evaluate.endpoints":  # what both name is what it was
        assert all(after[unit] == before[unit] for unit in after.keys() & before.keys())


def test_a_longer_context_makes_what_engines_said_stale_and_nothing_else(tmp_path):
    asking = changed(BASE, "select.llm.base_url", "http://127.0.0.1:9/v1")  # else an engine of ours stands in
    before = keys(asking, str(tmp_path))
    after = keys(changed(asking, "engine.max_model_len", 2048), str(tmp_path))
    stale = {unit for unit in before if after[unit] != before[unit]}
    assert {("evaluate", "base"), ("evaluate", "llm"), ("select", "perplexity"), ("select", "value")} <= stale
    assert not stale & {("evaluate", "random"), ("evaluate", "there"), ("collect", "trajectories"), ("train", "llm")}


def test_a_filter_makes_its_selection_and_what_is_made_from_it_stale_and_no_other(tmp_path):
    before = keys(BASE, str(tmp_path))
    filtered = {"random": {"filters": ["looks"]}, "few": BASE["select"]["selections"]["few"]}
    values = changed(BASE, "select.selections", filtered | {"hybrid": {"weights": {"random": 1.0}}})
    plain = changed(values, "select.selections.random", {})
    after, without = keys(values, str(tmp_path)), keys(plain, str(tmp_path))
    stale = {name for (stage, name), key in after.items() if key != without[stage, name]}
    assert stale == {"random", "hybrid"}
    assert without["select", "random"] == before["select", "random"]
    longer = changed(values, "collect.max_rounds", {"maze": 30})  # the environment that looks are found in
    assert keys(longer, str(tmp_path))["select", "random"] != after["select", "random"]


def test_soft_weights_make_their_selection_stale_and_no_other(tmp_path):
    def keyed(**soft):
        chosen = {"method": "random", "ratio": 0.1} | soft
        return keys(changed(BASE, "select.selections", {"few": chosen}), str(tmp_path))

    before = keyed()
    assert before == keys(BASE, str(tmp_path))
    found = [keyed(soft_weights={"kind": "softmax", "temperature": value}) for value in (1.0, 2.0)]
    found.append(keyed(soft_weights={"kind": "rank"}))
    assert len({each["select", "few"] for each in [before, *found]}) == 4
    assert all(each[unit] == before[unit] for each in found for unit in before if unit != ("select", "few"))


def test_a_model_directory_has_one_identity_wherever_it_lies(tmp_path, tiny_model):
    import shutil

    from atlas_ray.models import identity

    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    assert identity(str(copy)) == identity(str(tiny_model))
    (copy / "README.md").write_text("A card.")
    assert identity(str(copy)) == identity(str(tiny_model))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert identity(str(copy)) != identity(str(tiny_model))
