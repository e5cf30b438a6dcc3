"""`python -m atlas_ray.launch`: a real Ray head for the time of a job, and one line for what a user can mend."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import httpx
import pytest

from tests.conftest import ROOT


def launch(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-m", "atlas_ray.launch", "--", *command],
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_a_job_runs_on_a_head_that_ends_with_it():
    script = "import os, ray; ray.init(log_to_driver=False); print('cpus', ray.cluster_resources()['CPU'], os.getcwd())"
    done = launch("python", "-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"cpus {float(max(2, os.cpu_count() or 2))} {ROOT}" in done.stdout
    assert "submitted successfully" not in done.stdout
    (url,) = re.findall(r"Ray dashboard  (http://127\.0\.0\.1:\d+)", done.stdout)
    with pytest.raises(httpx.TransportError):
        httpx.get(url)


def test_a_failing_job_fails_the_launch_and_shows_its_line():
    done = launch("python", "jobs/collect.py", "--config", "none.yaml")
    assert done.returncode != 0
    assert "error: config none.yaml: No such file" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_an_address_where_nothing_listens_is_one_line():
    done = launch("true", RAY_ADDRESS="http://127.0.0.1:1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: RAY_ADDRESS=http://127.0.0.1:1: nothing answers there")
