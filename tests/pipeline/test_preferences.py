"""From rollouts to a model that was tuned on step preferences, and to the files of other trainers."""

from __future__ import annotations

import pytest

from atlas_ray.config import PipelineConfig
from atlas_ray.errors import ConfigError
from atlas_ray.pipeline import selections, stages
from atlas_ray.pipeline.run import Run
from atlas_ray.selection.export import PREFERENCE_FORMATS, TOKENS
from atlas_ray.store import Store
from atlas_ray.training.dry_run import dry_run

CONFIG = {
    "environments": {"textcraft": {"depths": [1], "distractors": 1, "max_rounds": 4}},
    "collect": {"trajectories": {"textcraft": 4}},
    "select": {"ratio": 1.0, "value": {"rollouts": 4, "model": "random", "threshold": 0.0}},
    "train": {
        "selections": ["value"], "objective": "dpo", "dpo": {"max_p": 1.0}, "epochs": 2, "learning_rate": 1e-3,
        "batch_size": 4, "workers": 1, "threads": 1,
    },
    "evaluate": {"models": ["random", "value"], "environments": ["textcraft"]},
}  # fmt: skip


def test_a_selection_with_rollouts_is_tuned_on_its_preferences(ray_cluster, tiny_model, tmp_path, capsys):
    config = PipelineConfig.model_validate(CONFIG | {"run_dir": str(tmp_path / "run"), "model": tiny_model})
    run = Run(config, Store(config.run_dir))
    assert ("train", "value.dpo") in {(unit.stage, unit.name) for unit in stages.plan(run)}
    stages.collect(run)
    stages.select(run, ["value"])
    stages.train(run, ["value"])
    facts = run.store.facts("train")["value.dpo"]
    assert facts["objective"] == "dpo"
    assert 0 < facts["steps"] <= facts["preferences"]
    assert run.store.exists("checkpoints", "value.dpo", "model.safetensors")
    assert not run.store.exists("checkpoints", "value")
    rows = list(run.store.journal("metrics", "train.jsonl"))
    assert {row["checkpoint"] for row in rows} == {"value.dpo"}
    assert rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    planned = {(unit.stage, unit.name): unit.key for unit in stages.plan(run)}
    assert run.store.is_current("train", "value.dpo", planned["train", "value.dpo"])
    capsys.readouterr()
    stages.train(run, ["value"])
    assert "train value.dpo: current, skipped" in capsys.readouterr().out

    for form in (*PREFERENCE_FORMATS, TOKENS):
        said = selections.export(run, "value", form, str(tmp_path / form))
        assert (tmp_path / form).stat().st_size > 100
        assert f"{facts['preferences']} preferences" in said or form == TOKENS


def test_what_has_no_preferences_is_refused_before_anything_is_done(tiny_model, tmp_path):
    values = CONFIG | {"run_dir": str(tmp_path / "run"), "model": tiny_model}
    values["train"] = values["train"] | {"selections": ["random"]}
    run = Run(PipelineConfig.model_validate(values), Store(str(tmp_path / "run")))
    for refused in (lambda: stages.collect(run), lambda: stages.train(run, ["random"])):
        with pytest.raises(ConfigError, match="selection 'random' rests on no rollouts"):
            refused()
    assert not run.store.exists("trajectories")
    with pytest.raises(ConfigError, match="leave out train.objective=dpo"):
        dry_run(run.config, "a100-80gb", 100)
