"""Import of other people's trajectories: rate and memory, beside Hugging Face datasets on the same files.

`python -m benchmarks.data [claim ...]` with claims `rate` and `memory` of the import, and `tokenising`
(`_tokenising.py`); all by default. The files are AgentTraj-L rows of 10 steps in JSON Lines. Ours are validated,
counted, sorted and written as Parquet; `datasets.load_dataset` turns the same files into Arrow files and validates
nothing. Both use two processes. The peer is left out where .venv-peers lacks it (requirements/install_peers.sh).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil

from benchmarks._tokenising import tokenising
from benchmarks._watch import Watch
from benchmarks.result import Result, asked, parser_for, publish

TRAJECTORIES, STEPS, FILES = 100_000, 10, 4
ROUNDS = 3
PEER = "datasets.load_dataset, num_proc=2"
_PEERS_PYTHON = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
_OURS = """
import sys, time
import ray
from atlas_ray.config import CollectConfig
from atlas_ray.pipeline.imports import import_files
from atlas_ray.store import Store
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
         object_store_memory=200_000_000)
ray.get([ray.remote(lambda: time.sleep(0.5)).remote() for _ in range(2)])
start = time.monotonic()
facts = import_files(CollectConfig(source=sys.argv[1]), Store(sys.argv[2]))
print(facts["trajectories"], time.monotonic() - start)
"""
_THEIRS = """
import sys, time
import datasets
datasets.disable_progress_bars()
start = time.monotonic()
found = datasets.load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[2], num_proc=2)
print(len(found), time.monotonic() - start)
"""


def main() -> None:
    """Measure what is asked for and publish."""
    claims: dict[str, Callable[[Path], list[Result]]] = {"rate": _rate, "memory": _memory, "tokenising": tokenising}
    parser = parser_for("data", __doc__)
    parser.add_argument("--trajectories", type=int, default=TRAJECTORIES, help=f"rows of the files [{TRAJECTORIES}]")
    options = asked(parser, claims)
    results: list[Result] = []
    for name in options.claims:
        with tempfile.TemporaryDirectory(prefix="atlas-bench-") as folder:
            _write(Path(folder) / "all", options.trajectories)
            results += claims[name](Path(folder))
    publish("data", results)


def _rate(folder: Path) -> list[Result]:
    """Trajectories a second; both take turns."""
    ours, theirs = [], []
    for number in range(ROUNDS):
        ours.append(_run(sys.executable, _OURS, folder / "all", folder / f"run{number}"))
        if _PEERS_PYTHON.exists():
            theirs.append(_run(str(_PEERS_PYTHON), _THEIRS, folder / "all", folder / f"cache{number}"))
    rate, size = median(ours), sum(path.stat().st_size for path in (folder / "all").iterdir()) / 2**20
    detail = f"{_shown(ours)} of {size:,.0f} MiB, validated, sorted and written"
    found = [Result("import: rate on two cores", "goal alone", rate, "trajectories/s", 5000, detail=detail)]
    if theirs:
        detail = f"{rate:,.0f} against {_shown(theirs)}, which validates nothing"
        found.append(Result("import: rate beside datasets", PEER, rate / median(theirs), "x", None, detail=detail))
    return found


def _memory(folder: Path) -> list[Result]:
    """Peak memory of the job and its tasks for the whole and for a quarter of it; Ray's own processes are the same."""
    peaks = []
    _write(folder / "quarter", sum(1 for path in (folder / "all").iterdir() for _ in path.open("rb")) // 4)
    for name in ("quarter", "all"):
        process = _start(sys.executable, _OURS, folder / name, folder / f"run-{name}")
        with Watch(process.pid) as watch:
            _finished(process)
        peaks.append((watch.driver_mib, watch.cluster_mib))
    (small, _), (large, cluster) = peaks
    detail = f"driver {small:.0f} MiB for a quarter, {large:.0f} for all; with Ray and its workers {cluster:.0f}"
    return [Result("import: memory of four times the trajectories", "itself", large / small, "x", 1.25, at_least=False,
                   detail=detail)]  # fmt: skip


def _run(python: str, code: str, source: Path, target: Path) -> float:
    """Trajectories a second."""
    return _finished(_start(python, code, source, target))


def _start(python: str, code: str, source: Path, target: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "HF_HUB_OFFLINE": "1"}
    arguments = [python, "-c", code, f"{source}/*.jsonl", str(target)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)


def _finished(process: subprocess.Popen[str]) -> float:
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a process of the benchmark ended with {process.returncode}")
    count, seconds = output.split()[-2:]
    return int(count) / float(seconds)


def _shown(rates: list[float]) -> str:
    return f"{' '.join(f'{rate:,.0f}' for rate in rates)} trajectories/s (load {psutil.getloadavg()[0]:.1f})"


def _write(folder: Path, count: int) -> None:
    """AgentTraj-L rows of about 5 KB whose ids are in no order."""
    folder.mkdir()
    rng = random.Random(0)
    words = "the red ball is two steps in front of you and a door to your left go open take put look at north".split()

    def text(length: int) -> str:
        return " ".join(rng.choices(words, k=length))

    observations, actions = ([text(length) for _ in range(1000)] for length in (50, 20))
    for number in range(FILES):
        with (folder / f"textcraft-{number}.jsonl").open("w") as file:
            for index in range(number, count, FILES):
                turns = [
                    {"from": "human", "loss": None, "value": text(100)},
                    {"from": "gpt", "loss": False, "value": "OK."},
                ]
                for _ in range(STEPS):
                    turns.append({"from": "human", "loss": None, "value": rng.choice(observations)})
                    action = f"Thought:\n{rng.choice(actions)}\n\nAction:\n{rng.choice(words)} {index}"
                    turns.append({"from": "gpt", "loss": True, "value": action})
                file.write(
                    json.dumps({"conversations": turns, "item_id": f"textcraft_{index * 7919 % 1_000_003}"}) + "\n"
                )


if __name__ == "__main__":
    main()
