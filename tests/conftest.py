"""What the whole suite shares: one Ray cluster, one tiny model directory, and its order when that is drawn by lot."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from atlas_ray.cluster import LEAN_SERVE
from atlas_ray.gpus import is_built_for_gpus
from atlas_ray.hashing import content_hash
from tests import tiny_model as tiny_model_files

os.environ.update(LEAN_SERVE | os.environ)  # as where Ray is started for a user
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # Ray starts many workers: each would compile all that it imports

ROOT = Path(__file__).parents[1]
PYTHONPATH = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'plugin'}"
"""Of workers: the project, and a package with environments of its own."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", metavar="SEED", help="run the tests in an order drawn from this number, or `random`")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if seed := config.getoption("--shuffle"):
        terminalreporter.write_line(f"in the order of: --shuffle {seed}")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--shuffle") == "random":
        config.option.shuffle = str(secrets.randbelow(10**6))


@pytest.hookimpl(tryfirst=True)  # pytest then puts tests of one parameter of a shared fixture together again
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shuffle folders, the files in each and the tests in each file; what they share is still made once."""
    seed = config.getoption("--shuffle")
    if not seed:
        return

    def place(item: pytest.Item) -> list[str]:
        path = Path(item.path).relative_to(ROOT)
        return [content_hash([seed, str(each)]) for each in (*reversed(path.parents), path, item.nodeid)]

    items.sort(key=place)


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[str]:
    """Where the cluster writes its logs."""
    folder = tempfile.mkdtemp(prefix="atlas-", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_cluster(ray_folder: str) -> Iterator[str]:
    """A Ray cluster of 4 logical CPUs on this machine; yields its address."""
    for tries_left in (2, 1, 0):
        try:
            context = ray.init(
                num_cpus=4,
                num_gpus=0 if is_built_for_gpus() else 4,  # logical ones, for the placement of what would use them
                include_dashboard=False,
                _temp_dir=ray_folder,
                log_to_driver=False,
                logging_level="warning",
                object_store_memory=400_000_000,
                _system_config={"metrics_report_interval_ms": 1000},
                runtime_env={"env_vars": {"PYTHONPATH": PYTHONPATH, "TOKENIZERS_PARALLELISM": "false"}},
            )
            break
        except Exception as error:  # Ray gives itself 30 seconds to start, however loaded the machine is
            if not tries_left or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    yield str(context.address_info["gcs_address"])
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory with a random Llama of 2 layers and ChatML."""
    return tiny_model_files.write(tmp_path_factory.mktemp("tiny-llama"))
