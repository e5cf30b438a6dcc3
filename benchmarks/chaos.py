"""What a night does to a run: the whole pipeline under faults drawn from a seed, and the same command again.

`python -m benchmarks.chaos --seeds 1-30 --kills 3 --into build/chaos` runs the pipeline undisturbed, then once for
every seed while it strikes at moments drawn from the seed. A job that has ended is started again with the same command.
At the end trajectories, selections and weights must be equal byte by byte, episodes row by row, no more calls may be
paid than the faults cost, and no process may be left. The table has a row for every kind of fault; the exit code is 1
if anything differs. Options after `--` go to the pipeline. With RAY_ADDRESS the jobs run on that cluster of this
machine, whose head and raylets are then left alone. With `--s3` the disturbed runs are on an S3 server (moto's).

The folder of `--into` keeps the undisturbed run, a line for every finished seed (`seeds.jsonl`) and the runs that
differ; the same command goes on with the seeds that have no line yet.

`--calm RUN --redo train:llm` takes a finished run for the undisturbed one and does one unit of it again under faults.
Its selector is then that of OPENAI_BASE_URL, which is part of what the run was made from, and is left alone.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentTypeError
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from atlas_ray.store import Store
from benchmarks._faults import FAULTS, Scene, can_move_clocks, line_of, movable, small_disk
from benchmarks.result import parser_for
from tests import tiny_model
from tests.endpoint_server import EndpointServer
from tests.s3 import BUCKET, s3_server

ROOT = Path(__file__).parents[1]
MOST_STARTS = 4
"""Starts of the same command after one fault."""
HANGS_AFTER_S = 1200.0
"""Seconds without a new row or line of the job after which it is given up: it hangs."""
CALLS_OF_A_FAULT = 4
"""Calls of the endpoint that a fault may cost: two in flight and a torn answer, or four that were garbage."""
SURVIVED, WENT_ON, NOTHING = "survived", "ended, went on by the same command", "nothing to strike"
_TICK_S = 1.0


@dataclass
class Struck:
    """One fault of a seed."""

    kind: str
    at: int
    """Rows in the journals after which it was due."""
    outcome: str = SURVIVED
    seconds: float = 0.0
    """Until the next row in a journal, or the end of the run."""
    said: str = ""
    """The line with which the job ended."""


@dataclass
class Night:
    """The disturbed run of one seed; a line of `seeds.jsonl`."""

    seed: int
    kills: int
    kinds: list[str]
    """From which the faults were drawn."""
    faults: list[Struck]
    seconds: float
    wrong: list[str] = field(default_factory=list)
    """What is otherwise than in the undisturbed run."""


@dataclass(frozen=True)
class Calm:
    """The undisturbed run."""

    folder: Path
    port: int = 0
    """Of the endpoint, whose URL is part of what the run was made from."""
    seconds: float = 0.0
    calls: int = 0
    """Of the endpoint."""


class Command:
    """The pipeline's command on one run directory.

    Args:
        run_dir: path or URL.
        options: of the pipeline.
        endpoint: base URL of the selector.
        logs: folder for a file of what each start says; not on the disk that gets full.
        environment: what its processes have in their environment besides.
    """

    def __init__(
        self, run_dir: str, options: list[str], endpoint: str, logs: Path, environment: dict[str, str] | None = None
    ) -> None:
        job = ["jobs/pipeline.py", "--run_dir", run_dir, *options]
        launch = [] if os.environ.get("RAY_ADDRESS") else ["-m", "atlas_ray.cli.launch", "--", "python"]
        self._command = [sys.executable, *launch, *job]
        ours = {"PYTHONPATH": str(ROOT), "OPENAI_BASE_URL": endpoint, "OPENAI_API_KEY": "sk-chaos"}
        self._env = os.environ | ours | (environment or {})
        self._logs, self._starts = logs, 0

    @property
    def log(self) -> Path:
        """Of the last start."""
        return self._logs / f"job-{self._starts}.log"

    def start(self) -> subprocess.Popen[str]:
        self._starts += 1
        with self.log.open("w") as log:
            return subprocess.Popen(self._command, cwd=ROOT, env=self._env, stdout=log, stderr=log, text=True)

    def said(self) -> str:
        """The line that an ended job left for the user."""
        lines = self.log.read_text(errors="replace").splitlines()
        if any(line.startswith("Traceback") for line in lines):
            return "a traceback"
        return next((line for line in reversed(lines) if line.startswith("error: ")), "")


def rows_of(folder: Path, stage: str = "") -> int:
    """Rows in the journals of a run, or of one of its stages."""
    journals = (file for file in folder.rglob("*.jsonl") if stage in ("", _stage_of(file.relative_to(folder))))
    return sum(file.read_bytes().count(b"\n") for file in journals)


def _stage_of(journal: Path) -> str:
    folder = journal.parts[0]
    return {"metrics": journal.stem, "evaluation": "evaluate"}.get(folder, folder)


def drawn(seed: int, kills: int, kinds: list[str], calm: Path, begin: int) -> list[Struck]:
    """The faults of a seed in order: kinds without repeats while there are enough, each at a moment of its stage.

    Args:
        seed: of the draw.
        kills: number of faults.
        kinds: to draw from.
        calm: the undisturbed run.
        begin: rows that the run has before its job starts.
    """
    draw, total = random.Random(seed), rows_of(calm)
    windows, start = {"": range(begin, max(total, begin + 1))}, 0
    for stage in ("select", "train", "evaluate") if not begin else ():
        windows[stage] = range(start, start := start + rows_of(calm, stage))
    chosen = draw.sample(kinds, kills) if kills <= len(kinds) else draw.choices(kinds, k=kills)
    of = {kind: windows.get(FAULTS[kind].during) or windows[""] for kind in kinds}
    faults = [Struck(kind, of[kind][int(draw.random() * len(of[kind]))]) for kind in chosen]
    return sorted(faults, key=lambda each: each.at)


def disturb(command: Command, scene: Scene, faults: list[Struck]) -> None:
    """Run the command to its end; strike when a fault is due and there is what it strikes at.

    Raises:
        RuntimeError: the same command does not get to the end, or hangs.
    """
    waiting, last, begun = list(faults), None, time.monotonic()
    starts, reached, moved, size = 0, 0, begun, 0
    for fault in faults:
        fault.outcome = NOTHING
    while (code := scene.job.poll()) is None or code != 0:
        time.sleep(_TICK_S)
        scene.family()
        scene.look()
        rows, now = rows_of(scene.folder), time.monotonic()
        if (rows, command.log.stat().st_size) != (reached, size):
            if last is not None and rows > reached and not last.seconds:
                last.seconds = now - begun
            reached, size, moved = rows, command.log.stat().st_size, now
        if now - moved > HANGS_AFTER_S:
            raise RuntimeError(f"the job hangs: no new row and no line for {HANGS_AFTER_S / 60:.0f} minutes")
        if code is not None:
            said = command.said()
            if last is not None and starts == 0:
                last.outcome, last.said = WENT_ON, said
            print(f"  the job ended with code {code} ({said or 'no line'}); the same command again", flush=True)
            starts += 1
            if last is None or starts > MOST_STARTS:
                raise RuntimeError(f"the job does not get to its end: {said or code}")
            if "is not JSON" in said:
                Path(said.removeprefix("error: ").partition(" is not JSON")[0]).unlink()  # as the line says
            scene.job = command.start()
            continue
        for fault in [each for each in waiting if each.at <= rows]:
            struck = time.monotonic()
            if not FAULTS[fault.kind].strike(scene):
                continue
            if last is not None and not last.seconds:
                last.seconds = struck - begun
            waiting.remove(fault)
            last, starts, begun, fault.outcome = fault, 0, struck, SURVIVED
            reached, moved = rows_of(scene.folder), time.monotonic()
            print(f"  {FAULTS[fault.kind].what} after row {rows}", flush=True)
            break
    if last is not None and not last.seconds:
        last.seconds = time.monotonic() - begun


def differences(first: Path, second: Path) -> list[str]:
    """What the disturbed run has otherwise than the undisturbed one."""
    found = []
    for pattern in ("trajectories/*.parquet", "selections/*/*.parquet", "checkpoints/*/model.safetensors"):
        names = [sorted(str(file.relative_to(run)) for file in run.glob(pattern)) for run in (first, second)]
        if names[0] != names[1] or not names[0]:
            found.append(f"{pattern}: {names[0]} and {names[1]}")
            continue
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


def _end(scene: Scene) -> None:
    """End a job that is still there, because it hangs or chaos itself was interrupted."""
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


def undisturbed(into: Path, options: list[str]) -> Calm:
    """The undisturbed run of a folder; it is run unless it is there already."""
    folder, facts = into / "calm", into / "calm.json"
    if facts.exists():
        return Calm(folder, **json.loads(facts.read_text()))
    shutil.rmtree(folder, ignore_errors=True)
    with EndpointServer() as endpoint:
        command, begun = Command(str(folder), options, endpoint.url, into), time.monotonic()
        if command.start().wait():
            print(command.log.read_text(), file=sys.stderr)
            raise SystemExit("the undisturbed run failed")
        calm = Calm(folder, int(endpoint.url.split(":")[2].partition("/")[0]), time.monotonic() - begun, endpoint.calls)
    facts.write_text(json.dumps({"port": calm.port, "seconds": calm.seconds, "calls": calm.calls}))
    print(f"undisturbed: {calm.seconds:.0f} s, {rows_of(folder)} rows, {calm.calls} calls", flush=True)
    return calm


def night(
    seed: int, kills: int, kinds: list[str], calm: Calm, options: list[str], redo: list[str], into: Path, on: str = ""
) -> Night:
    """Run, disturb, compare.

    Args:
        seed: draws the faults.
        kills: number of faults.
        kinds: to draw from.
        calm: the undisturbed run.
        options: of the pipeline.
        redo: units of the undisturbed run to do again; empty: the whole run.
        into: folder for a copy of a run that differs.
        on: URL of a folder for the disturbed run; empty: a disk.
    """
    begun = time.monotonic()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atlas-chaos-")))
        has_disk = stack.enter_context(small_disk(home / "disk"))
        folder = home / "disk" / "run"
        if redo:
            again(calm.folder, folder, redo)
        possible = [kind for kind in kinds if kind != "full" or has_disk]
        faults = drawn(seed, kills, possible, calm.folder, rows_of(folder))
        endpoint = stack.enter_context(EndpointServer(port=calm.port))
        url = endpoint.url if calm.port else os.environ["OPENAI_BASE_URL"]
        clock = home / "clock"
        moves = any(FAULTS[each.kind].moves_clock for each in faults)
        store = Store(f"{on}/{home.name}" if on else str(folder))
        command = Command(store.url, options, url, home, movable(clock) if moves else None)
        scene = Scene(store, folder, endpoint, command.start(), clock)
        stack.callback(_end, scene)
        try:
            disturb(command, scene, faults)
        except RuntimeError as error:
            _end(scene)
            wrong = [str(error)]
        else:
            scene.look(whole=True)
            wrong = differences(calm.folder, folder)
        most = calm.calls + CALLS_OF_A_FAULT * len(faults)
        if endpoint.calls > most:
            wrong.append(f"{endpoint.calls} calls of the endpoint, {calm.calls} in the undisturbed run")
        _, left = psutil.wait_procs(scene.seen, timeout=60)
        wrong += [f"process left: {line_of(each)[:80]}" for each in left if line_of(each)]
        wrong += [f"{FAULTS[each.kind].what}: {each.said}" for each in faults if each.said == "a traceback"]
        wrong += [f"{FAULTS[each.kind].what}: {NOTHING}" for each in faults if redo and each.outcome == NOTHING]
        if wrong:
            kept = into / f"seed-{seed}"
            kept.mkdir(exist_ok=True)
            if folder.exists():
                shutil.copytree(folder, kept / "run", dirs_exist_ok=True)
            for log in home.glob("job-*.log"):
                shutil.copy(log, kept)
    return Night(seed, kills, kinds, faults, time.monotonic() - begun, wrong)


def finished(file: Path) -> list[Night]:
    """The nights of `seeds.jsonl`."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [Night(**line | {"faults": [Struck(**each) for each in line["faults"]]}) for line in lines]


