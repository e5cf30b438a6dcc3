"""Items: the tasks that a list names by their ids, as AgentGym's AgentEval lists do, in whatever split they are here.

Lists are files of `{"item_id": "babyai_1804"}`. A row that is a trajectory is located by its first observation, where
its environment knows that, else by its id. An item that cannot be located is kept with the reason. Playing is in
`evaluate.py`; `pipeline/held_out.py` keeps trajectories of evaluated items out of the training data.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from atlas_ray.config import PipelineConfig
from atlas_ray.environments import registry
from atlas_ray.environments.contract import Split, TextEnv, item_number
from atlas_ray.environments.remote import PREFIX
from atlas_ray.errors import AtlasError, DataError
from atlas_ray.formats.fields import trajectory
from atlas_ray.formats.names import Names
from atlas_ray.formats.rows import Problem, rows
from atlas_ray.formats.sources import files, fingerprint
from atlas_ray.formats.turns import Malformed
from atlas_ray.trajectory import Message, Trajectory

_SHOWN = 3
"""Items of one reason that are named in a line; all are counted."""
_ID_FIELDS = ("item_id", "id")


class NamedItem(NamedTuple):
    """An item as a list names it."""

    env: str
    item_id: str


class Missing(NamedTuple):
    """An item that is not evaluated."""

    env: str
    item_id: str
    reason: str


@dataclass(frozen=True)
class Items:
    """The items of the lists."""

    tasks: Mapping[str, tuple[tuple[Split, int], ...]]
    """By environment, as `evaluate.environments` names it: split and task, each once, in the order of the lists."""
    missing: tuple[Missing, ...]
    named: tuple[NamedItem, ...]
    """All that the lists name."""

    @property
    def lines(self) -> list[str]:
        """What cannot be evaluated: a line for each environment and reason."""
        groups: dict[tuple[str, str], list[str]] = {}
        for each in self.missing:
            groups.setdefault((each.env, each.reason), []).append(each.item_id)
        return [
            f"{env}: {len(ids)} items left out ({', '.join(ids[:_SHOWN])}{', ...' if len(ids) > _SHOWN else ''}): "
            f"{reason}"
            for (env, reason), ids in groups.items()
        ]

    def facts(self) -> dict[str, Any]:
        """For `results.json`: how many are named and evaluated, and why the others are not."""
        reasons: dict[str, Counter[str]] = {}
        for each in self.missing:
            reasons.setdefault(each.env, Counter())[each.reason] += 1
        return {
            "named": len(self.named),
            "evaluated": {env: len(tasks) for env, tasks in self.tasks.items()},
            "left_out": {env: dict(counts) for env, counts in reasons.items()},
        }

    def evaluates(self, env: str, split: Split, task: int) -> bool:
        """Whether a task is among those that are evaluated."""
        return any((split, task) in self._located[name] for name in (env, PREFIX + env) if name in self._located)

    def names(self, env: str, item_id: str) -> bool:
        """Whether the lists have this id of an item."""
        return (env, _canonical(item_id)) in self._canonical_ids

    @cached_property
    def _located(self) -> dict[str, frozenset[tuple[Split, int]]]:
        return {env: frozenset(tasks) for env, tasks in self.tasks.items()}

    @cached_property
    def _canonical_ids(self) -> frozenset[tuple[str, str | int]]:
        return frozenset((each.env, _canonical(each.item_id)) for each in self.named)


def find(config: PipelineConfig, environments: Sequence[str]) -> Items:
    """The items of `evaluate.items`, located in these environments.

    Raises:
        DataError: a file cannot be read, or no item can be evaluated; the text has the reasons.
    """
    source = config.evaluate.items
    assert source is not None
    options = {name: config.environments.get(name, {}) for name in environments}
    settings = json.dumps([options, config.collect.environments], sort_keys=True, default=str)
    items = _find(source, tuple(fingerprint(source)), settings)
    if not items.tasks:
        raise DataError(f"evaluate.items {source}: no item can be evaluated: {'; '.join(items.lines) or 'it is empty'}")
    return items


@lru_cache(maxsize=8)
def _find(source: str, content: tuple[tuple[str, str], ...], settings: str) -> Items:
    options, given = json.loads(settings)
    named = list(_named(source, Names(given)))
    tasks: dict[str, dict[tuple[Split, int], None]] = {}
    missing: list[Missing] = []
    with contextlib.ExitStack() as stack:
        made = {
            name: stack.enter_context(contextlib.closing(registry.make(name, **chosen)))
            for name, chosen in options.items()
            if name.removeprefix(PREFIX) in {row[0].env for row in named if not isinstance(row, Missing)}
        }
        for row in named:
            if isinstance(row, Missing):
                missing.append(row)
                continue
            each, messages = row
            hosts = [name for name in (each.env, PREFIX + each.env) if name in made]
            if not hosts:
                missing.append(Missing(*each, "its environment is not in evaluate.environments"))
            for name in hosts:
                found_at = _located(made[name], each.item_id, messages)
                if isinstance(found_at, str):
                    missing.append(Missing(name, each.item_id, found_at))
                elif found_at in tasks.setdefault(name, {}):
                    missing.append(Missing(name, each.item_id, "the lists name this task twice"))
                else:
                    tasks[name][found_at] = None
    found = {name: tuple(tasks[name]) for name in options if tasks.get(name)}
    return Items(found, tuple(missing), tuple(row[0] for row in named if not isinstance(row, Missing)))


def _located(env: TextEnv, item_id: str, messages: tuple[Message, ...]) -> tuple[Split, int] | str:
    """Split and task of an item, or why there is none."""
    try:
        return (env.recognise(messages) if messages else None) or env.locate(item_id)
    except AtlasError as error:
        return str(error).replace(repr(item_id), "...")  # equal for all items, which are named beside it


def _named(source: str, names: Names) -> Iterator[tuple[NamedItem, tuple[Message, ...]] | Missing]:
    """The items of the files, those of trajectories with their conversations."""
    for path in files(source):
        for number, row in rows(path):
            if (found := _trajectory(row, path, number, names)) is not None:
                yield NamedItem(found.env, found.item_id), found.messages
                continue
            item = _id_of(row)
            if item is None:
                problem = row.text if isinstance(row, Problem) else "expected an object with an item_id, or an id"
                yield Missing("unknown", f"row {number}", f"{path}: {problem}")
            else:
                yield NamedItem(names.of_row({}, item, path).env, item), ()


def _trajectory(row: Any, path: str, number: int, names: Names) -> Trajectory | None:
    """The row as a trajectory, if it is one."""
    try:
        return trajectory(row, path, number, names, set(), False) if isinstance(row, dict) else None
    except Malformed:
        return None


def _id_of(row: Any) -> str | None:
    """The id in a row of a list, which is an object or the id alone."""
    value = next((row[field] for field in _ID_FIELDS if field in row), None) if isinstance(row, dict) else row
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return str(value)


def _canonical(item_id: str) -> str | int:
    """The number of an item's id, or the id itself: AgentGym's lists and trajectories differ in what precedes it."""
    number = item_number(item_id, item_id.rpartition("_")[0])
    return item_id if number is None else number
