"""The shipped configurations build their plans, and every command that a document names is one of ours."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from atlas_ray.cli import commands, options
from atlas_ray.cli.main import main
from atlas_ray.config_files import load, read_yaml, shipped
from atlas_ray.pipeline import grid
from atlas_ray.pipeline.experiment import tasks_played
from atlas_ray.training.dry_run import dry_run
from tests.conftest import ROOT

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
    text = dry_run(load(name, {"run_dir": str(folder / "run")}), card, 2048)
    assert "TOO MUCH" not in text
    assert "hours at 40%" in text


def test_the_evaluation_of_an_endpoint_counts_tasks_of_all_fourteen():
    played = tasks_played(load("recipes/evaluate-endpoint"))
    assert len(set(played) - {"counting", "faulty"}) == 14
    assert all(0 < count <= 50 for count in played.values())


def documents() -> Iterator[Path]:
    yield from (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "cluster.yaml")
    for pattern in (
        "docs/**/*.md",
        "configs/**/*.yaml",
        "deploy/**/*.yaml",
        "deploy/*.sbatch",
        "atlas_ray/cli/templates/**/*.in",
    ):
        yield from ROOT.glob(pattern)


def command_lines() -> Iterator[tuple[str, str]]:
    """File and command line, of every line of code in a document that begins with `atlas-ray` or with a job's script.

    Left out are lines with a place for something else in them, as FILE.
    """
    start = re.compile(r"^[#\s]*(?:[A-Z_]+=\S+ )*(?:ray job submit .*?-- )?(?:exec )?(atlas-ray|python jobs/\w+\.py) ")
    for file in documents():
        text = file.read_text().replace("\\\n", " ")
        if file.name.endswith((".md", ".md.in")):
            text = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        for line in text.splitlines():
            found = start.match(line)
            if found and not re.search(r" [A-Z]+\b|\$", line[found.start(1) :].partition(" #")[0]):
                yield str(file.relative_to(ROOT)), re.split(r" +#|[;&|]|  +\(", line[found.start(1) :])[0]


@pytest.mark.parametrize(("file", "line"), sorted(set(command_lines())))
def test_a_command_of_a_document_is_one_of_ours(file, line, folder):
    words = shlex.split(line)
    name, rest = (words[1], words[2:]) if words[0] == "atlas-ray" else (Path(words[1]).stem, words[2:])
    command = commands.load(name) if name in commands.names() else pytest.fail(f"{file}: no command {name!r}")
    if not command.sections:
        command.parser().parse_args(rest)
        return
    _, chosen = options.parse(command.parser(), rest)
    if chosen.config and not chosen.config.startswith(("my", "FILE", "runs/")):
        assert read_yaml(chosen.config)


def test_the_documents_have_commands():
    found = {line.partition(" ")[0] for _, line in command_lines()}
    assert found == {"atlas-ray", "python"}
    assert len(set(command_lines())) > 20
