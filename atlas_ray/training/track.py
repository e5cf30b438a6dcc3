"""Sends training's metrics to the trackers of `track.to`; by the driver, which holds their credentials.

A tracker (`trackers.py`) takes values by name at a step. Names are those of `metrics/train.jsonl`, and
`skipped_<switch>` for each share of work left out; they are the same in every tracker. One that fails is given up with
one line, and training goes on.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from atlas_ray.config import PipelineConfig
from atlas_ray.errors import TrainingError
from atlas_ray.progress import say
from atlas_ray.store import Store

Log = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TrackedRun:
    """A training, as trackers know it."""

    project: str
    name: str
    """The run directory's name and the checkpoint's."""
    key: str
    """Hash of what determines the weights: a training that goes on after a kill has the same."""
    folder: str | None
    """Where files go, `metrics/` of the run directory; None where that is not on a disk."""
    parameters: Mapping[str, Any]
    """Options that count, model and seed."""
    start: int
    """Steps that were done before."""


class Tracker(Protocol):
    """Where values go; opened for one `TrackedRun`, which it continues if it knows its key."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send values by name."""

    def close(self) -> None:
        """End the run, when all that was logged has arrived."""


@contextmanager
def tracking(
    config: PipelineConfig, store: Store, name: str, key: str, parameters: Mapping[str, Any], start: int
) -> Iterator[Log | None]:
    """A function that sends a row of the training log to the trackers; None when there are none.

    Args:
        config: `track` counts here.
        store: of the run.
        name: of the checkpoint.
        key: hash of what determines its weights.
        parameters: sent once.
        start: optimizer steps that were done before.

    Raises:
        TrainingError: a tracker's package is missing, or it cannot be opened.
    """
    if not config.track.to:
        yield None
        return
    from atlas_ray.training.trackers import TRACKERS

    run = TrackedRun(
        config.track.project, f"{posixpath.basename(store.root)}-{name}", key,
        store.path("metrics") if store.is_local else None, parameters, start,
    )  # fmt: skip
    opened: dict[str, Tracker] = {}
    try:
        for each in config.track.to:
            opened[each] = _open(each, TRACKERS[each], run)
        yield lambda row: _each(opened, name, lambda tracker: tracker.log(values_of(row), row["step"]))
    finally:
        _each(opened, name, lambda tracker: tracker.close())


def values_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row of the training log, by the names that all trackers show."""
    values = {name: value for name, value in row.items() if isinstance(value, (int, float)) and name != "step"}
    return values | {f"skipped_{switch}": share for switch, share in row["skipped"].items()}


def _open(name: str, tracker: Callable[[TrackedRun], Tracker], run: TrackedRun) -> Tracker:
    try:
        return tracker(run)
    except ImportError as error:
        raise TrainingError(
            f"track.to: {name}: its package is missing ({error}); pip install 'atlas-ray[{name}]', or leave it out"
        ) from error
    except Exception as error:  # packages raise whatever their authors chose
        said = " ".join(str(error).split())[:300]
        raise TrainingError(f"track.to: {name}: {said}; correct its settings, or leave it out") from error


def _each(opened: dict[str, Tracker], checkpoint: str, call: Callable[[Tracker], None]) -> None:
    """Call every tracker; one that fails is given up: `metrics/train.jsonl` has the rows."""
    for name, tracker in list(opened.items()):
        try:
            call(tracker)
        except Exception as error:  # packages raise whatever their authors chose
            del opened[name]
            said = " ".join(str(error).split())[:300]
            say(f"  train {checkpoint}: {name} fails ({said}); no more rows are sent")
