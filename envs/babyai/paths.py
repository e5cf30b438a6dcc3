"""Paths through the part of the grid that the agent sees, as minigrid's primitive moves.

The order of the search is that of AgentGym's text layer, because it decides which macro actions exist and where they
end.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from envs.babyai.grid import FORWARD, LEFT, OPEN, RIGHT, STEP, VIEW, World, door_state, kind

# Paths are searched on a small board of 16 x 16 cells around the agent; a state is cell * 4 + direction.
_SIDE = 16
_CENTRE = _SIDE // 2 * (_SIDE + 1)
_BOARD_STEPS = tuple(dy * _SIDE + dx for dx, dy in STEP)
_TURNED_LEFT = tuple(state & ~3 | (state - 1) & 3 for state in range(_SIDE * _SIDE * 4))
_TURNED_RIGHT = tuple(state & ~3 | (state + 1) & 3 for state in range(_SIDE * _SIDE * 4))


@cache
def _board(direction: int) -> bytes:
    """1 for the cells that paths may use: the view and, as upstream, a strip beside or behind it."""
    fx, fy = STEP[direction]
    rx, ry = STEP[(direction + 1) % 4]
    corner = (fx * (VIEW - 1) - rx * (VIEW // 2), fy * (VIEW - 1) - ry * (VIEW // 2))
    end = (corner[0] + VIEW * (rx - fx), corner[1] + VIEW * (ry - fy))
    xs, ys = (range(e, c + 1) if e < c else range(c, e) for c, e in zip(corner, end, strict=True))
    usable = {_CENTRE + y * _SIDE + x for x in xs for y in ys}
    return bytes(cell in usable for cell in range(_SIDE * _SIDE))


@cache
def _on_board(across: int, offset: int) -> int:
    """The board's cell for a position relative to the agent."""
    y, x = divmod(offset + _SIDE // 2 * (across + 1), across)
    return y * _SIDE + x


def find_paths(
    world: World, objects: Iterable[tuple[int, int]], blocked: set[int]
) -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]]:
    """Primitive moves until the agent faces each object in view, and until it stands in each open door in view.

    Breadth first over (cell, direction), forward before left before right. A state found again before its turn takes
    the later finder as its parent; that is upstream's search, and it decides where the agent ends up.

    Args:
        world: The agent's position and direction.
        objects: Place and content of what is in view, walls left out.
        blocked: Places in view that a path has to go around.

    Returns:
        Moves by the position of the object, and by the position of the open door; unreachable ones are left out.
    """
    across, here = world.across, world.position
    usable = bytearray(_board(world.direction))
    for position in blocked:
        usable[_on_board(across, position - here)] = 0
    reached = _flood(usable)
    to_face: dict[int, int] = {}
    to_enter: dict[int, int] = {}
    for position, content in objects:
        cell = _on_board(across, position - here)
        if any(reached[cell + step] for step in _BOARD_STEPS):
            to_face[cell] = position
        if reached[cell] and kind(content) == "door" and door_state(content) == OPEN:
            to_enter[cell] = position
    facing: dict[int, tuple[int, ...]] = {}
    entering: dict[int, tuple[int, ...]] = {}
    if not to_face:
        return facing, entering

    start = _CENTRE * 4 + world.direction
    came = [0] * (_SIDE * _SIDE * 4)
    settled = bytearray(_SIDE * _SIDE * 4)
    queue = [start]
    for state in queue:
        direction = state & 3
        front = (state >> 2) + _BOARD_STEPS[direction]
        if not settled[state]:
            settled[state] = 1
            if front in to_face:
                facing[to_face.pop(front)] = _trace(came, start, state)
            if to_enter and state >> 2 in to_enter:
                entering[to_enter.pop(state >> 2)] = _trace(came, start, state)
            if not to_face and not to_enter:
                break
        if usable[front] and not settled[found := front * 4 + direction]:
            queue.append(found)
            came[found] = state
        if not settled[found := _TURNED_LEFT[state]]:
            queue.append(found)
            came[found] = state
        if not settled[found := _TURNED_RIGHT[state]]:
            queue.append(found)
            came[found] = state
    return facing, entering


def _flood(usable: bytearray) -> bytearray:
    """1 for the usable cells that are connected with the agent's."""
    reached = bytearray(len(usable))
    reached[_CENTRE] = 1
    queue = [_CENTRE]
    for cell in queue:
        for step in _BOARD_STEPS:
            if usable[cell + step] and not reached[cell + step]:
                reached[cell + step] = 1
                queue.append(cell + step)
    return reached


def _trace(came: list[int], start: int, state: int) -> tuple[int, ...]:
    """The moves from the start to a state."""
    moves = []
    while state != start:
        before = came[state]
        if before >> 2 != state >> 2:
            moves.append(FORWARD)
        else:
            moves.append(LEFT if state == _TURNED_LEFT[before] else RIGHT)
        state = before
    return tuple(reversed(moves))
