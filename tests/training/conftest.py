"""A tiny Llama for the training tests."""

from __future__ import annotations

import pytest

from tests.training.tiny import save, tiny


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Directory of a tiny Llama."""
    return save(tiny("llama"), tmp_path_factory.mktemp("llama"))
