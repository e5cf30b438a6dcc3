"""Files derived from third-party wheels: built once on a machine and kept under `$ATLAS_CACHE`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_dir() -> Path:
    """The folder (default `~/.cache/atlas-ray`)."""
    return Path(os.environ.get("ATLAS_CACHE", "~/.cache/atlas-ray")).expanduser()


def cached(place: str, last: str, build: Callable[[Path], None]) -> Path:
    """A folder in the cache, built unless it is there; several processes may ask for it at once.

    Args:
        place: path of the folder in the cache.
        last: a file in it, without which it is not whole.
        build: fills an empty folder, which then becomes this one; what it raises leaves nothing behind.
    """
    folder = cache_dir() / place
    if (folder / last).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        build(scratch)
        try:
            scratch.rename(folder)
        except OSError:
            if not (folder / last).is_file():  # not merely a second process that finished first
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder
