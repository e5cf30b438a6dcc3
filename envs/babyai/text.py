"""The texts that a BabyAI agent reads and its macro actions, made from what it sees in the grid.

The wording, the numbering of objects and the order of actions follow AgentGym's text layer, its oddities included,
because agents tuned on AgentTraj-L know them. The view is computed in `grid.py`, paths in `paths.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from envs.babyai.grid import (
    AGENT_CELL,
    CLOSED,
    DROP,
    EMPTY,
    FORWARD,
    LEFT,
    OPEN,
    PICKUP,
    RIGHT,
    TOGGLE,
    VIEW,
    World,
    blocks,
    colour,
    door_state,
    hidden_key,
    kind,
    name,
    view_offsets,
)
from envs.babyai.paths import find_paths


@dataclass(slots=True)
class Sight:
    """An object in view, numbered by distance among those of the same name."""

    cell: int
    number: int
    ahead: int
    right: int
    position: int

    @property
    def label(self) -> str:
        """Its name and number, such as "red ball 1"."""
        return f"{name(self.cell)} {self.number}"

    @property
    def where(self) -> str:
        """Its position as the description words it."""
        if self.right == 0:
            return f"right in front of you {self.ahead} steps away"
        side = "right" if self.right > 0 else "left"
        return f"{self.ahead} steps in front of you and {abs(self.right)} steps to your {side}"


@dataclass(slots=True)
class Reading:
    """What a view says: the objects, the macro actions in upstream's order, and why others cannot be done."""

    sights: list[Sight]
    carrying: int
    facing: tuple[int, str] | None
    """Steps to the wall or box straight ahead, and which of the two it is."""
    anything: bool
    """Whether anything is seen, be it a wall."""
    actions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    targets: dict[str, Sight] = field(default_factory=dict)
    """The object that each action on an object is about."""
    refusals: dict[str, str] = field(default_factory=dict)
    unlisted: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Actions that can be done but are not in upstream's list."""

    @property
    def description(self) -> str:
        """The view in words."""
        if self.anything:
            text = "In front of you in this room, you can see several objects: "
            text += "".join(f"There is a {sight.label} {sight.where}.  " for sight in self.sights)
        else:
            text = "You cannot see any objects within sight."
        text += "The room has walls around you. "
        if self.facing is not None:
            text += f"You are facing a {self.facing[1]} {self.facing[0]} steps away. "
        if self.carrying == EMPTY:
            return f"{text}You are not carrying anything."
        return f"{text}You are carrying a {name(self.carrying)}."


@cache
def _scan_order() -> tuple[tuple[int, int, int], ...]:
    """View cells but the agent's own as (index, steps ahead, steps right), nearest first, then as upstream scans."""
    cells = [(n, VIEW - 1 - n // VIEW, n % VIEW - VIEW // 2) for n in range(VIEW * VIEW) if n != AGENT_CELL]
    return tuple(sorted(cells, key=lambda cell: cell[1] + abs(cell[2])))


def read(world: World, view: list[int]) -> Reading:
    """The words and the macro actions for a view of the world."""
    offsets = view_offsets(world.across, world.direction)
    sights: list[Sight] = []
    blocked: set[int] = set()
    numbers: dict[int, int] = {}
    facing: tuple[int, str] | None = None
    anything = False
    for n, ahead, right in _scan_order():
        cell = view[n]
        if cell <= EMPTY:
            continue
        position = world.position + offsets[n]
        if min(world.xy(position)) < 0:
            continue
        anything = True
        if blocks(cell):
            blocked.add(position)
        if right == 0 and facing is None and kind(cell) in ("wall", "box"):
            facing = (ahead, kind(cell))
        if kind(cell) != "wall":
            numbers[cell] = numbers.get(cell, 0) + 1
            sights.append(Sight(cell, numbers[cell], ahead, right, position))

    reading = Reading(sights, world.carrying, facing, anything)
    _add_actions(reading, world, blocked)
    return reading


def _add_actions(reading: Reading, world: World, blocked: set[int]) -> None:
    actions, refusals, targets = reading.actions, reading.refusals, reading.targets
    facing_paths, entering_paths = find_paths(
        world, [(sight.position, sight.cell) for sight in reading.sights], blocked
    )

    def offer(
        action: str, sight: Sight, path: tuple[int, ...] | None, then: tuple[int, ...] = (), named: str = ""
    ) -> None:
        if path is None:
            refusals[action] = f"You cannot {named or action}, as there is no path leading to it."
        else:
            actions[action] = path + then
            targets[action] = sight

    def offer_numbered(verb: str, sights: list[Sight], then: tuple[int, ...]) -> None:
        # Upstream counts only objects that a path leads to, so a number can differ from the description's.
        reached: dict[int, int] = {}
        for sight in sights:
            path = facing_paths.get(sight.position)
            number = reached.get(sight.cell, 0) + 1
            offer(f"{verb} {name(sight.cell)} {number}", sight, path, then)
            if path is not None:
                reached[sight.cell] = number

    actions["turn left"], actions["turn right"] = (LEFT,), (RIGHT,)
    if reading.facing is None or reading.facing[0] > 1:
        actions["move forward"] = (FORWARD,)
    else:
        refusals["move forward"] = "There is a barrier in front of you, you can't move forward."
    if world.carrying == EMPTY:
        offer_numbered("pickup", [sight for sight in reading.sights if kind(sight.cell) != "door"], (PICKUP,))
        refusals["drop"] = "You cannot drop the object, as you are not carrying anything."
    elif world.ahead in blocked:
        refusals["drop"] = "You cannot drop the object, as there is already an object in front of you."
    else:
        actions["drop"] = (DROP,)
    doors: dict[str, int] = {}
    for sight in reading.sights:
        if hidden_key(sight.cell) and facing_paths.get(sight.position) == ():
            reading.unlisted["toggle"] = (TOGGLE,)
            targets["toggle"] = sight
        if kind(sight.cell) != "door":
            continue
        doors[name(sight.cell)] = sight.number
        state, through = door_state(sight.cell), f"toggle and go through {sight.label}"
        if state == OPEN:
            offer(f"go through {sight.label}", sight, entering_paths.get(sight.position))
            continue
        if state == CLOSED:
            refusals[f"go through {sight.label}"] = (
                f"You cannot go through {sight.label}, as it is closed. You should toggle it first."
            )
        elif kind(world.carrying) != "key":
            refusals[through] = f"You cannot {through}, as you are not carrying a key."
            continue
        elif colour(world.carrying) != colour(sight.cell):
            refusals[through] = (
                f"You cannot {through}, as the color of the key you are carrying does not match the color of door."
            )
            continue
        path = facing_paths.get(sight.position)
        # Where no path leads to a shut door, upstream prints its dictionary of the doors so far for the number.
        offer(through, sight, path, (TOGGLE, FORWARD), named=f"toggle and go through {name(sight.cell)} {doors}")
        if path == ():
            actions["toggle"] = (TOGGLE,)
            targets["toggle"] = sight
    offer_numbered("go to", reading.sights, ())
    actions["check available actions"] = ()
