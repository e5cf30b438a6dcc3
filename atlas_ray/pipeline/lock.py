"""One job at a time in a run directory: two would overwrite each other's manifests.

On a disk it is a lock of the system, which ends with its process, however that ends. On object storage there is none:
there a file is rewritten every few seconds, and who finds it waits until it has not changed for a while. Left out: jobs
that only read (reports, serving, plans) take no lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from atlas_ray.errors import StoreError
from atlas_ray.progress import say
from atlas_ray.store import Store

NAME = ".lock"
BEAT_S = 10.0
"""Seconds between two writes of the file on object storage."""
LOST_S = 60.0
"""Seconds without a write after which its job is taken for dead."""
_held: dict[str, Callable[[], None]] = {}
"""How this process lets others in again, by URL of the run directory."""


def hold(store: Store) -> None:
    """Keep other jobs out of a run directory until `release`; more calls of this process change nothing.

    Raises:
        StoreError: another job works there, or the directory cannot be written.
    """
    if store.url not in _held:
        _held[store.url] = _lock(store) if store.is_local else _beat(store)


def release() -> None:
    """Let other jobs in: what a command does at its end. On object storage a lock that is left keeps others waiting.

    Not left to `atexit`: by then no thread can be started, and filesystems need one to find their host.
    """
    while _held:
        _held.popitem()[1]()


def _lock(store: Store) -> Callable[[], None]:
    path = store.path(NAME)
    try:
        os.makedirs(store.root, exist_ok=True)
        file = open(path, "a+b", buffering=0)  # noqa: SIM115  (closed by `release`, or by the end of the process)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; free space or fix the rights") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        other = file.read().decode(errors="replace")
        file.close()
        raise StoreError(_refusal(store, other)) from error
    except OSError:
        say(f"{store.root}: this file system has no locks; start no other job there meanwhile")
    with suppress(OSError):  # it only tells others who holds it
        file.truncate(0)
        file.write(_self().encode())
    return file.close


def _beat(store: Store) -> Callable[[], None]:
    before = _read(store)
    deadline = time.monotonic() + LOST_S
    if before:
        say(f"waiting up to {LOST_S:.0f} s for {before['job']}, which has left a lock in {store.url}")
    while before and time.monotonic() < deadline:
        time.sleep(BEAT_S / 4)
        now = _read(store)
        if now and now != before:
            raise StoreError(_refusal(store, now["job"]))
        before = now
    stop = threading.Event()
    store.write_json({"job": _self(), "beat": 0}, NAME)

    def write() -> None:
        beat = 0
        while not stop.wait(BEAT_S):
            beat += 1
            with suppress(StoreError):  # the work itself will say that the storage cannot be written
                store.write_json({"job": _self(), "beat": beat}, NAME)

    thread = threading.Thread(target=write, name="run-lock", daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join()
        with suppress(OSError):
            store.fs.rm(store.path(NAME))

    return end


def _read(store: Store) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(store.fs.cat_file(store.path(NAME)))
    except (FileNotFoundError, ValueError):
        return {}
    return found


def _self() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def _refusal(store: Store, other: str) -> str:
    return (
        f"{store.url}: another job works in this run directory ({other or 'unknown'}); wait for it, stop it, or choose "
        "another run_dir"
    )
