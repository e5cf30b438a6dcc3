"""Search for the shortest sequence of BabyAI macro actions that reaches one aim in a known grid.

It sees the whole grid. Which aims a mission needs, and the expert's thoughts, are in `expert.py`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from envs.babyai.grid import (
    EMPTY,
    FORWARD,
    LEFT,
    LOCKED,
    OPEN,
    RIGHT,
    World,
    code,
    colour,
    door_state,
    enterable,
    kind,
    look,
)
from envs.babyai.text import Sight, read

MAX_EXPANDED = 3000
"""States that a search looks at before it gives up."""
_CLEARING, _UNLOCKING = 30, 60  # what an object in the way or a locked door costs, in cells

Verb = Literal["go to", "pickup", "drop", "toggle", "open"]


@dataclass(frozen=True)
class Aim:
    """What the last macro action of a plan has to do.

    "go to": end up facing one of `positions`; "pickup" and "toggle": do that to one of them; "open": have one of them
    open, perhaps while going through; "drop": put down what is carried where `accept(world after, position)` is true.
    """

    verb: Verb
    positions: frozenset[int]
    accept: Callable[[World, int], bool] = lambda world, position: True


@dataclass(frozen=True)
class Step:
    """A macro action, and the state that it is expected to lead to."""

    action: str
    position: int
    direction: int


def search(world: World, aim: Aim, closed: frozenset[int] = frozenset()) -> tuple[list[Step], World] | None:
    """The plan with the fewest macro actions, then the fewest moves, and the world after it; None if there is none.

    Args:
        world: Where to start; not changed.
        aim: What to reach.
        closed: Doors that must not be opened on the way.
    """
    start = world.copy()
    tie = 0
    heap: list[tuple[int, int, int, bool, World, tuple[Step, ...]]] = [(0, 0, tie, False, start, ())]
    visited: set[tuple[int, int]] = set()
    while heap and len(visited) < MAX_EXPANDED:
        rounds, moves, _, reached, here, steps = heapq.heappop(heap)
        if reached:
            return list(steps), here
        if (here.position, here.direction) in visited:
            continue
        visited.add((here.position, here.direction))
        reading = read(here, look(here))
        for action, primitives in (reading.actions | reading.unlisted).items():
            sight = reading.targets.get(action)
            if not _useful(action, sight, aim, closed):
                continue
            after, n_moves = _walk(here, primitives)
            ends = _reaches(aim, action, sight, here, after)
            if ends or ((after.position, after.direction) not in visited and _is_travel(action)):
                tie += 1
                step = Step(action, after.position, after.direction)
                heapq.heappush(heap, (rounds + 1, moves + n_moves, tie, ends, after, (*steps, step)))
    return None


def _is_travel(action: str) -> bool:
    return not action.startswith(("pickup", "drop")) and action != "toggle"


def _useful(action: str, sight: Sight | None, aim: Aim, closed: frozenset[int]) -> bool:
    if action.startswith("pickup"):
        return aim.verb == "pickup" and sight is not None and sight.position in aim.positions
    if action == "drop":
        return aim.verb == "drop"
    if action == "toggle":
        return aim.verb == "toggle" and sight is not None and sight.position in aim.positions
    if action.startswith("toggle and"):
        return sight is not None and sight.position not in closed
    return action != "check available actions"


def _reaches(aim: Aim, action: str, sight: Sight | None, before: World, after: World) -> bool:
    if aim.verb == "go to":
        return after.ahead in aim.positions
    if aim.verb == "pickup":
        return action.startswith("pickup") and after.carrying != EMPTY
    if aim.verb == "toggle":
        return action == "toggle"
    if aim.verb == "open":
        return sight is not None and sight.position in aim.positions and door_state(after.cells[sight.position]) == OPEN
    return action == "drop" and after.carrying == EMPTY and aim.accept(after, before.ahead)


def _walk(world: World, primitives: tuple[int, ...]) -> tuple[World, int]:
    """The world after a macro action, which stops in front of what it cannot enter, and how many moves that took.

    As long as nothing but the agent moves, the worlds share their cells.
    """
    steps = (1, world.across, -1, -world.across)
    cells, position, direction = world.cells, world.position, world.direction
    for n, primitive in enumerate(primitives):
        if primitive == LEFT:
            direction = (direction - 1) % 4
        elif primitive == RIGHT:
            direction = (direction + 1) % 4
        elif primitive == FORWARD:
            if not enterable(cells[position + steps[direction]]):
                return World(world.across, cells, position, direction, world.carrying), n + 1
            position += steps[direction]
        else:
            after = World(world.across, cells.copy(), position, direction, world.carrying)
            for move in primitives[n:]:
                after.move(move)
            return after, len(primitives)
    return World(world.across, cells, position, direction, world.carrying), len(primitives)


def obstacle(world: World, goals: frozenset[int], start: int | None = None) -> int | None:
    """The first object or locked door on the way from `start` (the agent's position if None) to the nearest goal.

    None if the way is free, or if walls close it off. Closed doors, and locked ones whose key is carried, are free.
    """
    return way(world, goals, start)[1]


def keeps_free(world: World, position: int, goals: frozenset[int], start: int | None = None) -> bool:
    """Whether an object at `position` leaves the way to the goals free, from the agent and from `start` if given."""
    without = world.copy()
    without.cells[position] = EMPTY
    starts = (world.position,) if start is None else (world.position, start)
    return all(way(world, goals, one)[0] == way(without, goals, one)[0] for one in starts)


def way(world: World, goals: frozenset[int], start: int | None = None) -> tuple[int | None, int | None]:
    """The cost of the cheapest way to a goal in cells, more expensive past obstacles, and the first obstacle on it."""
    start = world.position if start is None else start
    tie = 0
    heap: list[tuple[int, int, int, int | None]] = [(0, tie, start, None)]
    done: set[int] = set()
    while heap:
        cost, _, position, first = heapq.heappop(heap)
        if position in done:
            continue
        done.add(position)
        if position in goals:
            return cost, first
        for step in (1, world.across, -1, -world.across):
            there = position + step
            cell = world.cells[there]
            if kind(cell) == "wall" or there in done:
                continue
            extra, found = 1, first
            if there not in goals:
                if kind(cell) == "door":
                    if door_state(cell) == LOCKED and world.carrying != code("key", colour(cell)):
                        extra, found = _UNLOCKING, first or there
                elif cell != EMPTY:
                    extra, found = _CLEARING, first or there
            tie += 1
            heapq.heappush(heap, (cost + extra, tie, there, found))
    return None, None


def doors_shut(world: World, positions: Iterable[int]) -> frozenset[int]:
    """The positions that hold a door that is not open."""
    cells = world.cells
    return frozenset(p for p in positions if kind(cells[p]) == "door" and door_state(cells[p]) != OPEN)
