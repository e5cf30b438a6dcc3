"""What a night does to a run: the whole pipeline under faults drawn from a seed, and the same command again.

`python -m benchmarks.chaos --seed 3 --kills 6` runs the pipeline undisturbed, then a second time while it strikes at
moments drawn from the seed. A job that has ended is started again with the same command. At the end trajectories,
selections and weights must be equal byte by byte, episodes row by row, and no process may be left. Every fault is a row
of the table: whether the job survived it or ended, with which line, and what it cost. The exit code is 1 if anything
differs. Options after `--` go to the pipeline. With RAY_ADDRESS the jobs run on that cluster of this machine, whose
head and raylets are then left alone.

`--calm RUN --redo train:llm` takes a finished run for the undisturbed one and does one unit of it again under faults.
Its selector is then that of OPENAI_BASE_URL, which is part of what the run was made from, and is left alone.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from atlas_ray.store import Store
from benchmarks.result import parser_for
from tests import tiny_model
from tests.endpoint_server import Answer, EndpointServer, Raw, Reset, Status, first_step

ROOT = Path(__file__).parents[1]
FREEZE_S = 60.0
MOST_STARTS = 4
"""Starts of the same command after one fault."""
NOTHING = "nothing to strike"


@dataclass
class Scene:
    """The disturbed run, as faults see it."""

    folder: Path
    """The run directory."""
    endpoint: EndpointServer
    job: subprocess.Popen[str]
    seen: set[psutil.Process] = field(default_factory=set)
    """Every process that a job has started."""

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
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                line = " ".join(process.cmdline())
                is_tool = "atlas_ray.cli.launch" in line or " job submit" in line or "/bin/sh" in line
                if any(part in line for part in parts) and not is_tool and process.status() != psutil.STATUS_ZOMBIE:
                    return process
        return None

    def facts(self, stage: str) -> dict[str, Any]:
        return Store(str(self.folder)).facts(stage)


@dataclass(frozen=True)
class Fault:
    """One kind of fault. `strike` returns whether it found what it strikes at."""

    what: str
    strike: Callable[[Scene], bool]
    on_own_head: bool = False
    """Whether it strikes at what a job of a cluster of RAY_ADDRESS shares with others."""


@dataclass
class Struck:
    """A row of the table."""

    what: str
    at: int
    outcome: str = "survived"
    seconds: float = 0.0
    said: str = ""


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
        process.kill()
        return True

    return strike


def _freeze(scene: Scene) -> bool:
    process = scene.find("ray::EnvironmentServer")
    if process is None:
        return False
    process.suspend()
    deadline = time.monotonic() + FREEZE_S
    while time.monotonic() < deadline and process.is_running() and scene.job.poll() is None:
        time.sleep(0.2)
    with suppress(psutil.NoSuchProcess):
        process.resume()
    return True


def _endpoint(*faults: Any) -> Callable[[Scene], bool]:
    def strike(scene: Scene) -> bool:
        if "llm" in scene.facts("select"):
            return False
        scene.endpoint.play(*faults)
        return True

    return strike


def _torn(scene: Scene) -> bool:
    """The driver is killed while it writes a line."""
    journals = [file for file in scene.folder.rglob("*.jsonl") if "metrics" not in file.parts]
    if not journals or not _kill("jobs/pipeline.py")(scene):
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
    if not manifests or not _kill("jobs/pipeline.py")(scene):
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


_SLOW = Answer(first_step({"messages": ["", {"content": "[step 0]"}]}).text, delay_s=45.0)
FAULTS = {
    "driver": Fault("SIGKILL of the driver", _kill("jobs/pipeline.py")),
    "server": Fault("SIGKILL of an environment server", _kill("ray::EnvironmentServer")),
    "frozen": Fault(f"SIGSTOP of an environment server for {FREEZE_S:g} s", _freeze),
    "worker": Fault("SIGKILL of a training worker", _kill("ray::RayTrainWorker")),
    "controller": Fault("SIGKILL of Ray Train's controller", _kill("ray::TrainController")),
    "data": Fault("SIGKILL of a Ray Data worker", _kill("ray::MapWorker", "ray::Map")),
    "engine": Fault("SIGKILL of an engine", _kill("ray::Engine", "VLLM::EngineCore")),
    "raylet": Fault("SIGKILL of the raylet", _kill("/raylet/raylet "), on_own_head=True),
    "head": Fault("SIGKILL of the head's GCS", _kill("/gcs/gcs_server "), on_own_head=True),
    "launcher": Fault("SIGKILL of the launcher", _launcher, on_own_head=True),
    "garbage": Fault("the endpoint answers garbage", _endpoint(Raw(b"<html>"), Reset(), Status(500), Raw(b"{"))),
    "slow": Fault("the endpoint takes 45 s for an answer", _endpoint(_SLOW)),
    "torn": Fault("SIGKILL of the driver, the last line torn", _torn),
    "unreadable": Fault("SIGKILL of the driver, a manifest damaged", _unreadable),
    "full": Fault("a full disk, then room", _full),
}


class Command:
    """The pipeline's command on one run directory.

    Args:
        run_dir: of the run.
        options: of the pipeline.
        endpoint: base URL of the selector.
    """

    def __init__(self, run_dir: Path, options: list[str], endpoint: str) -> None:
        job = ["jobs/pipeline.py", "--run_dir", str(run_dir), *options]
        launch = [] if os.environ.get("RAY_ADDRESS") else ["-m", "atlas_ray.cli.launch", "--", "python"]
        self._command = [sys.executable, *launch, *job]
        self._env = os.environ | {"PYTHONPATH": str(ROOT), "OPENAI_BASE_URL": endpoint, "OPENAI_API_KEY": "sk-chaos"}
        self.log = run_dir.with_suffix(".log")

    def start(self) -> subprocess.Popen[str]:
        with self.log.open("w") as log:
            return subprocess.Popen(self._command, cwd=ROOT, env=self._env, stdout=log, stderr=log, text=True)

    def said(self) -> str:
        """The line that an ended job left for the user."""
        lines = self.log.read_text(errors="replace").splitlines()
        if any(line.startswith("Traceback") for line in lines):
            return "a traceback"
        return next((line for line in reversed(lines) if line.startswith("error: ")), "")


def progress(folder: Path) -> int:
    """Rows in the journals of a run."""
    return sum(file.read_bytes().count(b"\n") for file in folder.rglob("*.jsonl"))


def disturbed(command: Command, scene: Scene, kinds: list[str], moments: list[int]) -> Iterator[Struck]:
    """Run the command to its end; strike at each moment, or when the target is there after it.

    Raises:
        RuntimeError: the same command does not get to the end.
    """
    rows: list[Struck] = []
    waiting = list(zip(kinds, moments, strict=True))
    starts, begun = 0, time.monotonic()
    while (code := scene.job.poll()) is None or code != 0:
        scene.family()
        if code is not None:
            said = command.said()
            if rows and starts == 0:
                rows[-1].outcome, rows[-1].said = "ended, went on by the same command", said
            if "is not JSON" in said:
                Path(said.removeprefix("error: ").partition(" is not JSON")[0]).unlink()  # as the line says
            print(f"  the job ended with code {code} ({said or 'no line'}); the same command again", flush=True)
            starts += 1
            if not rows or starts > MOST_STARTS:
                raise RuntimeError(f"the job does not get to its end: {said or code}; see {command.log}")
            scene.job = command.start()
        elif waiting and progress(scene.folder) >= waiting[0][1]:
            kind, moment = waiting[0]
            struck = time.monotonic()
            if FAULTS[kind].strike(scene):
                if rows:
                    rows[-1].seconds = struck - begun
                rows.append(Struck(FAULTS[kind].what, moment))
                print(f"{FAULTS[kind].what} after row {progress(scene.folder)}", flush=True)
                waiting.pop(0)
                starts, begun = 0, struck
        time.sleep(0.2)
    if rows:
        rows[-1].seconds = time.monotonic() - begun
    yield from rows
    yield from (Struck(FAULTS[kind].what, moment, NOTHING) for kind, moment in waiting)


def differences(first: Path, second: Path) -> list[str]:
    """What the disturbed run has otherwise than the undisturbed one."""
    found = []
    for pattern in ("trajectories/*.parquet", "selections/*/*.parquet", "checkpoints/*/model.safetensors"):
        names = [sorted(str(file.relative_to(run)) for file in run.glob(pattern)) for run in (first, second)]
        if names[0] != names[1] or not names[0]:
            found.append(f"{pattern}: {names[0]} and {names[1]}")
        found += [name for name in names[0] if (first / name).read_bytes() != (second / name).read_bytes()]
    episodes = [_episodes(run) for run in (first, second)]
    if episodes[0] != episodes[1]:
        keys = {key for key in {*episodes[0], *episodes[1]} if episodes[0].get(key) != episodes[1].get(key)}
        found.append(f"{len(keys)} of {len(episodes[0])} episodes")
    return found


def _episodes(run: Path) -> dict[str, dict[str, Any]]:
    """Each episode as its journal has it, without what it cost; the last one where a line was owed again."""
    store = Store(str(run))
    files = [file.relative_to(run).parts for file in sorted(run.glob("evaluation/*/*.jsonl"))]
    return {row["key"]: row | _COST_NOTHING for parts in files for row in store.journal(*parts)}


_COST_NOTHING = {"seconds": 0.0, "cached_tokens": 0}
"""What an episode says of the machine: an engine that was started anew begins with an empty cache."""


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


def _end(scene: Scene) -> None:
    """End a job that is still there, because chaos itself was interrupted."""
    if scene.job.poll() is None:
        scene.job.terminate()
        scene.job.wait()


def again(calm: Path, folder: Path, units: list[str]) -> None:
    """Copy a finished run without some of its units (`select:llm`), as if they had not been done yet.

    Raises:
        KeyError: the run has no such unit.
    """
    shutil.copytree(calm, folder, dirs_exist_ok=True)
    store = Store(str(folder))
    for unit in units:
        stage, _, name = unit.partition(":")
        facts = store.facts(stage)
        del facts[name]
        store.write_json(facts, stage, "manifest.json")
        store.remove(_FOLDERS[stage], name)
        if stage == "select":
            store.remove("select", "journal")
        if stage == "train":
            kept = [row for row in store.journal("metrics", "train.jsonl") if row["checkpoint"] != name]
            store.remove("metrics", "train.jsonl")
            store.append(kept, "metrics", "train.jsonl")


_FOLDERS = {"select": "selections", "train": "checkpoints", "evaluate": "evaluation"}
"""Where the units of a stage are."""


def undisturbed(folder: Path, options: list[str], endpoint: EndpointServer) -> float:
    """Run the pipeline; returns its seconds."""
    calm, begun = Command(folder, options, endpoint.url), time.monotonic()
    if calm.start().wait():
        print(calm.log.read_text(), file=sys.stderr)
        raise SystemExit("the undisturbed run failed")
    seconds = time.monotonic() - begun
    print(f"undisturbed: {seconds:.0f} s, {progress(folder)} rows, {endpoint.calls} calls", flush=True)
    return seconds


def main() -> int:
    """Run, disturb, compare; returns the exit code."""
    parser = parser_for("chaos", __doc__)
    parser.add_argument("--config", default=str(Path(__file__).with_name("chaos.yaml")), help="[benchmarks/chaos.yaml]")
    parser.add_argument("--model", help="model directory [a random Llama of 2 layers]")
    parser.add_argument("--seed", type=int, default=0, help="draws kinds and moments [0]")
    parser.add_argument("--kills", type=int, default=6, help="faults [6]")
    parser.add_argument("--kinds", default=",".join(FAULTS), help="kinds to draw from [all]: %(default)s")
    parser.add_argument("--calm", type=Path, help="a finished run of these options [a new one]")
    parser.add_argument("--redo", nargs="+", default=[], help="with --calm: units to do again, as STAGE:NAME")
    parser.add_argument("options", nargs="*", help="options of the pipeline, after --")
    chosen = parser.parse_args()
    shared = bool(os.environ.get("RAY_ADDRESS"))
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atlas-chaos-")))
        has_disk = stack.enter_context(small_disk(home / "disk"))
        kinds = [kind for kind in chosen.kinds.split(",") if not (shared and FAULTS[kind].on_own_head)]
        kinds = [kind for kind in kinds if kind != "full" or has_disk]
        kinds = [kind for kind in kinds if kind not in ("garbage", "slow") or not chosen.calm]
        model = chosen.model or tiny_model.write(home / "model")
        options = ["--config", chosen.config, "--model", model, *chosen.options]
        folder, calm = home / "disk" / "run", chosen.calm or home / "calm"
        with EndpointServer() as endpoint:
            seconds = 0.0 if chosen.calm else undisturbed(calm, options, endpoint)
            paid, rows_of_calm = endpoint.calls, progress(calm)
            if chosen.redo:
                again(calm, folder, chosen.redo)
            draw = random.Random(chosen.seed)
            drawn = (
                draw.sample(kinds, chosen.kills) if chosen.kills <= len(kinds) else draw.choices(kinds, k=chosen.kills)
            )
            begin = progress(folder)
            moments = sorted(draw.randrange(begin, max(rows_of_calm, begin + 1)) for _ in drawn)
            command = Command(folder, options, os.environ["OPENAI_BASE_URL"] if chosen.calm else endpoint.url)
            scene = Scene(folder, endpoint, command.start())
            stack.callback(_end, scene)
            rows = list(disturbed(command, scene, drawn, moments))
            calls = endpoint.calls - paid
        wrong = differences(calm, folder)
        _, left = psutil.wait_procs(scene.seen, timeout=60)
        wrong += [f"process left: {_line(each)[:80]}" for each in left if _line(each)]
    _show(rows, seconds, rows_of_calm, f"{calls} calls of the endpoint, {paid} in the undisturbed run")
    wrong += [f"{row.what}: {row.said}" for row in rows if row.said == "a traceback"]
    wrong += [f"{row.what}: {row.outcome}" for row in rows if chosen.redo and row.outcome == NOTHING]
    print("\n".join(f"differs: {each}" for each in wrong) or "equal to the undisturbed run, no process left")
    return int(bool(wrong))


def _line(process: psutil.Process) -> str:
    """The command line of a process; empty when it is gone."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline()) if process.status() != psutil.STATUS_ZOMBIE else ""
    return ""


def _show(rows: list[Struck], seconds: float, total: int, calls: str) -> None:
    table = Table("fault", f"after row (of {total})", "outcome", "seconds to the next or the end", "said")
    for row in rows:
        table.add_row(row.what, str(row.at), row.outcome, f"{row.seconds:.0f}", row.said)
    Console(width=200).print(table)
    print(f"undisturbed {seconds:.0f} s; {calls}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