def show(nights: Sequence[Night]) -> None:
    """A row for every kind of fault, and what differs."""
    struck = [(each, bool(it.wrong)) for it in nights for each in it.faults if each.outcome != NOTHING]
    table = Table("fault", "struck", "survived", "ended, went on", "differs", "median seconds until a new row")
    for kind, fault in FAULTS.items():
        ours = [(each, differs) for each, differs in struck if each.kind == kind]
        if ours:
            outcomes = [each.outcome for each, _ in ours]
            counts = len(ours), outcomes.count(SURVIVED), outcomes.count(WENT_ON), sum(differs for _, differs in ours)
            seconds = statistics.median(each.seconds for each, _ in ours)
            table.add_row(fault.what, *map(str, counts), f"{seconds:.0f}")
    Console(width=160).print(table)
    wrong = [f"seed {it.seed} differs: {each}" for it in nights for each in it.wrong]
    late = sum(each.outcome == NOTHING for it in nights for each in it.faults)
    print("\n".join(wrong) or "all equal to the undisturbed run, no process left")
    print(f"{len(nights)} seeds, {len(struck)} faults; {late} were drawn that found nothing to strike any more")


def seeds(text: str) -> list[int]:
    """The numbers of `1-30,40`."""
    try:
        ranges = [part.partition("-") for part in text.split(",")]
        return [seed for first, _, last in ranges for seed in range(int(first), int(last or first) + 1)]
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no list of seeds like 1-30,40") from error


