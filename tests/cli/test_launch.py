"""`python -m atlas_ray.cli.launch`: a real Ray head for the time of a job, and one line for what a user can mend."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx
import pytest

from atlas_ray.cli.launch import local_head, submit
from tests.conftest import ROOT


def launch(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-m", "atlas_ray.cli.launch", "--", *command],
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_jobs_run_on_a_head_that_ends_with_them(monkeypatch, capfd):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)
    script = "import os, ray; ray.init(log_to_driver=False); print('cpus', ray.cluster_resources()['CPU'], os.getcwd())"
    with local_head() as dashboard:
        assert submit(dashboard, ["python", "-c", script]) == 0
        out, err = capfd.readouterr()
        assert f"cpus {float(max(2, os.cpu_count() or 2))} {ROOT}" in out, out + err
        assert "submitted successfully" not in out
        assert submit(dashboard, ["python", "jobs/collect.py", "--config", "none.yaml"]) != 0
        out, err = capfd.readouterr()
        assert "error: config none.yaml: No such file" in out
        assert "Traceback" not in out + err
    with pytest.raises(httpx.TransportError):
        httpx.get(dashboard)


def test_an_address_where_nothing_listens_is_one_line():
    done = launch("true", RAY_ADDRESS="http://127.0.0.1:1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: RAY_ADDRESS=http://127.0.0.1:1: nothing answers there")
