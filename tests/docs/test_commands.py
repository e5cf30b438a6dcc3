"""Every command line in a document can be read by its program, and the cheap ones are run."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest
import yaml

from atlas_ray.cli.main import main
from atlas_ray.config import PipelineConfig
from atlas_ray.config_files import made_from
from atlas_ray.errors import ConfigError
from tests.conftest import ROOT
from tests.docs import commands

LINES = commands.lines()
CONFIGURATIONS = [
    (file.name, values)
    for file in commands.documents()
    if file.suffix == ".md"
    for language, text in commands.blocks(file)
    if language == "yaml" and set(values := yaml.safe_load(text)) <= set(PipelineConfig.model_fields)
]
"""Blocks of YAML whose keys are sections of a run's configuration."""
RUN = (
    "atlas-ray env new my_shell", "atlas-ray env play textcraft --task 3 --expert", "atlas-ray method",
    "atlas-ray method new longest", "atlas-ray completion bash",
    "atlas-ray inspect runs/quickstart", "atlas-ray inspect runs/quickstart --trajectories",
    "atlas-ray inspect runs/quickstart --trajectories --env textcraft",
)  # fmt: skip
"""Those that need neither Ray nor a model, and take less than a second."""


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.file}: {line.text}")
def test_a_command_is_read_by_its_program(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    commands.check(line)


@pytest.mark.parametrize("text", RUN)
def test_a_cheap_command_does_what_it_says(text, tmp_path, monkeypatch, capsys):
    assert text in {shlex.join(line.words) for line in LINES}, "no document has this command any more"
    monkeypatch.chdir(tmp_path)
    if "inspect" in text:
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "quickstart").symlink_to(ROOT / "docs" / "notebooks" / "run")
    assert main(shlex.split(text)[1:]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("atlas-ray trian --config quickstart", AssertionError), ("atlas-ray train --train.epoch 2", ConfigError),
        ("atlas-ray train --config quickstrat", ConfigError), ("python jobs/none.py", AssertionError),
        ("python -m atlas_ray.pretrain --families qwen3", SystemExit), ("wget page", AssertionError),
        ("python -m benchmarks.chaos --kil 3", AssertionError), ("ray start --hed", click.NoSuchOption),
        ("make nothing", AssertionError), ("pip install -e '.[gpus]'", AssertionError),
        ("ray job submit -- python jobs/train.py --train.epoch 2", ConfigError),
    ],
)  # fmt: skip
def test_a_wrong_command_is_found(text, error, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(error):
        commands.check(commands.Line("here", text))


@pytest.mark.parametrize(
    "file", [each for each in commands.documents() if each.suffix == ".md"], ids=lambda file: str(file.name)
)
def test_every_block_of_code_says_what_it_is(file: Path):
    assert {language for language, _ in commands.blocks(file)} <= commands.LANGUAGES


@pytest.mark.parametrize(("file", "values"), CONFIGURATIONS)
def test_a_configuration_in_a_document_can_be_read(file, values):
    made_from(values, None, file)


def test_the_documents_have_configurations():
    assert len(CONFIGURATIONS) > 5


def test_the_documents_have_commands():
    programs = {Path(line.words[0]).name for line in LINES}
    assert programs >= {"atlas-ray", "python", "make", "ray", "kubectl"}
    assert len(LINES) > 80