def main() -> int:
    """Every seed that has no line yet; returns the exit code."""
    parser = parser_for("chaos", __doc__)
    parser.add_argument("--config", default=str(Path(__file__).with_name("chaos.yaml")), help="[benchmarks/chaos.yaml]")
    parser.add_argument("--model", help="model directory [a random Llama of 2 layers]")
    parser.add_argument("--seeds", type=seeds, default=[0], help="each draws kinds and moments, as in 1-30,40 [0]")
    parser.add_argument("--kills", type=int, default=3, help="faults of a seed [3]")
    parser.add_argument("--kinds", default=",".join(FAULTS), help="kinds to draw from [all]: %(default)s")
    parser.add_argument("--into", type=Path, help="folder of what is kept [a temporary one]")
    parser.add_argument("--s3", action="store_true", help="disturbed runs are on object storage")
    parser.add_argument("--calm", type=Path, help="a finished run of these options [a new one]")
    parser.add_argument("--redo", nargs="+", default=[], help="with --calm: units to do again, as STAGE:NAME")
    parser.add_argument("options", nargs="*", help="options of the pipeline, after --")
    chosen = parser.parse_args()
    kinds = [
        kind for kind in chosen.kinds.split(",") if not (os.environ.get("RAY_ADDRESS") and FAULTS[kind].on_own_head)
    ]
    kinds = [kind for kind in kinds if kind not in ("garbage", "slow") or not chosen.calm]
    kinds = [kind for kind in kinds if not FAULTS[kind].moves_clock or can_move_clocks()]
    kinds = [kind for kind in kinds if not (chosen.s3 and FAULTS[kind].on_disk)]
    if chosen.s3 and chosen.redo:
        parser.error("--s3 needs whole runs; leave --redo out")
    if not kinds:
        parser.error(f"--kinds: none of {chosen.kinds} can be done here (clocks need `make faketime` and a C compiler)")
    with ExitStack() as stack:
        into = (
            chosen.into.resolve()
            if chosen.into
            else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atlas-chaos-")))
        )
        into.mkdir(parents=True, exist_ok=True)
        model = chosen.model or tiny_model.write(into / "model")
        options = ["--config", chosen.config, "--model", model, *chosen.options]
        calm = Calm(chosen.calm) if chosen.calm else undisturbed(into, options)
        on = f"s3://{BUCKET}" if chosen.s3 else ""
        if on:
            os.environ.update(stack.enter_context(s3_server()))
        lines = into / ("seeds-s3.jsonl" if on else "seeds.jsonl")
        nights = finished(lines)
        for seed in chosen.seeds:
            if (seed, chosen.kills, kinds) in [(it.seed, it.kills, it.kinds) for it in nights]:
                continue
            print(f"seed {seed}", flush=True)
            nights.append(night(seed, chosen.kills, kinds, calm, options, chosen.redo, into, on))
            with lines.open("a") as file:
                file.write(json.dumps(asdict(nights[-1])) + "\n")
            print(f"  {nights[-1].seconds:.0f} s; {'; '.join(nights[-1].wrong) or 'equal'}", flush=True)
    show(nights)
    return int(any(it.wrong for it in nights))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
