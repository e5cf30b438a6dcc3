"""`atlas-ray`: every command has a help of one screen, options reach the configuration, wrong names are answered."""

from __future__ import annotations

import subprocess
import sys

import pytest

from atlas_ray.cli import commands, options
from atlas_ray.cli.command import Parser
from atlas_ray.cli.main import main
from atlas_ray.config_files import load
from tests.conftest import ROOT


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command prints that ends well."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a command that ends with exit code 2."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("name", commands.names())
def test_help_fits_a_screen_and_has_an_example(name, capsys):
    text = said(capsys, name, "--help")
    lines = text.splitlines()
    assert len(lines) < 100
    assert max(map(len, lines)) <= 120
    assert f"usage: atlas-ray {name}" in text
    assert "example" in text
    assert all(example in text for example in commands.load(name).examples)
    assert ("--SECTION.OPTION" in text) == bool(commands.load(name).sections)


def test_the_list_names_every_command(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 130
    for name in commands.names():
        assert f"  {name:<12}{commands.load(name).summary}\n" in text
        assert commands.load(name).name == name


def test_help_of_a_section_and_of_all_explains_every_option(capsys):
    section, everything = said(capsys, "train", "--help", "train"), said(capsys, "train", "--help", "all")
    assert "--train.warmup.fraction" in section
    assert "--select.ratio" not in section
    assert "(paper section 4.2)" in " ".join(everything.split())
    assert all(f"--{name} " in everything for name in options.option_names())
    assert "selection methods" in said(capsys, "select", "--help=select")


@pytest.mark.parametrize("name", [each for each in commands.names() if commands.load(each).sections])
def test_the_sections_of_a_command_are_sections(name):
    assert set(commands.load(name).sections) <= set(options.section_names())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "has no command 'trian'; did you mean 'train'?"),
        (["train", "--train.epoch", "2"], "unknown option '--train.epoch'; did you mean '--train.epochs'?"),
        (["train", "--set", "train.epoch=2"], "train.epoch: unknown option; did you mean train.epochs?"),
        (["train", "--set", "train.warmup.fractoin=0.2"], "did you mean train.warmup.fraction?"),
        (["train", "--set", "train.epochs"], "--set 'train.epochs' is not of the form SECTION.OPTION=VALUE"),
        (["train", "--help", "trian"], "--help trian: there is no such section; did you mean 'train'?"),
        (["train", "--config", "quikstart"], "config quikstart: No such file or directory"),
        (["train", "--config", "quikstart"], "did you mean 'quickstart'?"),
        (["train", "--mean-tokens", "x", "--dry-run"], "argument --mean-tokens: invalid int value: 'x'"),
        (["select", "comapre"], "did you mean 'compare'?"),
        (["env", "nwe"], "did you mean 'new'?"),
        (["export"], "the following arguments are required: --format"),
        (["inspect", "nowhere"], "nowhere: no run directory (it has no config.yaml)"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_one_line_with_the_nearest_one(words, says, capsys):
    line = refused(capsys, *words)
    assert line.startswith("error: ")
    assert says in line


def test_set_and_dotted_options_are_the_same():
    dotted, chosen = options.parse(Parser(add_help=False), ["--config", "a.yaml", "--train.epochs", "2"])
    same, _ = options.parse(Parser(add_help=False), ["--set", "train.epochs=2"])
    assert dotted == same == {"train.epochs": 2}
    assert chosen.config == "a.yaml"
    deep, _ = options.parse(Parser(add_help=False), ["--set", "environments.textcraft.depths=[1]", "--set", "seed=3"])
    config = load(None, deep)
    assert (config.environments, config.seed) == ({"textcraft": {"depths": [1]}}, 3)


def test_the_job_scripts_are_the_commands():
    jobs = {file.stem for file in (ROOT / "jobs").glob("*.py")}
    assert jobs <= set(commands.names())
    done = subprocess.run(
        [sys.executable, "jobs/select.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.startswith("usage: atlas-ray select")


def test_finding_a_command_imports_neither_ray_nor_torch_nor_the_configuration():
    code = (
        "import sys\n"
        "from atlas_ray.cli.main import overview\n"
        "overview()\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'ray', 'torch', 'pydantic', 'pyarrow'}))\n"
        "from atlas_ray.cli import commands, options\n"
        "options.help_text(commands.load('train'), '')\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'ray', 'torch', 'pyarrow'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "\n\n"


def test_a_reader_that_has_gone_ends_a_command_without_a_word():
    """As `atlas-ray ... | head` does, here before the first line."""
    command = [sys.executable, "jobs/pipeline.py", "--help", "all"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
