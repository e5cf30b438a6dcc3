"""ScienceWorld's 30 task types, their variations, and the numbering of both.

AgentGym leaves out seven types and numbers the variations of the other 23 type by type; `locate` maps those numbers.
Here a split takes one variation of each type in turn, types with the shortest solutions first, so that any first N
tasks cover many types. In training, where experts play, types whose solutions take more than the paper's 30 rounds come
after the others. The types that AgentGym leaves out come last in both splits.
"""

from __future__ import annotations

from functools import cache
from itertools import zip_longest
from typing import NamedTuple

from atlas_ray.environments.contract import Split, item_number
from atlas_ray.errors import EnvironmentError


class TaskType(NamedTuple):
    """A kind of task; its variations 0 to `n_train` - 1 are for training, the others for tests."""

    number: str
    name: str
    variations: int
    n_train: int
    """The engine's own training and development variations."""
    gold_actions: int
    """The length of the engine's own solution of variation 0; above 30 it does not fit into the paper's rounds."""
    in_agentgym: bool = True


class Task(NamedTuple):
    """A variation of a task type."""

    name: str
    variation: int


TYPES = (
    TaskType("1-1", "boil", 30, 21, 39),
    TaskType("1-2", "melt", 30, 21, 34),
    TaskType("1-3", "freeze", 30, 21, 26),
    TaskType("1-4", "change-the-state-of-matter-of", 30, 21, 26),
    TaskType("2-1", "use-thermometer", 540, 405, 22),
    TaskType("2-2", "measure-melting-point-known-substance", 436, 327, 27),
    TaskType("2-3", "measure-melting-point-unknown-substance", 300, 225, 32),
    TaskType("3-1", "power-component", 20, 15, 11),
    TaskType("3-2", "power-component-renewable-vs-nonrenewable-energy", 20, 15, 26),
    TaskType("3-3", "test-conductivity", 900, 675, 21),
    TaskType("3-4", "test-conductivity-of-unknown-substances", 600, 450, 21),
    TaskType("4-1", "find-living-thing", 300, 225, 10),
    TaskType("4-2", "find-non-living-thing", 300, 225, 5),
    TaskType("4-3", "find-plant", 300, 225, 10),
    TaskType("4-4", "find-animal", 300, 225, 10),
    TaskType("5-1", "grow-plant", 126, 93, 63, in_agentgym=False),
    TaskType("5-2", "grow-fruit", 126, 93, 77, in_agentgym=False),
    TaskType("6-1", "chemistry-mix", 32, 24, 25),
    TaskType("6-2", "chemistry-mix-paint-secondary-color", 36, 27, 21),
    TaskType("6-3", "chemistry-mix-paint-tertiary-color", 36, 27, 29),
    TaskType("7-1", "lifespan-longest-lived", 125, 93, 6),
    TaskType("7-2", "lifespan-shortest-lived", 125, 93, 6),
    TaskType("7-3", "lifespan-longest-lived-then-shortest-lived", 125, 93, 7),
    TaskType("8-1", "identify-life-stages-1", 14, 9, 41),
    TaskType("8-2", "identify-life-stages-2", 10, 6, 16),
    TaskType("9-1", "inclined-plane-determine-angle", 168, 126, 55, in_agentgym=False),
    TaskType("9-2", "inclined-plane-friction-named-surfaces", 1386, 1038, 51, in_agentgym=False),
    TaskType("9-3", "inclined-plane-friction-unnamed-surfaces", 162, 120, 178, in_agentgym=False),
    TaskType("10-1", "mendelian-genetics-known-plant", 120, 90, 145, in_agentgym=False),
    TaskType("10-2", "mendelian-genetics-unknown-plant", 480, 360, 146, in_agentgym=False),
)
"""In the engine's order."""


@cache
def numbering(split: Split) -> tuple[Task, ...]:
    """The tasks of a split, by number."""
    by_length = sorted(TYPES, key=lambda it: it.gold_actions)
    upstream = [it for it in by_length if it.in_agentgym]
    groups = [upstream]
    if split == "train":
        groups = [[it for it in upstream if it.gold_actions <= 30], [it for it in upstream if it.gold_actions > 30]]
    groups.append([it for it in by_length if not it.in_agentgym])
    return tuple(task for group in groups for task in _in_turn(group, split))


def _in_turn(types: list[TaskType], split: Split) -> list[Task]:
    columns = [
        [Task(it.name, v) for v in (range(it.n_train) if split == "train" else range(it.n_train, it.variations))]
        for it in types
    ]
    return [task for row in zip_longest(*columns) for task in row if task is not None]


def locate(item_id: int | str) -> tuple[Split, int]:
    """Split and number of AgentGym's `data_idx`, as in "sciworld_17".

    Raises:
        EnvironmentError: It has no such item.
    """
    items = _agentgym_items()
    number = item_number(item_id, "sciworld", "scienceworld")
    if number is None or number >= len(items):
        raise EnvironmentError(
            f"scienceworld: there is no item {item_id!r}; they are sciworld_0 to sciworld_{len(items) - 1}"
        )
    task = items[number]
    return _located()[task]


@cache
def _agentgym_items() -> list[Task]:
    return [Task(it.name, variation) for it in TYPES if it.in_agentgym for variation in range(it.variations)]


@cache
def _located() -> dict[Task, tuple[Split, int]]:
    splits: tuple[Split, ...] = ("train", "test")
    return {task: (split, number) for split in splits for number, task in enumerate(numbering(split))}
