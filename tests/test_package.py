"""The wheel alone, in an empty folder beside the locked packages: everything is in it, and it works."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

import atlas_ray
from deploy import release
from tests.conftest import ROOT

Atlas = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from the source distribution, as `make release` does."""
    return release.build(tmp_path_factory.mktemp("dist"))[1]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it, which finds the locked packages, and not the checkout."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    python = folder / "bin" / "python"
    pip = ["-m", "pip", "--python", str(python), "install", "-qq", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([sys.executable, *pip, str(wheel)], check=True, timeout=120)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture
def atlas(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Atlas:
    """Runs `atlas-ray` of that environment in an empty folder."""
    for name in ("RAY_ADDRESS", "OPENAI_API_KEY", "OPENAI_BASE_URL", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(installed / "bin" / "atlas-ray"), *words], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )

    return run


def test_the_wheel_has_every_file_of_the_packages(wheel):
    assert list(release.faults(wheel)) == []
    assert wheel.name == f"atlas_ray-{atlas_ray.__version__}-py3-none-any.whl"


def test_a_missing_file_is_a_fault(wheel, monkeypatch):
    monkeypatch.setattr(release, "package_files", lambda: {"atlas_ray/none.txt"})
    assert "atlas_ray/none.txt is missing in the wheel" in set(release.faults(wheel))


def test_the_list_of_packages_is_the_locks():
    listed = {each["purl"]: each["licenses"][0]["license"]["name"] for each in release.sbom()["components"]}
    assert len(listed) > 200
    assert "Apache" in listed[f"pkg:pypi/ray@{metadata.version('ray')}"]
    assert "not installed here" not in listed.values()


def test_the_installed_command_plans_the_quickstart_in_an_empty_folder(atlas, installed, tmp_path):
    assert atlas("--version").stdout == f"atlas-ray {atlas_ray.__version__}\n"
    code = "import atlas_ray, envs; print(atlas_ray.__file__, envs.__file__)"
    where = subprocess.run([installed / "bin" / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert where.stdout.count(str(installed)) == 2, where
    plan = atlas("pipeline", "--config", "quickstart", "--plan")
    assert plan.returncode == 0, plan.stderr
    planned = [line for line in plan.stdout.splitlines() if not line.startswith("  ")]  # the others tell of progress
    assert sum("to do" in line for line in planned) == len(planned) > 5
    assert (tmp_path / "runs" / "quickstart" / "config.yaml").is_file()


def test_the_installed_command_runs_a_stage(atlas, installed, tmp_path):
    done = atlas("collect", "--config", "quickstart", "--collect.trajectories", "{textcraft: 3}")
    assert done.returncode == 0, done.stderr
    assert f"3 trajectories in {tmp_path}/runs/quickstart/trajectories" in done.stdout, done.stdout
    manifest = json.loads((tmp_path / "runs/quickstart/collect/manifest.json").read_text())
    assert manifest["trajectories"]["command"].startswith("atlas-ray collect --config quickstart")
    assert str(ROOT) not in done.stdout + done.stderr
    shown = atlas("inspect", "runs/quickstart", "--trajectories")
    assert "textcraft_0" in shown.stdout
