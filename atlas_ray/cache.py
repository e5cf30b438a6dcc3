"""Files that are made once per machine and kept under `$ATLAS_CACHE`: derived from third-party wheels, or copied from
object storage."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_dir() -> Path:
    """The folder (default `~/.cache/atlas-ray`)."""
    return Path(os.environ.get("ATLAS_CACHE", "~/.cache/atlas-ray")).expanduser()


def cached(name: str, last: str, build: Callable[[Path], None]) -> Path:
    """A folder in the cache, built if it is missing; several processes may call this at once.

    Args:
        name: path of the folder, relative to the cache.
        last: a file in the folder; without it the folder counts as unfinished.
        build: fills an empty folder, which is then moved into the cache; if it raises, nothing is kept.
    """
    folder = cache_dir() / name
    if (folder / last).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        build(scratch)
        try:
            scratch.rename(folder)
        except OSError:
            if not (folder / last).is_file():  # else another process has finished first
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def fetched(directory: str) -> str:
    """A model directory on this machine: itself, or a copy of one that is given by URL, made once for each content.

    Folders in it are left out: a checkpoint's training state is many times its size.
    """
    if "://" not in directory:
        return directory
    import fsspec

    fs, root = fsspec.core.url_to_fs(directory, use_listings_cache=False)
    files = sorted(each["name"] for each in fs.ls(root, detail=True) if each["type"] == "file")
    content = "\n".join([directory, *(f"{file} {fs.ukey(file)}" for file in files)])
    name = f"fetched/{hashlib.sha256(content.encode()).hexdigest()[:32]}"

    def copy(folder: Path) -> None:
        for file in files:
            fs.get_file(file, str(folder / Path(file).name))

    return str(cached(name, "config.json", copy))
