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
from tests.s3 import BUCKET, s3_server

os.environ.update(LEAN_SERVE | os.environ)  # as where Ray is started for a user
# Ray Train would start a process that watches for preemption in every training, and poll its workers every 2 s.
os.environ |= {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}
# Ray's workers give way to whatever else runs on a machine: beside it they would get next to none of its time.
os.environ.update({"RAY_worker_niceness": "0"} | os.environ)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # Ray starts many workers: each would compile all that it imports

ROOT = Path(__file__).parents[1]
PYTHONPATH = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'plugin'}"
"""Of workers: the project, and a package with environments of its own."""
HALVES = ("cluster", "rest")
"""What `make test` runs side by side: files of the first wait for processes most of the time, the others compute."""
BESIDE = {"test_calls.py", "test_experiment.py", "test_outside.py", "test_thinking.py"}
"""Of `tests/pipeline`: they need a cluster and share nothing else on it. The other half runs them, which has time."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", metavar="SEED", help="run the tests in an order drawn from this number, or `random`")
    parser.addoption("--half", choices=HALVES, help="run the files that share the Ray cluster, or all others")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if seed := config.getoption("--shuffle"):
        terminalreporter.write_line(f"in the order of: --shuffle {seed}")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--shuffle") == "random":
        config.option.shuffle = str(secrets.randbelow(10**6))


@pytest.hookimpl(tryfirst=True)  # pytest then puts tests of one parameter of a shared fixture together again
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if half := config.getoption("--half"):
        _keep(half, config, items)
    if seed := config.getoption("--shuffle"):
        _shuffle(seed, items)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.getoption("--half"):
        session.exitstatus = pytest.ExitCode.OK  # they are in the other half


def _keep(half: str, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the files of the other half."""
    clustered = {
        item.path
        for item in items
        if isinstance(item, pytest.Function) and "ray_cluster" in item.fixturenames and not _is_beside(item.path)
    }
    others = [item for item in items if (item.path in clustered) != (half == "cluster")]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if (item.path in clustered) == (half == "cluster")]


def _is_beside(file: Path) -> bool:
    return file.parent.name == "pipeline" and file.name in BESIDE


def _shuffle(seed: str, items: list[pytest.Item]) -> None:
    """Shuffle folders, the files in each and the tests in each file; what they share is still made once."""

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


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """URL of a bucket on an S3 server, which jobs that are started from here reach too."""
    with s3_server() as environment:
        os.environ |= environment
        yield f"s3://{BUCKET}"


STORAGE = ("disk", "memory", "s3")
"""Where a run directory can be."""


def run_dir_on(storage: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """The path or URL of a new run directory, named after a folder that no other test has."""
    if storage == "disk":
        return str(folder / "run")
    return f"{request.getfixturevalue('s3') if storage == 's3' else 'memory:/'}/{folder.name}/run"
