"""Two runs on disk, and a page about them."""

from __future__ import annotations

import pytest
import yaml

from atlas_ray.config_files import load
from atlas_ray.store import EDITION, Store
from atlas_ray.viewer.app import View
from tests.report.synthetic import write_run
from tests.tokenizers import tokenizer

OPTIONS = {
    "train.warmup": {}, "evaluate.models": ["random", "base", "warmup", "llm"],
    "select.methods": ["llm", "perplexity", "random"], "evaluate.environments": ["babyai", "textcraft"],
}  # fmt: skip


def configured(url: str) -> Store:
    """A run directory in which nothing has run yet."""
    store = Store(url)
    config = load(None, dict(OPTIONS)).model_dump(mode="json")
    store.write_text(f"{EDITION}\n{yaml.safe_dump(config)}", "config.yaml")
    return store


def finished(url: str) -> Store:
    """A run directory in which everything has run."""
    store = configured(url)
    write_run(store)
    return store


@pytest.fixture(scope="package")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    """Two finished runs; tests only read them. The first has a checkpoint's tokenizer."""
    folder = tmp_path_factory.mktemp("viewed")
    made = [finished(str(folder / name)) for name in ("one", "two")]
    tokenizer("chatml").save_pretrained(made[0].path("checkpoints", "llm"))
    made[0].write_text("{}", "checkpoints", "llm", "config.json")
    return made


@pytest.fixture(scope="package")
def view(stores: list[Store]) -> View:
    """The page about both, with all of them read."""
    made = View([store.url for store in stores])
    made.refresh()
    return made
