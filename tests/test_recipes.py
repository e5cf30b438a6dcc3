"""The shipped configurations build their plans. What the documents say of them is checked in tests/docs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from atlas_ray.cli.main import main
from atlas_ray.config_files import load, read_yaml, shipped
from atlas_ray.pipeline import grid
from atlas_ray.pipeline.experiment import tasks_played
from atlas_ray.training.dry_run import dry_run

EXPERIMENTS = [name for name in shipped() if "grid" in read_yaml(name)]
PIPELINES = [name for name in shipped() if name not in EXPERIMENTS]
CARDS = {"recipes/qwen3-8b-lora": "rtx4090", "recipes/slurm": "a100-40gb"}
"""The GPUs of the tightest ones; the paper's setting is in tests/training/test_dry_run.py."""
ROW = {
    "item_id": "textcraft_0",
    "conversations": [
        {"from": "human", "loss": None, "value": "Craft things."}, {"from": "gpt", "loss": False, "value": "OK."},
        {"from": "human", "loss": None, "value": "Goal: craft oak planks."},
        {"from": "gpt", "loss": True, "value": "Thought: I need logs.\nAction: get 1 oak logs"},
    ],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files where the recipes look for trajectories, and no key and no network for models."""
    for place in ("data/AgentTraj-L/textcraft.json", "data/mine/rows.json"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text(json.dumps([ROW]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_plans_every_unit(name, folder, tiny_model, capsys):
    """A tiny model's directory stands where the recipe names one that would be downloaded."""
    assert main(["pipeline", "--config", name, "--plan", "--model", tiny_model, "--run_dir", str(folder / "run")]) == 0
    planned = capsys.readouterr().out.splitlines()
    config = load(name)
    stages = [line.split()[0] for line in planned]
    assert stages[0] == "collect"
    assert stages.count("train") >= len(config.train.selections) * len(config.training_seeds)
    assert stages.count("evaluate") >= len(config.evaluate.models)
    assert all(line.endswith("to do") for line in planned)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_checks_every_combination(name, folder, tiny_model):
    wanted = grid.read_experiment(name, {"model": tiny_model, "run_dir": str(folder)})
    assert wanted.combinations
    assert {each.config.model for each in wanted.combinations} == {tiny_model}
    written = grid.read_experiment(name, {})
    assert len(written.combinations) >= len(read_yaml(name)["grid"].get("model", [0]))


@pytest.mark.parametrize(("name", "card"), CARDS.items())
def test_what_is_trained_fits_the_card_that_it_is_for(name, card, folder):
    config = load(name, {"run_dir": str(folder / "run")})
    text = dry_run(config, card, 2048)
    assert "TOO MUCH" not in text
    assert int(re.search(r"a trajectory of at most (\d+) tokens fits", text)[1]) >= config.train.max_length
    assert f"each of {1 if 'lora' in name else config.train.workers} x {card}" in text
    assert "hours at 40%" in text


def test_the_evaluation_of_an_endpoint_counts_tasks_of_all_fourteen():
    played = tasks_played(load("recipes/evaluate-endpoint"))
    assert len(set(played) - {"counting", "faulty"}) == 14
    assert all(0 < count <= 50 for count in played.values())
