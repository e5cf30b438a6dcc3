"""What happens to a run at night: kinds of faults, and what of a run they strike at.

When they strike and what a run must look like afterwards is in `chaos.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from atlas_ray.errors import StoreError
from atlas_ray.store import Store
from tests.endpoint_server import Answer, EndpointServer, Raw, Reset, Status, first_step

FREEZE_S = 60.0
FAKETIME = Path(sys.prefix, "lib", "libfaketime.so.1")
"""Moves the clock of a process (`make faketime`)."""


@dataclass
class Scene:
    """The disturbed run, as faults see it."""

    store: Store
    """The run directory."""
    folder: Path
    """It, or what `look` copied from object storage."""
    endpoint: EndpointServer
    job: subprocess.Popen[str]
    clock: Path
    """By how many seconds the wall clock of the job's processes is moved, where it is `movable`."""
    seen: set[psutil.Process] = field(default_factory=set)
    """Every process that a job has started."""

    def look(self, *, whole: bool = False) -> None:
        """Copy from a run directory on object storage the files that say how far it is, or all of its files."""
        if self.store.is_local:
            return
        fs, root = self.store.fs, self.store.root
        for file in fs.find(root):
            if whole or file.endswith((".jsonl", "manifest.json")):
                copy = self.folder / file.removeprefix(root).lstrip("/")
                copy.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # deleted meanwhile
                    fs.get_file(file, str(copy))

    def family(self) -> list[psutil.Process]:
        """The job's living processes; those of the cluster of RAY_ADDRESS too."""
        own = _below(self.job.pid)
        self.seen |= own
        if address := os.environ.get("RAY_ADDRESS"):
            for raylet in (each for each in psutil.process_iter() if _is_raylet_of(each, address)):
                own |= _below(raylet.pid)
        return sorted(own, key=lambda each: each.pid)

    def find(self, *parts: str) -> psutil.Process | None:
        """A process whose command line has one of these parts, but the one that was started here."""
        for process in self.family():
            line = line_of(process)
            is_tool = "atlas_ray.cli.launch" in line or " job submit" in line or "/bin/sh" in line
            if any(part in line for part in parts) and not is_tool:
                return process
        return None

    def facts(self, stage: str) -> dict[str, Any]:
        return Store(str(self.folder)).facts(stage)


@dataclass(frozen=True)
class Fault:
    """One kind of fault. `strike` returns whether it found what it strikes at."""

    what: str
    strike: Callable[[Scene], bool]
    during: str = ""
    """The stage that has what it strikes at; empty: all of them."""
    on_own_head: bool = False
    """Whether it strikes at what a job of a cluster of RAY_ADDRESS shares with others."""
    moves_clock: bool = False
    on_disk: bool = False
    """Whether it strikes at files as only disks have them."""


def line_of(process: psutil.Process) -> str:
    """The command line of a process; empty when it is gone."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline()) if process.status() != psutil.STATUS_ZOMBIE else ""
    return ""


def _below(pid: int) -> set[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return {root, *root.children(recursive=True)}
    return set()


def _is_raylet_of(process: psutil.Process, address: str) -> bool:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        return process.name() == "raylet" and f"--gcs-address={address}" in " ".join(process.cmdline())
    return False


def _kill(*parts: str) -> Callable[[Scene], bool]:
    def strike(scene: Scene) -> bool:
        process = scene.find(*parts)
        if process is None:
            return False
        with suppress(psutil.NoSuchProcess):
            process.kill()
            return True
        return False  # it ended by itself meanwhile

    return strike


_kill_driver = _kill("jobs/pipeline.py")


def _freeze(scene: Scene) -> bool:
    process = scene.find("ray::EnvironmentServer")
    if process is None:
        return False
    with suppress(psutil.NoSuchProcess):
        process.suspend()
        deadline = time.monotonic() + FREEZE_S
        while time.monotonic() < deadline and process.is_running() and scene.job.poll() is None:
            time.sleep(0.2)
        process.resume()
    return True


def _endpoint(*faults: Any) -> Callable[[Scene], bool]:
    def strike(scene: Scene) -> bool:
        try:
            is_late = "llm" in scene.facts("select")
        except StoreError:  # another fault has damaged it, and the job has not said so yet
            return False
        if not is_late:
            scene.endpoint.play(*faults)
        return not is_late

    return strike


def _torn(scene: Scene) -> bool:
    """The driver is killed while it writes a line."""
    journals = [file for file in scene.folder.rglob("*.jsonl") if "metrics" not in file.parts]
    if not journals or not _kill_driver(scene):
        return False
    scene.job.wait()
    newest = max(journals, key=lambda file: file.stat().st_mtime_ns)
    os.truncate(newest, max(0, newest.stat().st_size - 7))
    return True


def _full(scene: Scene) -> bool:
    """A disk without room until the job has ended."""
    filler = scene.folder.parent / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    scene.job.wait()
    filler.unlink()
    return True


def _unreadable(scene: Scene) -> bool:
    """A manifest is no JSON any more; the user does what the line says and deletes it."""
    manifests = list(scene.folder.glob("*/manifest.json"))
    if not manifests or not _kill_driver(scene):
        return False
    scene.job.wait()
    max(manifests, key=lambda file: file.stat().st_mtime_ns).write_text("{")
    return True


def _launcher(scene: Scene) -> bool:
    """Nothing is left to clean up after it; the head and the driver must end on their own."""
    scene.family()
    scene.job.kill()
    scene.job.wait()
    psutil.wait_procs(scene.seen, timeout=120)
    return True


SLEEP = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left) {
    void *from = clock == CLOCK_MONOTONIC ? dlopen("libc.so.6", RTLD_LAZY) : RTLD_NEXT;
    int (*sleep)(clockid_t, int, const struct timespec *, struct timespec *) = dlsym(from, "clock_nanosleep");
    return sleep(clock, flags, until, left);
}
"""
"""Python's sleep, past libfaketime: before 0.9.11 that gets its end wrong where the monotonic clock is as it was."""


