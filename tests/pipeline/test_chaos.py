"""A short night: benchmarks/chaos.py on the shared cluster, with faults that leave the cluster to others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SMALL = {
    "environments": '{"textcraft": {"depths": [1], "max_rounds": 3}}', "collect.trajectories": '{"textcraft": 8}',
    "select.methods": "llm", "train.selections": "llm", "train.epochs": "8", "evaluate.models": "random",
    "evaluate.environments": "textcraft",
}  # fmt: skip


@pytest.mark.timeout(900)
def test_a_disturbed_run_ends_as_the_undisturbed_one(ray_cluster, tiny_model):
    options = [part for name, value in SMALL.items() for part in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", "--seed", "1", "--kills", "2", "--kinds", "torn,controller",
         "--model", tiny_model, "--", *options],
        env=os.environ | {"RAY_ADDRESS": ray_cluster, "PYTHONPATH": str(ROOT)}, cwd=ROOT, timeout=800,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal to the undisturbed run, no process left" in done.stdout
    assert "nothing to strike" not in done.stdout
