"""A configured run and its directory: work whose key is already in the manifest is skipped."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from atlas_ray.config import PipelineConfig
from atlas_ray.errors import StoreError
from atlas_ray.progress import say
from atlas_ray.store import Store

_INCOMPLETE = " incomplete"


@dataclass(frozen=True)
class Run:
    """A configured run and its directory."""

    config: PipelineConfig
    store: Store

    def once(self, stage: str, unit: str, key: str, work: Callable[[], dict[str, Any]]) -> None:
        """Do `work` and record its facts under `key`, unless the stage's manifest has that key.

        Facts with `errors` are recorded as incomplete: the same command tries what failed again.
        """
        if self.store.is_current(stage, unit, key):
            say(f"{stage} {unit}: current, skipped")
            return
        say(f"{stage} {unit}: running")
        start = time.monotonic()
        facts = work()
        seconds = round(time.monotonic() - start, 1)
        if facts.get("errors"):
            key += _INCOMPLETE
            say(f"{stage} {unit}: {facts['errors']} failed; the same command tries them again")
        self.store.finish(stage, unit, key, seconds=seconds, command=shlex.join(["python", *sys.argv]), **facts)
        say(f"{stage} {unit}: done in {seconds:.0f} s")

    def required(self, stage: str, unit: str) -> str:
        """The recorded key of a unit that must be done before.

        Raises:
            StoreError: it is not done.
        """
        key = self.store.key_of(stage, unit)
        if key is None or key.endswith(_INCOMPLETE):
            job = "train" if unit == "warmup" else stage
            raise StoreError(
                f"{self.store.url}: {stage} {unit!r} has not been run; run jobs/{job}.py or jobs/pipeline.py first"
            )
        return key


def open_run(config: PipelineConfig) -> Run:
    """Claim the run directory for this config.

    Raises:
        StoreError: it belongs to another experiment or to an older edition, or cannot be written.
    """
    store = Store(config.run_dir)
    store.claim(config.model_dump(mode="json"))
    return Run(config, store)
