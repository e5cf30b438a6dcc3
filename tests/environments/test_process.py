"""An engine in a child process: calls, errors, a child that dies or hangs, and no orphan whatever happens."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from atlas_ray.environments.process import EngineFailure, EngineProcess
from atlas_ray.errors import ConfigError


class Counter:
    """An engine as a child sees it."""

    def __init__(self, start: int) -> None:
        if start < 0:
            raise ConfigError("start is negative; give a count")
        self.count = start

    def add(self, n: int) -> int:
        self.count += n
        return self.count

    def echo(self, value: Any) -> Any:
        print("an engine that prints")  # must not disturb the answers
        return value

    def refuse(self) -> NoReturn:
        raise ConfigError("count has no colour; ask for a number")

    def fail(self) -> NoReturn:
        raise ZeroDivisionError("two\nlines")

    def leave(self) -> NoReturn:
        os._exit(7)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


COUNTER = "tests.environments.test_process:Counter"


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    process = EngineProcess(COUNTER, 5)
    yield process
    process.close()


def pid_of(engine: EngineProcess) -> int:
    pid = engine.pid
    assert pid is not None
    return pid


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


def test_calls_reach_the_same_object_and_values_survive_the_way(engine: EngineProcess) -> None:
    engine.start()
    pid = engine.pid
    assert (engine.call("add", 2), engine.call("add", 3)) == (7, 10)
    value = {"text": "é漢\x00", "state": (bytes(200_000), None, 1.5)}
    assert engine.call("echo", value) == value
    engine.start()
    assert (engine.pid, engine.call("add", 0)) == (pid, 10)


def test_errors_keep_their_kind_and_the_engine_lives_on(engine: EngineProcess) -> None:
    engine.start()
    with pytest.raises(ConfigError, match=r"^count has no colour; ask for a number$"):
        engine.call("refuse")
    with pytest.raises(
        EngineFailure, match=r"^its engine raised ZeroDivisionError: two lines at test_process.py:\d+ \(fail\)$"
    ):
        engine.call("fail")
    with pytest.raises(EngineFailure, match="AttributeError"):
        engine.call("no_such_method")
    with pytest.raises((AttributeError, TypeError)):  # cannot be pickled
        engine.call("echo", lambda: None)
    engine.start()
    engine.call("echo", 1)


def test_a_killed_or_leaving_child_is_an_error_of_one_line_and_start_makes_a_new_one(engine: EngineProcess) -> None:
    engine.start()
    os.kill(pid_of(engine), signal.SIGKILL)
    with pytest.raises(EngineFailure, match=r"^its engine's process was killed by SIGKILL \(add\)$"):
        engine.call("add", 1)
    with pytest.raises(EngineFailure, match="is not running"):
        engine.call("add", 1)
    engine.start()
    assert engine.call("add", 1) == 6
    with pytest.raises(EngineFailure, match=r"ended with exit code 7 \(leave\)"):
        engine.call("leave")


def test_a_hanging_child_is_ended() -> None:
    engine = EngineProcess(COUNTER, 0, timeout_s=1.0)
    engine.start()
    pid = pid_of(engine)
    with pytest.raises(EngineFailure, match=r"did not answer within 1 s \(sleep\) and was ended"):
        engine.call("sleep", 60)
    assert not alive(pid)
    engine.start()
    assert engine.call("add", 1) == 1
    engine.close()


@pytest.mark.parametrize(
    ("name", "start", "kind", "message"),
    [
        (COUNTER, -1, ConfigError, "start is negative; give a count"),
        ("tests.environments.test_process:Nothing", 0, ConfigError, r"its engine: .*:Nothing cannot be imported"),
        ("no_such_module:Engine", 0, ConfigError, r"ModuleNotFoundError.*no_such_module"),
    ],
)
def test_what_cannot_start_says_why_and_leaves_no_process(
    name: str, start: int, kind: type[Exception], message: str
) -> None:
    engine = EngineProcess(name, start)
    with pytest.raises(kind, match=message):
        engine.start()
    assert engine.pid is None


def test_no_orphan_after_close_or_garbage_collection() -> None:
    for drop in (EngineProcess.close, lambda engine: None):
        engine = EngineProcess(COUNTER, 0)
        engine.start()
        pid = pid_of(engine)
        drop(engine)  # type: ignore[operator]
        del engine
        gc.collect()
        assert not alive(pid)


def test_no_orphan_when_the_parent_is_killed_in_the_midst_of_a_call() -> None:
    code = (
        "import sys\nfrom atlas_ray.environments.process import EngineProcess\n"
        f"engine = EngineProcess({COUNTER!r}, 0)\nengine.start()\n"
        "print(engine.pid, flush=True)\nengine.call('sleep', 60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for_end(child)
