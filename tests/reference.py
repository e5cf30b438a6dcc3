"""Real data of other projects, which is not part of this repository: tests that read it skip when it is absent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("ATLAS_REFERENCE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def reference(name: str) -> Callable[[Any], Any]:
    """Give a test the path of a reference file as its argument `path`, or skip it with the reason."""
    path = FOLDER / name

    def decorate(test: Any) -> Any:
        skip = pytest.mark.skipif(
            not path.exists(), reason=f"reference data {name} is not there (ATLAS_REFERENCE_DATA)"
        )
        return skip(pytest.mark.parametrize("path", [str(path)])(test))

    return decorate
