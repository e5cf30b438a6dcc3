"""The expected cost of a selection, before anything is asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from atlas_ray.config import PipelineConfig
from atlas_ray.selection.estimate import estimate
from atlas_ray.selection.journal import AnswerJournal, question_key
from atlas_ray.selection.method import make
from atlas_ray.store import Store
from tests.selection.data import made, reply, trajectory


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(str(tmp_path / "run"))
    found.write_trajectories([trajectory(n, 10) for n in range(40)])
    return found


def test_a_dry_run_counts_what_the_journal_lacks(
    store: Store, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    config = PipelineConfig(model=str(tiny_model))
    method = make(config.selection("llm"))
    found = estimate(config, store, method)
    assert (found.model, found.trajectories, found.calls, found.cache_hits) == ("gpt-4o", 40, 40, 0)
    assert found.cost_usd_at_most == pytest.approx((found.prompt_tokens * 2.5 + 40 * 1024 * 10) / 1e6)
    question = method.question(trajectory(5, 10), stand_in=False).question
    key = question_key("gpt-4o", question, {"temperature": 0.0, "max_tokens": 1024})
    asyncio.run(AnswerJournal(store).write(key, reply("x"), 0.25))
    assert (estimate(config, store, method).calls, estimate(config, store, method).cache_hits) == (39, 1)
    assert AnswerJournal(store).spent_usd() == 0.25
    unpriced = made("grade", name="gpt", prices={})
    text = estimate(config, store, unpriced).text()
    assert "dry run of gpt: gpt-4o at https://api.openai.com/v1" in text
    assert "price unknown: add the model to select.grade.prices" in text
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert "not to be trusted" in estimate(config, store, method).text()
