"""One whole pipeline on a tiny random Llama, by its real command: several files look at its run directory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.endpoint_server import EndpointServer

SECRET = "sk-canary-8d1f0c55e2"
TINY = str(ROOT / "tests" / "tiny.yaml")


def command(job: str, *options: str) -> list[str]:
    return [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *options]


class Runner:
    """Starts jobs of the shared cluster on one run directory."""

    def __init__(self, folder: Path, cluster: str, model: str, server: EndpointServer) -> None:
        self.folder, self.server, self.model, self.directory = folder, server, model, str(folder / "run")
        self.options = ("--config", TINY, "--run_dir", self.directory, "--model", model)
        self.env = os.environ | {
            "RAY_ADDRESS": cluster, "PYTHONPATH": str(ROOT), "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": SECRET,
        }  # fmt: skip

    def __call__(self, job: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run a job to its end."""
        return subprocess.run(
            command(job, *self.options, *options), env=self.env, cwd=self.folder, text=True, capture_output=True,
            timeout=400,
        )  # fmt: skip


@pytest.fixture(scope="package")
def run(ray_cluster: str, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with EndpointServer() as server:
        yield Runner(tmp_path_factory.mktemp("pipeline"), ray_cluster, tiny_model, server)


@pytest.fixture(scope="package")
def done(run: Runner) -> subprocess.CompletedProcess[str]:
    """The whole pipeline, undisturbed; tests only read its run directory."""
    done = run("pipeline")
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="package")
def finished(run: Runner, done: subprocess.CompletedProcess[str]) -> str:
    """The run directory, finished."""
    return run.directory
