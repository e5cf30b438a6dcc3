"""Keeps tasks that `evaluate.items` names out of the training data: collecting them is refused.

`collect.allow_evaluated_items` allows it. Items are read and located in `evaluation/items.py`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pyarrow as pa

from atlas_ray.config import PipelineConfig
from atlas_ray.environments import registry
from atlas_ray.environments.contract import TextEnv
from atlas_ray.errors import AtlasError, ConfigError
from atlas_ray.evaluation import items
from atlas_ray.evaluation.evaluate import chosen_environments
from atlas_ray.store import Store
from atlas_ray.trajectory import TRAJECTORY_SCHEMA

_SHOWN = 3


def refuse_planned(config: PipelineConfig) -> None:
    """Check the tasks that experts are to play.

    Raises:
        ConfigError: some of them are evaluated.
        DataError: `evaluate.items` cannot be read.
    """
    evaluated = _evaluated(config)
    if evaluated is not None and config.collect.source == "expert":
        tasks = ((name, task) for name, count in config.collect.trajectories.items() for task in range(count))
        _refuse(f"{name} training task {task}" for name, task in tasks if evaluated.evaluates(name, "train", task))


def refuse_stored(config: PipelineConfig, store: Store) -> None:
    """Check the stored trajectories; the errors are those of `refuse_planned`."""
    evaluated = _evaluated(config)
    if evaluated is not None:
        _refuse(_stored(config, store, evaluated))


def _stored(config: PipelineConfig, store: Store, evaluated: items.Items) -> Iterator[str]:
    """The ids of the stored trajectories' items that are evaluated."""
    fields = [TRAJECTORY_SCHEMA.field(name) for name in ("env", "item_id", "split", "metadata")]
    columns = store.read_table(pa.schema(fields), "trajectories").to_pydict()
    known = set(registry.names())
    with contextlib.ExitStack() as stack:
        made: dict[str, TextEnv] = {}
        for name, item_id, split, metadata in zip(*(columns[field.name] for field in fields), strict=True):
            task = json.loads(metadata or "{}").get("task")
            if isinstance(task, int):
                is_evaluated = evaluated.evaluates(name, split, task)
            elif not (is_evaluated := evaluated.names(name, item_id)) and name in evaluated.tasks and name in known:
                if name not in made:
                    env = registry.make(name, **config.environments.get(name, {}))
                    made[name] = stack.enter_context(contextlib.closing(env))
                with contextlib.suppress(AtlasError):  # an item that cannot be located is none of those that were
                    is_evaluated = evaluated.evaluates(name, *made[name].locate(item_id))
            if is_evaluated:
                yield item_id


def _evaluated(config: PipelineConfig) -> items.Items | None:
    if config.evaluate.items is None or config.collect.allow_evaluated_items:
        return None
    return items.find(config, chosen_environments(config))


def _refuse(found: Iterator[str]) -> None:
    names = list(found)
    if names:
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        raise ConfigError(
            f"collect: {len(names)} trajectories are of items that evaluate.items names ({shown}), so the test would "
            "be trained on; leave them out, or set collect.allow_evaluated_items"
        )
