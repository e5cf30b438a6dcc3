"""The text that a BabyAI agent reads and the macro actions it can take, from what it sees in the grid.

A `World` is a flat copy of the grid, cheap to copy and to move in; `look` gives what the agent sees of it and
`read` the words and actions for that. The choice of words, the numbering of objects and the paths follow AgentGym's
text layer, its oddities included, because agents tuned on AgentTraj-L know them. Missions and rewards are in `env.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = range(6)

VIEW = 7
"""The agent sees a square of 7 x 7 cells; it stands in the middle of the nearest row."""
AGENT_CELL = VIEW * VIEW - 1 - VIEW // 2
UNSEEN = -1
EMPTY = 0
_KINDS = ("", "wall", "door", "key", "ball", "box")
_COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
_DOOR_STATES = ("open", "closed", "locked")
OPEN, CLOSED, LOCKED = range(3)
_MARGIN = VIEW
_STEP = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up


def code(kind: str, colour: str, state: int = 0) -> int:
    """A cell's content as a number; its lowest bit says that nothing behind it is seen."""
    opaque = kind == "wall" or (kind == "door" and state != OPEN)
    return _KINDS.index(kind) << 8 | _COLOURS.index(colour) << 4 | state << 1 | opaque


WALL = code("wall", "grey")


@cache
def kind(cell: int) -> str:
    """ "wall", "door", "key", "ball" or "box"; "" for an empty or unseen cell."""
    return _KINDS[cell >> 8] if cell > 0 else ""


@cache
def colour(cell: int) -> str:
    """The colour's name."""
    return _COLOURS[cell >> 4 & 7]


@cache
def door_state(cell: int) -> int:
    """OPEN, CLOSED or LOCKED."""
    return cell >> 1 & 3


@cache
def name(cell: int) -> str:
    """What the text calls it, such as "red ball" or "grey closed door"."""
    state = f"{_DOOR_STATES[door_state(cell)]} " if kind(cell) == "door" else ""
    return f"{colour(cell)} {state}{kind(cell)}"


@cache
def _blocks(cell: int) -> bool:
    """Whether a path has to go around it; AgentGym's paths lead through closed doors, where walking then stops."""
    return kind(cell) in ("wall", "key", "ball", "box")


