"""`atlas-ray env new` and `method new`: what they write passes its own tests, and ours, at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib

import pytest

from atlas_ray.cli.main import main
from atlas_ray.cli.scaffold import write
from atlas_ray.errors import ConfigError
from tests.conftest import ROOT


@pytest.mark.parametrize(("kind", "name"), [("env", "my_shell"), ("method", "longest")])
def test_a_new_package_passes_its_tests(kind, name, tmp_path, capsys):
    assert main([kind, "new", name, "--to", str(tmp_path)]) == 0
    folder = tmp_path / f"{name}_{kind}"
    assert str(folder) in capsys.readouterr().out
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    group = {"env": "atlas_ray.environments", "method": "atlas_ray.selection"}[kind]
    module, _, found = project["project"]["entry-points"][group][name].partition(":")
    assert f"class {found}(" in (folder / f"{module}.py").read_text()
    assert f"{name}" in (folder / "README.md").read_text()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    ruff = ["ruff", "--isolated", "check", "--line-length=120", "--select=E,F,B", "."]
    style = subprocess.run([sys.executable, "-m", *ruff], cwd=folder, capture_output=True, text=True, timeout=60)
    assert style.returncode == 0, style.stdout


def test_what_cannot_be_written_is_one_line(tmp_path):
    write("env", "twice", tmp_path, [])
    with pytest.raises(ConfigError, match="is there already"):
        write("env", "twice", tmp_path, [])
    with pytest.raises(ConfigError, match="there is 'random' already"):
        write("method", "random", tmp_path, ["random"])
    for name in ("My", "a-b", "../x", "1st", ""):
        with pytest.raises(ConfigError, match="is no name"):
            write("env", name, tmp_path, [])
    with pytest.raises(ConfigError, match="cannot be written"):
        write("env", "nowhere", tmp_path / "none", [])
