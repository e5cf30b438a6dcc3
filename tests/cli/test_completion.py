"""Completion in the shells themselves."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from atlas_ray.cli import commands
from atlas_ray.cli.completion import script

ASKED = {
    "tr": {"train"},
    "pipeline --pl": {"--plan"},
    "train --train.warmup.e": {"--train.warmup.epochs"},
    "select --select.value.roll": {"--select.value.rollouts"},
    "evaluate --config quick": {"quickstart"},
    "evaluate --help eva": {"evaluate"},
    "select com": {"compare"},
    "env ne": {"new"},
    "inspect RUN --fol": {"--follow"},
}
BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _atlas_ray; printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { :; }; compadd() { shift; print -l -- ${(M)@:#$PREFIX*}; }; _files() { :; }
source "$1"; shift
words=("$@"); CURRENT=$#; PREFIX=${words[-1]}; _atlas_ray
"""


@pytest.mark.parametrize(("shell", "driver"), [("bash", BASH), ("zsh", ZSH)])
def test_a_tab_completes_commands_options_and_configurations(shell, driver, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} on this machine")
    file = tmp_path / f"completion.{shell}"
    file.write_text(script(shell))
    for line, expected in ASKED.items():
        done = subprocess.run(
            [shell, "-c", driver, shell, str(file), "atlas-ray", *line.split()],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert set(done.stdout.split()) == expected, line


def test_every_command_is_in_it():
    text = script("bash")
    assert all(f"    {name}) found=" in text for name in commands.names())
