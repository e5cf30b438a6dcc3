"""Failed trajectories: which are kept, and that the warm-up has none."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atlas_ray.config import PipelineConfig
from atlas_ray.config_files import load
from atlas_ray.pipeline import collect, stages
from atlas_ray.pipeline.keys import Keys
from atlas_ray.pipeline.run import Run
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode, Message


def episode(spec: EpisodeSpec) -> Episode:
    """Of an expert that fails at every odd task, with half of the score."""
    messages = (
        Message(role="user", content=f"Task {spec.task}."), Message(role="assistant", content="Action: up", step=0)
    )  # fmt: skip
    won = spec.task % 2 == 0
    return Episode(
        key=spec.key, model="expert", env=spec.env, task=spec.task, split="train", seed=0, messages=messages,
        score=1.0 if won else 0.5, success=won, rounds=1, stop="done",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _experts(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_episodes(specs: list[EpisodeSpec], *_: Any) -> Iterator[Episode]:
        return map(episode, specs)

    monkeypatch.setattr(collect, "run_episodes", run_episodes)
    monkeypatch.setattr(collect, "playing", lambda *_: contextlib.nullcontext())


def configured(**options: Any) -> PipelineConfig:
    return load(None, {"collect": {"trajectories": {"maze": 8}} | options, "train.warmup": {"fraction": 0.5}})


@pytest.mark.parametrize("min_score", [None, 0.7])
def test_experts_failures_are_kept_to_tune_on_and_the_warm_up_has_none(tmp_path: Path, min_score: float | None) -> None:
    store = Store(str(tmp_path))
    facts = collect.collect(configured(min_score=min_score), store)
    before = {each.trajectory_id for each in store.read_trajectories()}
    reason = "maze: not successful" if min_score is None else "maze: score below 0.7"
    assert facts == {"trajectories": 4, "dropped": {reason: 4}}
    facts = collect.collect(configured(min_score=min_score, keep_failures=True), store)
    kept = store.read_trajectories()
    failed = [each for each in kept if each.success is False]
    assert {each.trajectory_id for each in kept} - {each.trajectory_id for each in failed} == before
    assert facts == {"trajectories": len(kept), "failed_trajectories": len(failed), "dropped": {reason: 8 - len(kept)}}
    assert 0 < len(failed) < 4
    assert {each.metadata["part"] for each in failed} == {"tuning"}


def test_of_an_import_too_the_warm_up_has_no_failures(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Do it."}, {"role": "assistant", "content": "Action: go"}]
    rows = [{"id": f"m{number}", "messages": turns, "success": number % 2 == 0} for number in range(8)]
    source = tmp_path / "maze.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    for keep in (False, True):
        config = configured(source=str(source), keep_failures=keep)
        run = Run(config, Store(str(tmp_path / f"run-{keep}")))
        collect.collect(config, run.store)
        warm = stages.warmup_ids(run)
        assert len(warm) == 2  # half of the four that did not fail
        assert all(int(identity[1:]) % 2 == 0 for identity in warm)
        assert len(stages.tuning_ids(run)) == (6 if keep else 2)


def test_keeping_failures_leaves_the_warm_up_current(tmp_path: Path) -> None:
    without, with_them = (
        Keys(Run(configured(keep_failures=keep), Store(str(tmp_path))), planned=True) for keep in (False, True)
    )
    assert without.part("warmup") == with_them.part("warmup")
    assert without.part("tuning") != with_them.part("tuning")
