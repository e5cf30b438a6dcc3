"""Import: filters as for experts, counts, and what is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from atlas_ray.config import CollectConfig
from atlas_ray.errors import ConfigError, DataError
from atlas_ray.pipeline import imports
from atlas_ray.pipeline.imports import import_files, survey
from atlas_ray.store import Store
from tests.conftest import PYTHONPATH
from tests.reference import reference

TURNS = [{"role": "user", "content": "Do it."}, {"role": "assistant", "content": "Action: go"}]
ROOT = Path(__file__).parents[2]


def write(path: Path, *rows: Any) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps({"messages": TURNS} | row) for row in rows))
    return str(path)


def imported(tmp_path: Path, source: str, **options: Any) -> tuple[list[str], dict[str, Any]]:
    store = Store(str(tmp_path / "run"))
    facts = import_files(CollectConfig(source=source, **options), store)
    return [one.trajectory_id for one in store.read_trajectories()], facts


def test_bad_rows_are_named_and_counted_and_the_others_stored(tmp_path, capsys):
    source = write(tmp_path / "maze.jsonl", {}, '{"messages": []}', "{torn", {})
    ids, facts = imported(tmp_path, source)
    assert ids == ["maze:0", "maze:3"]
    assert facts == {"trajectories": 2, "dropped": {"malformed row": 2}}
    said = capsys.readouterr().out
    assert "maze.jsonl: row 1: field messages: expected a non-empty list" in said
    assert "dropped 2 rows: malformed row" in said


OUTCOMES = (
    {"id": "won", "reward": 1, "success": 1}, {"id": "lost", "reward": 0.4, "success": 0},
    {"id": "near", "reward": 0.9},
    {"id": "untold"}, {"id": "full", "reward": 1.0}, {"id": "failed", "success": False},
)  # fmt: skip


@pytest.mark.parametrize(
    ("min_score", "kept"),
    [
        (None, ["full", "untold", "won"]), (0.5, ["full", "near", "untold", "won"]), (1.0, ["full", "untold", "won"]),
        (0.0, ["failed", "full", "lost", "near", "untold", "won"]),
    ],
)  # fmt: skip
def test_failures_are_dropped_as_experts_are(tmp_path, min_score, kept):
    ids, facts = imported(tmp_path, write(tmp_path / "maze.jsonl", *OUTCOMES), min_score=min_score)
    assert ids == kept
    reason = "maze: not successful" if min_score is None else f"maze: score below {min_score}"
    assert facts["dropped"] == ({reason: 6 - len(kept)} if len(kept) < 6 else {})


@pytest.mark.parametrize("min_score", [None, 0.5])
def test_failures_are_kept_on_request_and_counted(tmp_path, min_score):
    source = write(tmp_path / "maze.jsonl", *OUTCOMES)
    ids, facts = imported(tmp_path, source, min_score=min_score, keep_failures=True)
    assert ids == ["failed", "full", "lost", "near", "untold", "won"]
    assert facts == {"trajectories": 6, "failed_trajectories": 3, "dropped": {}}


def test_limits_per_environment_count_what_is_kept(tmp_path):
    rows = [{"task_name": name, "success": number > 0} for name in ("maze", "babyai") for number in range(4)]
    _, facts = imported(tmp_path, write(tmp_path / "x.jsonl", *rows), trajectories={"maze": 2})
    dropped = {"babyai: not in collect.trajectories": 4, "maze: more than 2": 1, "maze: not successful": 1}
    assert facts == {"trajectories": 2, "dropped": dropped}


def test_environments_are_mapped_and_said(tmp_path, capsys):
    source = write(tmp_path / "x.jsonl", {"task_name": "os"}, {"item_id": "tool_sheet_1"}, {"task_name": "db"})
    _, facts = imported(tmp_path, source, environments={"os": "maze"})
    assert facts["notes"] == {"environment 'os' is 'maze' here": 1, "environment 'tool_sheet' is 'sheet' here": 1}
    assert "environment 'os' is 'maze' here (1 rows)" in capsys.readouterr().out
    assert {one.env for one in Store(str(tmp_path / "run")).read_trajectories()} == {"maze", "sheet", "db"}
    imported(tmp_path, source, environments={"OS": "maze", "kg": "maze", "db": "babyai", "card_game": "pddl"})
    line = "  collect: collect.environments: no row is of 'card_game', 'kg'; see --dry-run for the names"
    assert [one for one in capsys.readouterr().out.splitlines() if "no row is of" in one] == [line]
    with pytest.raises(
        ConfigError, match=r"collect.environments.os: there is no environment 'maz'; did you mean 'maze'"
    ):
        imported(tmp_path, source, environments={"os": "maz"})


def test_nothing_left_is_one_line_and_leaves_what_was_there(tmp_path):
    ids, _ = imported(tmp_path, write(tmp_path / "good.jsonl", {}))
    with pytest.raises(
        DataError, match=r"no trajectory is left of 2 rows \(maze: not successful: 2\); see collect.min"
    ):
        imported(tmp_path, write(tmp_path / "maze.jsonl", {"success": 0}, {"success": 0}))
    assert [one.trajectory_id for one in Store(str(tmp_path / "run")).read_trajectories()] == ids


def test_the_job_shows_what_files_hold_and_stores_nothing(tmp_path):
    source = write(tmp_path / "maze.jsonl", *OUTCOMES, "3", {"id": "v", "vector": [0.5] * 500})
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "collect.py"), "--dry-run", "--collect.source", source],
        cwd=tmp_path, capture_output=True, text=True, check=True, env={"PYTHONPATH": PYTHONPATH, "PATH": ""},
    )  # fmt: skip
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert f"collect: {source}: row 6: expected an object, found 3" in lines
    assert "8 rows: 7 trajectories, 1 malformed; 4 are kept" in lines
    assert "shape 7 messages of role/content" in lines
    assert "maze 7 7 1 2 4 4" in lines  # rows, steps, successes, failures, untold, kept
    assert "note 1 field 'vector' of a row: no place for it" in lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maze.jsonl"]


def test_ray_tasks_read_large_sources_to_the_same_bytes(tmp_path, monkeypatch, ray_cluster):
    rows = [{"id": f"textcraft_{number * 7919 % 3001}", "success": number % 5 > 0} for number in range(3001)]
    source = write(tmp_path / "x.jsonl", *rows, "{torn", {"task_name": "sciworld"})
    part = ("trajectories", "part-0.parquet")
    facts, stored = [], []
    for name, size in (("alone", 1 << 30), ("shared", 0)):
        monkeypatch.setattr(imports, "LARGE", size)
        store = Store(str(tmp_path / name))
        facts.append(import_files(CollectConfig(source=source), store))
        stored.append(store.fs.cat_file(store.path(*part)))
    assert facts[0] == facts[1]
    assert facts[0]["trajectories"] == 2401
    assert stored[0] == stored[1]


@reference("agentgym_runs")
def test_real_episodes_of_agentgyms_environments(path, tmp_path):
    found = survey(CollectConfig(source=path))
    table = {name: (e.trajectories, e.steps, e.successes, e.failures, e.kept) for name, e in found.environments.items()}
    assert table == {"babyai": (12, 165, 0, 12, 0), "textcraft": (16, 135, 15, 1, 15), "webshop": (10, 96, 5, 5, 5)}
    assert (found.rows, found.malformed) == (38, 0)
    ids, facts = imported(tmp_path, path, min_score=0.8)
    assert len(ids) == facts["trajectories"] == 7 + 15 + 8
