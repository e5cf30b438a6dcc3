"""A tiny Llama for the training tests."""

from __future__ import annotations

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
