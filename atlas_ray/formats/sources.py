"""Which files a path, a folder, a glob or a data set on the Hub names, and opening them: plain or compressed.

Rows are in `rows.py`.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import hashlib
import io
import lzma
import os
import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from atlas_ray import hub
from atlas_ray.errors import DataError, HubError

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_OPENERS: dict[bytes, Callable[[str, str], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_ZSTD, _ZIP = b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
PARQUET = b"PAR1"


def files(source: str) -> list[str]:
    """The files that a path, a folder, a glob or a reference to the Hub names, sorted.

    A leading `~` is the home folder. Of a folder, all data files below it count (`SUFFIXES`, compressed or not, hidden
    ones left out); a folder that a glob meets is read the same way. Brackets in the name of an existing file or folder
    are no pattern.

    Raises:
        DataError: there are none.
    """
    pattern = here(source)
    found: list[str] = []
    for path in _matches(pattern):
        found += _below(path) if os.path.isdir(path) else [path]
    if not found:
        where = "a folder without data files" if os.path.isdir(pattern) else "no such file"
        raise DataError(f"{source}: {where}; give a path, a folder or a glob of {', '.join(SUFFIXES)} files")
    return list(dict.fromkeys(found))


def here(source: str) -> str:
    """The local path or glob of a source; of a data set on the Hub, after its data files are in the local cache.

    Raises:
        DataError: the Hub does not have it, or does not give it.
    """
    if not source.startswith(hub.SCHEME):
        return os.path.expanduser(source)
    try:
        uri = hub.parse(source)
        if uri.type != "dataset":
            raise HubError(f"a {uri.type}; of a data set write {hub.DATASETS}{uri.id}")
        endings = [suffix + zipped for suffix in SUFFIXES for zipped in ("", *COMPRESSED)]
        places = dict.fromkeys((uri.path_in_repo, glob.escape(uri.path_in_repo)))  # a glob, or a name with brackets
        data = [posixpath.join(place, f"*{ending}") for place in places for ending in endings]
        folder = hub.fetch(source, [*places, *data])
    except HubError as error:
        raise DataError(f"{source}: {error}") from error
    return os.path.join(folder, uri.path_in_repo)


def folders(path: str) -> list[str]:
    """Names of the folders that a file is in, the nearest first; the cache's folder of a data set is called like it."""
    found: list[str] = []
    for parent in Path(path).absolute().parents:
        if parent.parent.name == "snapshots" and "--" in parent.parent.parent.name:
            return [*found, parent.parent.parent.name.rpartition("--")[2]]
        found.append(parent.name)
    return found


def fingerprint(source: str) -> list[tuple[str, str]]:
    """Name and SHA-256 of every file, for a manifest's key.

    Raises:
        DataError: there are none, or one cannot be read.
    """
    found = []
    for path in files(source):
        try:
            with open(path, "rb") as file:
                found.append((Path(path).name, hashlib.file_digest(file, "sha256").hexdigest()))
        except OSError as error:
            raise unreadable(path, error) from error
    return found


def stem(path: str) -> str:
    """The file's name without the suffixes that say how it is written."""
    name = Path(path).name
    for suffix in (*COMPRESSED, *SUFFIXES):
        name = name.removesuffix(suffix)
    return name


def open_binary(path: str) -> BinaryIO:
    """The file's bytes, decompressed where it is compressed (gzip, bzip2, xz, zstd; told by its first bytes).

    Raises:
        DataError: it cannot be opened, or is an archive or UTF-16 text.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(6)
    except OSError as error:
        raise unreadable(path, error) from error
    if head.startswith(_ZIP):
        raise DataError(f"{path}: an archive; unpack it and name the files in it")
    if head.startswith(_UTF16):
        raise DataError(f"{path}: not UTF-8 text (it begins as UTF-16 does); save it as UTF-8")
    if head.startswith(_ZSTD):
        return io.BufferedReader(pa.input_stream(path, compression="zstd"))
    for magic, opener in _OPENERS.items():
        if head.startswith(magic):
            return cast(BinaryIO, opener(path, "rb"))
    return open(path, "rb")


def unreadable(path: str, error: OSError) -> DataError:
    """The error of a file that the system does not let us read."""
    return DataError(f"{path}: {error.strerror or error}; check the path and its rights")


def _matches(pattern: str) -> list[str]:
    if os.path.exists(pattern):
        return [pattern]
    literal = pattern.replace("[", "[[]")
    for form in (_escaped(pattern), pattern, literal):
        found = sorted(glob.glob(form, recursive=True))
        if found:
            return found
    return []


def _escaped(pattern: str) -> str:
    """The pattern with its leading folders that exist as they are written taken literally."""
    parts = Path(pattern).parts
    known = 0
    while known < len(parts) and os.path.exists(os.path.join(*parts[: known + 1])):
        known += 1
    return os.path.join(*(glob.escape(part) for part in parts[:known]), *parts[known:]) if parts else pattern


def _below(folder: str) -> list[str]:
    found = []
    for path in sorted(Path(folder).rglob("*")):
        inner = path.relative_to(folder)
        name = path.name
        for suffix in COMPRESSED:
            name = name.removesuffix(suffix)
        if name.endswith(SUFFIXES) and path.is_file() and not any(part.startswith(".") for part in inner.parts):
            found.append(str(path))
    return found
