"""The rooms of generated games: receptacles, their locations, and the things that may lie in them.

The data come from the `alfworld` wheel: 120 floor plans of AI2-THOR (gen/layouts/FloorPlan*) and the rules of what may
lie where (gen/constants.py). Games are made of them in `generate.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Literal

import numpy as np

from atlas_ray.environments.contract import Split
from atlas_ray.errors import ConfigError

RoomKind = Literal["Kitchen", "LivingRoom", "Bedroom", "Bathroom"]

_STANDING = ("CoffeeMachine", "GarbageCan", "StoveBurner", "Toaster")
"""Receptacles that a plan may name without a place to reach them from; any free place is taken for them."""


@dataclass(frozen=True)
class Room:
    """One floor plan.

    Attributes:
        number: That of the FloorPlan files.
        receptacles: Class, such as "Drawer", and location of each, in a fixed order.
        things: Classes of what can be picked up in this room.
        floor: Locations at which no receptacle is reached; an episode begins at one.
        lamp: Whether the room has a desk lamp.
    """

    number: int
    receptacles: tuple[tuple[str, str], ...]
    things: tuple[str, ...]
    floor: tuple[str, ...]
    lamp: bool


def wheel() -> Path:
    """The folder of the installed package `alfworld`; it is not imported, as that makes a cache in the user's home.

    Raises:
        ConfigError: The wheel is not installed.
    """
    spec = find_spec("alfworld")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "alfworld: the wheel whose rooms and rules are used is not installed; "
            "run: pip install --no-deps alfworld==0.4.2, or give games of your own with data=PATH"
        )
    return Path(spec.submodule_search_locations[0])


@cache
def rules() -> SimpleNamespace:
    """The wheel's gen/constants.py: what may lie where, and what can be cleaned, heated and cooled."""
    return SimpleNamespace(**run_path(str(wheel() / "gen" / "constants.py")))


def openable(receptacle: str) -> bool:
    """Whether receptacles of this class have a door or a lid."""
    return receptacle in rules().OPENABLE_CLASS_LIST


def holds(receptacle: str) -> frozenset[str]:
    """The classes of things that one may find in or put into receptacles of this class."""
    return frozenset(thing for thing in rules().VAL_RECEPTACLE_OBJECTS.get(receptacle, ()) if "Sliced" not in thing)


@cache
def rooms(split: Split, kind: RoomKind) -> tuple[Room, ...]:
    """The rooms of a kind; training and test rooms are ALFRED's seen and unseen ones."""
    numbers = rules().TRAIN_SCENE_NUMBERS if split == "train" else rules().TEST_SCENE_NUMBERS
    return tuple(_read(number) for number in sorted(numbers) if number in rules().SCENE_TYPE[kind])


def _read(number: int) -> Room:
    plan = str(wheel() / "gen" / "layouts" / f"FloorPlan{number}-")
    classes = sorted(json.loads(Path(f"{plan}objects.json").read_text()))
    poses = json.loads(Path(f"{plan}openable.json").read_text())
    points = np.load(f"{plan}layout.npy")
    placed = []
    for name, (x, z, turn, horizon) in sorted(poses.items()):
        receptacle = name.split("|")[0] + ("Basin" if name.endswith("Basin") else "")
        placed.append((receptacle, _location(x, z, turn, horizon)))
    known = {receptacle for receptacle, _ in placed}
    taken = {(x, z) for x, z, *_ in poses.values()}
    free = [_location(x, z, 0, 30) for x, z in points.tolist() if (x, z) not in taken]
    missing = [name for name in _STANDING if name in classes and name not in known]
    placed += [(name, free.pop(len(free) * (i + 1) // (len(missing) + 2))) for i, name in enumerate(missing)]
    things = sorted(set(classes) & {thing for receptacle, _ in placed for thing in holds(receptacle)})
    return Room(number, tuple(placed), tuple(things), tuple(free), "DeskLamp" in classes)


def _location(x: float, z: float, turn: float, horizon: float) -> str:
    """ALFRED's name of a standpoint, in quarters of a metre and of a turn."""
    numbers = (round(x * 4), round(z * 4), round(turn / 90), round(horizon))
    return "_bar_".join(["loc", *(str(number).replace("-", "_minus_") for number in numbers)])
