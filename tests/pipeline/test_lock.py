"""Two jobs in one run directory: the second is refused with one line, and a killed one leaves the way free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from atlas_ray.config import PipelineConfig
from atlas_ray.errors import StoreError
from atlas_ray.pipeline import lock
from atlas_ray.pipeline.run import Run
from atlas_ray.store import Store

HOLDER = (
    "import sys, threading\n"
    "from atlas_ray.config import PipelineConfig\n"
    "from atlas_ray.pipeline import lock\n"
    "from atlas_ray.pipeline.run import Run\n"
    "from atlas_ray.store import Store\n"
    "def work():\n"
    "    print('working', flush=True)\n"
    "    threading.Event().wait()\n"
    "lock.BEAT_S = 0.2\n"
    "Run(PipelineConfig(), Store(sys.argv[1])).once('collect', 'collect', 'k', work)\n"
)


def holder(folder) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    next(line for line in process.stdout if line.strip() == "working")
    return process


def test_a_second_job_is_refused_until_the_first_is_killed(tmp_path):
    run, done = Run(PipelineConfig(), Store(str(tmp_path))), []
    with holder(tmp_path) as other:
        with pytest.raises(StoreError, match=rf"another job works in this run directory \(process {other.pid} on "):
            run.once("select", "all", "k", lambda: done.append(1) or {})
        assert not done
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        for unit in ("all", "random"):
            run.once("select", unit, "k", lambda: done.append(1) or {})
    assert done == [1, 1]


def test_what_is_current_needs_no_lock(tmp_path):
    run = Run(PipelineConfig(), Store(str(tmp_path)))
    run.store.finish("collect", "collect", "k")
    with holder(tmp_path / "elsewhere") as other:
        run.once("collect", "collect", "k", lambda: pytest.fail("done again"))
        assert not run.store.exists(lock.NAME)
        other.kill()


# --- object storage --------------------------------------------------------------------------------------------------
@pytest.fixture
def bucket(s3, monkeypatch, tmp_path):
    """A store without locks of the system, on which a lock is a file that is written again and again."""
    monkeypatch.setattr(lock, "BEAT_S", 0.2)
    monkeypatch.setattr(lock, "LOST_S", 5.0)
    monkeypatch.setattr(lock, "_held", {})
    yield Store(f"{s3}/{tmp_path.name}/run")
    lock.release()


def test_a_second_job_is_refused_on_object_storage_too_until_the_first_is_killed(bucket):
    run, done = Run(PipelineConfig(), bucket), []
    with holder(bucket.url) as other:
        with pytest.raises(StoreError, match=rf"another job works in this run directory \(process {other.pid} on "):
            run.once("select", "all", "k", lambda: done.append(1) or {})
        assert not done
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    for unit in ("all", "random"):
        run.once("select", unit, "k", lambda: done.append(1) or {})
    assert done == [1, 1]
    assert bucket.read_json(lock.NAME)["job"] == lock._self()


COMMAND = (
    "import sys\n"
    "from atlas_ray.cli.command import guarded\n"
    "from atlas_ray.pipeline import lock\n"
    "from atlas_ray.store import Store\n"
    "guarded(lambda: lock.hold(Store(sys.argv[1])))\n"
)


def test_a_command_that_ends_leaves_no_lock_behind(bucket):
    done = subprocess.run([sys.executable, "-c", COMMAND, bucket.url], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert not bucket.exists(lock.NAME)
