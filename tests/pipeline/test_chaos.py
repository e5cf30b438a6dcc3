"""The finished pipeline, some units of it once more under faults drawn from a seed: it ends as the undisturbed one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.pipeline.conftest import TINY


@pytest.mark.timeout(900)  # whatever comes first waits for the whole run
@pytest.mark.parametrize(
    ("seed", "kinds", "units"),
    [
        (6, "torn,driver", ["select:llm", "evaluate:random"]),
        (15, "worker,controller", ["train:llm"]),
        (7, "driver,engine", ["evaluate:llm"]),
    ],
)
def test_a_disturbed_run_ends_as_the_undisturbed_one(run, finished, seed, kinds, units):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", "--seed", str(seed), "--kills", str(len(kinds.split(","))),
         "--kinds", kinds, "--calm", finished, "--redo", *units, "--config", TINY, "--model", run.model],
        env=run.env, cwd=ROOT, timeout=400, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
