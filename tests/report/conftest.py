"""Fixtures over the synthetic run directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from atlas_ray.config import PipelineConfig
from atlas_ray.config_files import load
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.report.data import RunData, read
from atlas_ray.store import Store
from tests.report.synthetic import ENVIRONMENTS, RATES, TASKS, make_card, write_model, write_run


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


@pytest.fixture(scope="session")
def data(run: Store, config: PipelineConfig, cards: dict[str, EnvironmentCard]) -> RunData:
    """The finished run."""
    return read(config, run, cards)


@pytest.fixture
def outcome(tmp_path: Path, cards: dict[str, EnvironmentCard]) -> Callable[..., RunData]:
    """A run of which only the evaluation matters: success rates by model, and options of the config.

    A test that calls it again adds models to the same run.
    """

    def make(rates: dict[str, float], **options: object) -> RunData:
        store = Store(str(tmp_path / "run"))
        for model, rate in rates.items():
            write_model(store, model, (rate, rate))
        config = {
            "evaluate.environments": list(ENVIRONMENTS), "evaluate.models": list(rates), "evaluate.tasks": TASKS,
            "evaluate.endpoints": {"gpt": {"base_url": "http://127.0.0.1:1/v1", "model": "gpt"}},
        }  # fmt: skip
        warmup: dict[str, object] = {"train.warmup": {}} if "warmup" in rates else {}
        dotted = {name.replace("__", "."): value for name, value in options.items()}
        return read(load(None, config | warmup | dotted), store, cards)

    return make