def can_move_clocks() -> bool:
    """Whether there is libfaketime, and a compiler for what it lacks."""
    return FAKETIME.exists() and shutil.which("cc") is not None


def movable(clock: Path) -> dict[str, str]:
    """The environment of processes whose wall clock a file moves while they run; their monotonic clock is as it was."""
    clock.write_text("+0")
    sleep = clock.with_name("sleep.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-o", str(sleep), "-"], input=SLEEP, text=True, check=True)
    return {
        "LD_PRELOAD": f"{sleep}:{FAKETIME}", "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
    }  # fmt: skip


def _move(seconds: int) -> Callable[[Scene], bool]:
    def strike(scene: Scene) -> bool:
        moved = scene.clock.with_suffix(".moved")
        moved.write_text(f"{int(scene.clock.read_text()) + seconds:+d}")
        moved.replace(scene.clock)
        return True

    return strike


_SLOW = Answer(first_step({"messages": ["", {"content": "[step 0]"}]}).text, delay_s=45.0)
FAULTS = {
    "driver": Fault("SIGKILL of the driver", _kill_driver),
    "server": Fault("SIGKILL of an environment server", _kill("ray::EnvironmentServer")),
    "frozen": Fault(f"SIGSTOP of an environment server for {FREEZE_S:g} s", _freeze),
    "worker": Fault("SIGKILL of a training worker", _kill("ray::RayTrainWorker"), "train"),
    "controller": Fault("SIGKILL of Ray Train's controller", _kill("ray::TrainController"), "train"),
    "data": Fault("SIGKILL of a Ray Data worker", _kill("ray::MapWorker", "ray::Map"), "select"),
    "engine": Fault("SIGKILL of an engine", _kill("ray::Engine", "VLLM::EngineCore"), "evaluate"),
    "raylet": Fault("SIGKILL of the raylet", _kill("/raylet/raylet "), on_own_head=True),
    "head": Fault("SIGKILL of the head's GCS", _kill("/gcs/gcs_server "), on_own_head=True),
    "supervisor": Fault("SIGKILL of Ray's supervisor of the job", _kill("ray::JobSupervisor"), on_own_head=True),
    "launcher": Fault("SIGKILL of the launcher", _launcher, on_own_head=True),
    "garbage": Fault(
        "the endpoint answers garbage", _endpoint(Raw(b"<html>"), Reset(), Status(500), Raw(b"{")), "select"
    ),
    "slow": Fault("the endpoint takes 45 s for an answer", _endpoint(_SLOW), "select"),
    "torn": Fault("SIGKILL of the driver, the last line torn", _torn, on_disk=True),
    "unreadable": Fault("SIGKILL of the driver, a manifest damaged", _unreadable, on_disk=True),
    "full": Fault("a full disk, then room", _full, on_disk=True),
    "ahead": Fault("the clock moved an hour ahead", _move(3600), moves_clock=True),
    "behind": Fault("the clock moved a minute back", _move(-60), moves_clock=True),
}


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of 256 MB for the disturbed run; yields whether this machine lets us have one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m", "chaos", str(folder)], capture_output=True, check=False
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=False)
