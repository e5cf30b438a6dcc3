"""A tiny Llama for the training tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from tests.training.tiny import save, tiny


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Directory of a tiny Llama."""
    return save(tiny("llama"), tmp_path_factory.mktemp("llama"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny models gain nothing from two threads, which wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _quick_ray_train() -> None:
    """Ray Train would start a process that watches for preemption in every run, and poll its workers every 2 s."""
    os.environ |= {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}
