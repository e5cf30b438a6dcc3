"""Fixtures over the synthetic run directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from atlas_ray.config import PipelineConfig, load
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.store import Store
from tests.report.synthetic import ENVIRONMENTS, RATES, TASKS, make_card, write_run


@pytest.fixture(scope="session")
def cards() -> dict[str, EnvironmentCard]:
    """Of the two environments."""
    return {name: make_card(name) for name in ENVIRONMENTS}


@pytest.fixture(scope="session")
def config() -> PipelineConfig:
    """Of the synthetic run."""
    return load(
        None,
        {
            "train.warmup": {},
            "evaluate.models": list(RATES),
            "select.methods": ["llm", "perplexity", "random"],
            "evaluate.environments": list(ENVIRONMENTS),
            "evaluate.tasks": TASKS,
        },
    )


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A finished run; tests only read it."""
    store = Store(str(tmp_path_factory.mktemp("runs") / "quickstart"))
    write_run(store)
    return store


@pytest.fixture
def new_store(tmp_path: Path) -> Callable[[], Store]:
    """An empty run directory."""
    return lambda: Store(str(tmp_path / "empty"))
