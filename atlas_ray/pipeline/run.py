"""A configured run and its directory: work whose key is already in the manifest is skipped.

A run of an experiment has siblings. A unit that one of them has finished under the same key is taken over from there.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from atlas_ray.config import PipelineConfig
from atlas_ray.config_files import made_from
from atlas_ray.errors import StoreError
from atlas_ray.pipeline.adopt import adopt, can_adopt
from atlas_ray.pipeline.lock import hold
from atlas_ray.pipeline.pinned import pinned
from atlas_ray.progress import say
from atlas_ray.store import Store

_INCOMPLETE = " incomplete"
_OWN = ("key", "finished")
"""Fields of a manifest's entry that are written anew when the unit is taken over."""


@dataclass(frozen=True)
class Run:
    """A configured run and its directory."""

    config: PipelineConfig
    store: Store
    siblings: tuple[Store, ...] = ()
    """Run directories whose finished units may be taken over."""

    def once(
        self, stage: str, unit: str, key: str, work: Callable[[], dict[str, Any]],
        is_whole: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        """Do `work` and record its facts under `key`, unless the manifest here or of a sibling has that key.

        Facts with `errors` are recorded as incomplete: the same command tries what failed again.

        Args:
            stage: of the pipeline.
            unit: of the stage.
            key: hash of all that it is made from.
            work: makes it, and returns what the manifest is to say of it.
            is_whole: whether a finished unit still has its files: a machine that lost its power may have lost some.

        Raises:
            StoreError: another job works in this run directory.
        """
        if self.store.is_current(stage, unit, key):
            if is_whole():
                say(f"{stage} {unit}: current, skipped")
                return
            say(f"{stage} {unit}: some of what it had made is lost")
        hold(self.store)
        for sibling in self.siblings if can_adopt(stage) else ():
            if sibling.url != self.store.url and sibling.is_current(stage, unit, key):
                adopt(self.store, sibling, stage, unit)
                facts = {name: fact for name, fact in sibling.facts(stage)[unit].items() if name not in _OWN}
                self.store.finish(stage, unit, key, **({"adopted_from": sibling.url} | facts))
                say(f"{stage} {unit}: taken over from {sibling.url}")
                return
        say(f"{stage} {unit}: running")
        start = time.monotonic()
        facts = work()
        seconds = round(time.monotonic() - start, 1)
        if facts.get("errors"):
            key += _INCOMPLETE
            say(f"{stage} {unit}: {facts['errors']} failed; the same command tries them again")
        self.store.finish(stage, unit, key, seconds=seconds, command=_command_line(), **facts)
        say(f"{stage} {unit}: done in {seconds:.0f} s")

    def required(self, stage: str, unit: str) -> str:
        """The recorded key of a unit that must be done before.

        Raises:
            StoreError: it is not done.
        """
        key = self.store.key_of(stage, unit)
        if key is None or key.endswith(_INCOMPLETE):
            command = "train" if unit == "warmup" else stage
            raise StoreError(
                f"{self.store.url}: {stage} {unit!r} has not been run; run `atlas-ray {command}` first, or the whole "
                "`atlas-ray pipeline`"
            )
        return key


def _command_line() -> str:
    """What this process was started with, as one types it: a script, or a program on the PATH."""
    return shlex.join(["python", *sys.argv] if sys.argv[0].endswith(".py") else sys.argv)


def open_run(config: PipelineConfig, *, asks: bool = True) -> Run:
    """Claim the run directory for this config, and pin what it reads from the Hub.

    Args:
        config: as it was given.
        asks: whether the Hub may be asked (`pinned.pinned`).

    Raises:
        StoreError: it belongs to another experiment or to an older edition, or cannot be written.
        HubError: the Hub does not have what the config names, or cannot be asked.
    """
    store = Store(config.run_dir)
    store.claim(config.model_dump(mode="json"))
    return Run(pinned(config, store, asks=asks), store)


def finished_run(url: str) -> Run:
    """A run that was made before, with the configuration that its directory holds; nothing is written.

    Raises:
        StoreError: there is none.
        ConfigError: its configuration is of another version.
    """
    store = Store(url)
    if not store.exists("config.yaml"):
        raise StoreError(f"{url}: no run directory (it has no config.yaml); give one such as runs/quickstart")
    config = made_from(yaml.safe_load(store.read_text("config.yaml")) or {}, None, store.path("config.yaml"))
    return Run(pinned(config, store, asks=False), store)