@dataclass(slots=True)
class World:
    """Grid, agent and what it carries. Cells are stored row by row with a margin of walls around them.

    A place is an index into `cells`; `across` is the number of cells in a row. Directions are 0 right, 1 down, 2 left,
    3 up.
    """

    across: int
    cells: list[int]
    place: int
    direction: int
    carrying: int = EMPTY

    @classmethod
    def of(cls, level: Any) -> World:
        """The world of a minigrid level."""
        width, height = level.grid.width, level.grid.height
        across = width + 2 * _MARGIN
        cells = [WALL] * (across * (height + 2 * _MARGIN))
        for n, thing in enumerate(level.grid.grid):
            cells[(n // width + _MARGIN) * across + n % width + _MARGIN] = encode(thing)
        x, y = level.agent_pos
        place = (int(y) + _MARGIN) * across + int(x) + _MARGIN
        return cls(across, cells, place, int(level.agent_dir), encode(level.carrying))

    def copy(self) -> World:
        """Another world in the same state."""
        return World(self.across, self.cells.copy(), self.place, self.direction, self.carrying)

    def at(self, x: int, y: int) -> int:
        """The place of minigrid's cell (x, y)."""
        return (y + _MARGIN) * self.across + x + _MARGIN

    def xy(self, place: int) -> tuple[int, int]:
        """Minigrid's cell (x, y) of a place."""
        y, x = divmod(place, self.across)
        return x - _MARGIN, y - _MARGIN

    @property
    def ahead(self) -> int:
        """The place in front of the agent."""
        dx, dy = _STEP[self.direction]
        return self.place + dy * self.across + dx

    def move(self, primitive: int) -> None:
        """What minigrid does on one primitive action."""
        if primitive == LEFT:
            self.direction = (self.direction - 1) % 4
        elif primitive == RIGHT:
            self.direction = (self.direction + 1) % 4
        else:
            front = self.ahead
            cell = self.cells[front]
            is_door = kind(cell) == "door"
            if primitive == FORWARD:
                if cell == EMPTY or (is_door and door_state(cell) == OPEN):
                    self.place = front
            elif primitive == PICKUP:
                if self.carrying == EMPTY and kind(cell) in ("key", "ball", "box"):
                    self.carrying, self.cells[front] = cell, EMPTY
            elif primitive == DROP:
                if self.carrying != EMPTY and cell == EMPTY:
                    self.cells[front], self.carrying = self.carrying, EMPTY
            elif primitive == TOGGLE and is_door:
                state = door_state(cell)
                if state != LOCKED or self.carrying == code("key", colour(cell)):
                    self.cells[front] = code("door", colour(cell), CLOSED if state == OPEN else OPEN)


def encode(thing: Any) -> int:
    """The code of a minigrid object, or of an empty cell (None)."""
    if thing is None:
        return EMPTY
    if thing.type != "door":
        return code(thing.type, thing.color)
    return code("door", thing.color, OPEN if thing.is_open else LOCKED if thing.is_locked else CLOSED)


# -- seeing ---------------------------------------------------------------------------------------------------------


@cache
def _view_places(across: int, direction: int) -> tuple[int, ...]:
    """The 49 places of the view relative to the agent, the farthest row first, each from left to right."""
    fx, fy = _STEP[direction]
    rx, ry = _STEP[(direction + 1) % 4]
    offsets = []
    for row in range(VIEW):
        for column in range(VIEW):
            ahead, aside = VIEW - 1 - row, column - VIEW // 2
            offsets.append((fy * ahead + ry * aside) * across + fx * ahead + rx * aside)
    return tuple(offsets)


@cache
def _spread(lit: int, opaque: int) -> tuple[int, int]:
    """How sight spreads along one row of the view and up to the next one (bit sets, bit 0 leftmost)."""
    up = 0
    for order, step in ((range(VIEW - 1), 1), (range(VIEW - 1, 0, -1), -1)):
        for column in order:
            if lit >> column & 1 and not opaque >> column & 1:
                both = 1 << column | 1 << (column + step)
                lit |= 1 << (column + step)
                up |= both
    return lit, up


def view_places(world: World) -> list[int]:
    """The places of the cells of `look`, in its order."""
    return [world.place + offset for offset in _view_places(world.across, world.direction)]


def look(world: World) -> list[int]:
    """The 49 cells of the agent's view as codes, UNSEEN where it cannot see; its own cell shows what it carries."""
    place, cells = world.place, world.cells
    view = [cells[place + offset] for offset in _view_places(world.across, world.direction)]
    lit = 1 << VIEW // 2
    for start in range((VIEW - 1) * VIEW, -1, -VIEW):
        row = view[start : start + VIEW]
        a, b, c, d, e, f, g = row
        opaque = a & 1 | (b & 1) << 1 | (c & 1) << 2 | (d & 1) << 3 | (e & 1) << 4 | (f & 1) << 5 | (g & 1) << 6
        seen, lit = _spread(lit, opaque)
        if seen != 127:
            view[start : start + VIEW] = [cell if seen >> n & 1 else UNSEEN for n, cell in enumerate(row)]
    view[AGENT_CELL] = world.carrying
    return view


# -- words and actions ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sight:
    """An object in view, numbered by distance among those of the same name."""

    cell: int
    number: int
    ahead: int
    right: int
    place: int

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
    """What a view says: the description, the macro actions in upstream's order, and why others cannot be done."""

    description: str
    sights: list[Sight]
    actions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    targets: dict[str, Sight] = field(default_factory=dict)
    """The object that each action on an object is about."""
    refusals: dict[str, str] = field(default_factory=dict)


@cache
def _scan_order() -> tuple[tuple[int, int, int], ...]:
    """View cells but the agent's own as (index, steps ahead, steps right), nearest first, then as upstream scans."""
    cells = [(n, VIEW - 1 - n // VIEW, n % VIEW - VIEW // 2) for n in range(VIEW * VIEW) if n != AGENT_CELL]
    return tuple(sorted(cells, key=lambda cell: cell[1] + abs(cell[2])))


def read(world: World, view: list[int]) -> Reading:
    """The words and the macro actions for a view of the world."""
    offsets = _view_places(world.across, world.direction)
    sights: list[Sight] = []
    blocked: set[int] = set()
    numbers: dict[int, int] = {}
    facing: tuple[int, str] | None = None
    anything = False
    for n, ahead, right in _scan_order():
        cell = view[n]
        if cell <= EMPTY:
            continue
        place = world.place + offsets[n]
        if min(world.xy(place)) < 0:
            continue
        anything = True
        if _blocks(cell):
            blocked.add(place)
        if right == 0 and facing is None and kind(cell) in ("wall", "box"):
            facing = (ahead, kind(cell))
        if kind(cell) != "wall":
            numbers[cell] = numbers.get(cell, 0) + 1
            sights.append(Sight(cell, numbers[cell], ahead, right, place))

    reading = Reading(_describe(world, sights, facing, anything), sights)
    _add_actions(reading, world, blocked, facing)
    return reading


def _describe(world: World, sights: list[Sight], facing: tuple[int, str] | None, anything: bool) -> str:
    if anything:
        text = "In front of you in this room, you can see several objects: "
        text += "".join(f"There is a {sight.label} {sight.where}.  " for sight in sights)
    else:
        text = "You cannot see any objects within sight."
    text += "The room has walls around you. "
    if facing is not None:
        text += f"You are facing a {facing[1]} {facing[0]} steps away. "
    if world.carrying == EMPTY:
        return f"{text}You are not carrying anything."
    return f"{text}You are carrying a {name(world.carrying)}."


def _add_actions(reading: Reading, world: World, blocked: set[int], facing: tuple[int, str] | None) -> None:
    actions, refusals, targets = reading.actions, reading.refusals, reading.targets
    facing_paths, entering_paths = _paths(world, reading.sights, blocked)

    def offer(action: str, sight: Sight, path: tuple[int, ...] | None, then: tuple[int, ...] = ()) -> None:
        if path is None:
            refusals[action] = f"You cannot {action}, as there is no path leading to it."
        else:
            actions[action] = path + then
            targets[action] = sight

    def offer_numbered(verb: str, sights: list[Sight], then: tuple[int, ...]) -> None:
        # Upstream counts only objects that a path leads to, so a number can differ from the description's.
        reached: dict[int, int] = {}
        for sight in sights:
            path = facing_paths.get(sight.place)
            number = reached.get(sight.cell, 0) + 1
            offer(f"{verb} {name(sight.cell)} {number}", sight, path, then)
            if path is not None:
                reached[sight.cell] = number

    actions["turn left"], actions["turn right"] = (LEFT,), (RIGHT,)
    if facing is None or facing[0] > 1:
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
    for sight in reading.sights:
        if kind(sight.cell) != "door":
            continue
        state, through = door_state(sight.cell), f"toggle and go through {sight.label}"
        if state == OPEN:
            offer(f"go through {sight.label}", sight, entering_paths.get(sight.place))
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
        path = facing_paths.get(sight.place)
        offer(through, sight, path, (TOGGLE, FORWARD))
        if path == ():
            actions["toggle"] = (TOGGLE,)
            targets["toggle"] = sight
    offer_numbered("go to", reading.sights, ())
    actions["check available actions"] = ()


# -- paths ------------------------------------------------------------------------------------------------------------


@cache
def _region(across: int, direction: int) -> frozenset[int]:
    """The places, relative to the agent, that paths may use: the view and, as upstream, a strip beside or behind it."""
    fx, fy = _STEP[direction]
    rx, ry = _STEP[(direction + 1) % 4]
    corner = (fx * (VIEW - 1) - rx * (VIEW // 2), fy * (VIEW - 1) - ry * (VIEW // 2))
    end = (corner[0] + VIEW * (rx - fx), corner[1] + VIEW * (ry - fy))
    xs, ys = (range(e, c + 1) if e < c else range(c, e) for c, e in zip(corner, end, strict=True))
    return frozenset(y * across + x for x in xs for y in ys)


def _paths(
    world: World, sights: list[Sight], blocked: set[int]
) -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]]:
    """Primitive moves until the agent faces each object in view, and until it stands in each open door in view.

    Breadth first over (place, direction), forward before left before right. A state found again before its turn
    takes the later finder as its parent; that is upstream's search, and it decides where the agent ends up.
    """
    across = world.across
    steps = tuple(dy * across + dx for dx, dy in _STEP)
    to_face = {sight.place for sight in sights}
    to_enter = {sight.place for sight in sights if kind(sight.cell) == "door" and door_state(sight.cell) == OPEN}
    facing: dict[int, tuple[int, ...]] = {}
    entering: dict[int, tuple[int, ...]] = {}
    if not to_face:
        return facing, entering
    region = {world.place + offset for offset in _region(across, world.direction)} - blocked
    start = world.place * 4 + world.direction
    came: dict[int, tuple[int, int]] = {}
    settled: set[int] = set()
    queue = [start]

    def path(state: int) -> tuple[int, ...]:
        moves = []
        while state != start:
            state, move = came[state]
            moves.append(move)
        return tuple(reversed(moves))

    for state in queue:
        place, direction = divmod(state, 4)
        front = place + steps[direction]
        if state not in settled:
            settled.add(state)
            if front in to_face:
                to_face.discard(front)
                facing[front] = path(state)
            if place in to_enter:
                to_enter.discard(place)
                entering[place] = path(state)
            if not to_face and not to_enter:
                break
        turned = place * 4
        if front in region and (found := front * 4 + direction) not in settled:
            queue.append(found)
            came[found] = (state, FORWARD)
        if (found := turned + (direction - 1) % 4) not in settled:
            queue.append(found)
            came[found] = (state, LEFT)
        if (found := turned + (direction + 1) % 4) not in settled:
            queue.append(found)
            came[found] = (state, RIGHT)
    return facing, entering
