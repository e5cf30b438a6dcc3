"""The grid as numbers: the content of each cell, the effect of minigrid's primitive moves, and the agent's view.

A `World` is a flat copy of minigrid's grid that is cheap to copy and to move in. Whether a mission is done is decided
by minigrid's own level (`env.py`). Texts are in `text.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
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
STEP = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up


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
def hidden_key(cell: int) -> int:
    """The key that lies in a box, or EMPTY."""
    inside = cell >> 1 & 7
    return code("key", _COLOURS[inside - 1]) if kind(cell) == "box" and inside else EMPTY


@cache
def name(cell: int) -> str:
    """What the text calls it, such as "red ball" or "grey closed door"."""
    state = f"{_DOOR_STATES[door_state(cell)]} " if kind(cell) == "door" else ""
    return f"{colour(cell)} {state}{kind(cell)}"


@cache
def enterable(cell: int) -> bool:
    """Whether the agent can step there: an empty cell or an open door."""
    return cell == EMPTY or (kind(cell) == "door" and door_state(cell) == OPEN)


@cache
def blocks(cell: int) -> bool:
    """Whether a path has to go around it; AgentGym's paths lead through closed doors, where walking then stops."""
    return kind(cell) in ("wall", "key", "ball", "box")


@dataclass(slots=True)
class World:
    """Grid, agent and what it carries. Cells are stored row by row with a margin of walls around them.

    A position is an index into `cells`; `across` is the number of cells in a row. Directions are 0 right, 1 down,
    2 left, 3 up.
    """

    across: int
    cells: list[int]
    position: int
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
        position = (int(y) + _MARGIN) * across + int(x) + _MARGIN
        return cls(across, cells, position, int(level.agent_dir), encode(level.carrying))

    def copy(self) -> World:
        """Another world in the same state."""
        return World(self.across, self.cells.copy(), self.position, self.direction, self.carrying)

    def at(self, x: int, y: int) -> int:
        """The position of minigrid's cell (x, y)."""
        return (y + _MARGIN) * self.across + x + _MARGIN

    def xy(self, position: int) -> tuple[int, int]:
        """Minigrid's cell (x, y) of a position."""
        y, x = divmod(position, self.across)
        return x - _MARGIN, y - _MARGIN

    @property
    def ahead(self) -> int:
        """The position in front of the agent."""
        dx, dy = STEP[self.direction]
        return self.position + dy * self.across + dx

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
                if enterable(cell):
                    self.position = front
            elif primitive == PICKUP:
                if self.carrying == EMPTY and kind(cell) in ("key", "ball", "box"):
                    self.carrying, self.cells[front] = cell, EMPTY
            elif primitive == DROP:
                if self.carrying != EMPTY and cell == EMPTY:
                    self.cells[front], self.carrying = self.carrying, EMPTY
            elif primitive == TOGGLE and hidden_key(cell):
                self.cells[front] = hidden_key(cell)
            elif primitive == TOGGLE and is_door:
                state = door_state(cell)
                if state != LOCKED or self.carrying == code("key", colour(cell)):
                    self.cells[front] = code("door", colour(cell), CLOSED if state == OPEN else OPEN)


def encode(thing: Any) -> int:
    """The code of a minigrid object, or of an empty cell (None)."""
    if thing is None:
        return EMPTY
    if thing.type == "box" and thing.contains is not None:
        return code("box", thing.color, 1 + _COLOURS.index(thing.contains.color))
    if thing.type != "door":
        return code(thing.type, thing.color)
    return code("door", thing.color, OPEN if thing.is_open else LOCKED if thing.is_locked else CLOSED)


@cache
def view_offsets(across: int, direction: int) -> tuple[int, ...]:
    """The 49 positions of the view relative to the agent, the farthest row first, each from left to right."""
    fx, fy = STEP[direction]
    rx, ry = STEP[(direction + 1) % 4]
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


def view_positions(world: World) -> list[int]:
    """The positions of the cells of `look`, in its order."""
    return [world.position + offset for offset in view_offsets(world.across, world.direction)]


def look(world: World) -> list[int]:
    """The 49 cells of the agent's view as codes, UNSEEN where it cannot see; its own cell shows what it carries."""
    position, cells = world.position, world.cells
    view = [cells[position + offset] for offset in view_offsets(world.across, world.direction)]
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
