"""The finished pipeline, some units of it once more under faults drawn from a seed: it ends as the undisturbed one."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from atlas_ray.store import Store
from benchmarks import _faults, chaos
from tests.conftest import ROOT
from tests.pipeline.conftest import TINY

needs_faketime = pytest.mark.skipif(
    not _faults.can_move_clocks(), reason="no libfaketime (`make faketime` gets Debian's) or no C compiler"
)


@pytest.mark.parametrize(
    ("seed", "kinds", "units"),
    [
        (1, "torn,driver", ["select:llm", "evaluate:random"]),
        (7, "worker,controller", ["train:llm"]),
        (10, "driver,engine", ["evaluate:llm"]),
        pytest.param(1, "ahead,behind", ["select:llm", "evaluate:random"], marks=needs_faketime),
    ],
)
def test_a_disturbed_run_ends_as_the_undisturbed_one(run, finished, seed, kinds, units):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", "--seeds", str(seed), "--kills", str(len(kinds.split(","))),
         "--kinds", kinds, "--calm", finished, "--redo", *units, "--config", TINY, "--model", run.model],
        env=run.env, cwd=ROOT, timeout=400, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_seed_is_what_it_strikes_at_and_when(tmp_path):
    rows = {"select/journal/a": 9, "metrics/select": 1, "metrics/train": 5, "evaluation/llm/maze": 6}
    for name, count in rows.items():
        file = tmp_path / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}\n" * count)
    kinds = ["garbage", "worker", "engine", "driver"]
    stages = {"garbage": range(10), "worker": range(10, 15), "engine": range(15, 21), "driver": range(21)}
    nights = [chaos.drawn(seed, 3, kinds, tmp_path, 0) for seed in range(50)]
    assert nights == [chaos.drawn(seed, 3, kinds, tmp_path, 0) for seed in range(50)]
    assert all(len({each.kind for each in night}) == 3 for night in nights)
    assert all(each.at in stages[each.kind] for night in nights for each in night)
    assert {each.at for night in nights for each in night if each.kind == "worker"} == set(stages["worker"])
    begun = chaos.drawn(0, 4, kinds, tmp_path, 18)  # units of a finished run once more
    assert {each.at for each in begun} <= set(range(18, 21))


def test_a_run_on_object_storage_is_looked_at_in_a_copy(tmp_path, s3):
    store = Store(f"{s3}/looked-at/run")
    store.append([{"key": "a"}], "evaluation", "llm", "maze.jsonl")
    store.finish("evaluate", "llm", "k")
    store.write_json({}, "evaluation", "llm", "results.json")
    scene = _faults.Scene(store, tmp_path / "copy", None, None, tmp_path / "clock")
    scene.look()
    assert chaos.rows_of(scene.folder) == 1
    assert set(scene.facts("evaluate")) == {"llm"}
    assert not (scene.folder / "evaluation" / "llm" / "results.json").exists()
    scene.look(whole=True)
    assert (scene.folder / "evaluation" / "llm" / "results.json").exists()


CLOCKS = "import time\nwhile input(): time.sleep(0.001); print(time.time(), time.monotonic(), flush=True)"


@needs_faketime
def test_a_clock_moves_under_a_running_process_and_durations_do_not(tmp_path):
    environment = os.environ | _faults.movable(tmp_path / "clock")
    with subprocess.Popen(
        [sys.executable, "-c", CLOCKS], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:

        def ahead() -> int:
            """Minutes by which the wall clock of the process is ahead of ours; its other clock must not be."""
            process.stdin.write("?\n")
            process.stdin.flush()
            wall, monotonic = map(float, process.stdout.readline().split())
            assert abs(monotonic - time.monotonic()) < 600
            return round((wall - time.time()) / 60)

        scene = _faults.Scene(Store(str(tmp_path)), tmp_path, None, process, tmp_path / "clock")
        assert ahead() == 0
        for kind, minutes in (("ahead", 60), ("behind", 59)):
            assert _faults.FAULTS[kind].strike(scene)
            until = time.monotonic() + 60
            while ahead() != minutes:
                assert time.monotonic() < until
        process.stdin.write("\n")


def test_lists_of_seeds_are_numbers_and_ranges():
    assert chaos.seeds("1-3,7") == [1, 2, 3, 7]
    with pytest.raises(chaos.ArgumentTypeError, match="no list of seeds"):
        chaos.seeds("all")
