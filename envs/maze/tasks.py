"""The mazes: upstream's double T from each of its starts, and seeded random mazes.

The rules of walking are in `env.py`.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from functools import cache

from atlas_ray.environments.contract import Split

Position = tuple[int, int]
"""Row and column, counted from 0 at the top left, as the texts give them."""

MOVES: dict[str, Position] = {
    "move down": (1, 0),
    "move left": (0, -1),
    "move right": (0, 1),
    "move up": (-1, 0),
}

N_RANDOM_TRAIN = 1000
N_RANDOM_TEST = 200
_MIN_DISTANCE, _MAX_DISTANCE = 3, 12
"""Shortest ways in random mazes; the longest in the double T is 12 moves, the paper's cap 15."""


@dataclass(frozen=True, slots=True)
class Maze:
    """A grid of rows, "#" a wall and "." free, with a start and a goal."""

    rows: tuple[str, ...]
    start: Position
    goal: Position

    def free(self, position: Position) -> bool:
        """Whether one can stand there; the border is always wall."""
        row, column = position
        return self.rows[row][column] == "."


DOUBLE_T = (
    "#############",
    "#.....#.....#",
    "###.#####.###",
    "###.#####.###",
    "###.#####.###",
    "###.......###",
    "######.######",
    "######.######",
    "######.######",
    "#############",
)
"""LMRL-Gym's maze of two T's on one trunk, whose foot is the goal."""
DOUBLE_T_GOAL = (8, 6)
DOUBLE_T_STARTS: tuple[Position, ...] = (
    *((1, column) for column in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11)),
    *((row, 3) for row in (2, 3, 4, 5)),
    *((5, column) for column in (4, 5, 6)),
    *((row, 6) for row in (6, 7)),
    *((5, column) for column in (7, 8, 9)),
    *((row, 9) for row in (4, 3, 2)),
)
"""Every free cell but the goal, in the order of AgentGym's item ids."""
GOAL_ITEM = len(DOUBLE_T_STARTS)
"""AgentGym's last item, which starts on the goal; a fifth of AgentTraj-L's maze trajectories are about it."""


@cache
def double_t(item: int) -> Maze:
    """AgentGym's item: the double T from its n-th start."""
    return Maze(DOUBLE_T, (*DOUBLE_T_STARTS, DOUBLE_T_GOAL)[item], DOUBLE_T_GOAL)


@cache
def random_maze(split: Split, task: int) -> Maze:
    """A maze with a few loops, at most 11 x 13, whose goal is 3 to 12 moves from the start."""
    rng = random.Random(f"maze {split} {task}")
    while True:
        rows, columns = rng.choice((7, 9, 11)), rng.choice((7, 9, 11, 13))
        free = _carve(rng, rows, columns)
        cells = sorted(free)
        start = rng.choice(cells)
        near = {goal: way for goal, way in distances(free, start).items() if _MIN_DISTANCE <= way <= _MAX_DISTANCE}
        if near:
            grid = ["".join(".#"[(row, column) not in free] for column in range(columns)) for row in range(rows)]
            return Maze(tuple(grid), start, rng.choice(sorted(near)))


def _carve(rng: random.Random, rows: int, columns: int) -> frozenset[Position]:
    """Rooms on odd coordinates joined to a tree by a random walk, then a few more walls opened."""
    rooms = {(row, column) for row in range(1, rows, 2) for column in range(1, columns, 2)}
    start = min(rooms)
    free, stack = {start}, [start]
    while stack:
        row, column = stack[-1]
        beside = [(row + 2 * dr, column + 2 * dc) for dr, dc in MOVES.values()]
        fresh = [room for room in beside if room in rooms - free]
        if not fresh:
            stack.pop()
            continue
        room = rng.choice(fresh)
        free |= {room, ((row + room[0]) // 2, (column + room[1]) // 2)}
        stack.append(room)
    walls = sorted(
        (row, column)
        for row in range(1, rows - 1)
        for column in range(1, columns - 1)
        if (row + column) % 2 == 1 and (row, column) not in free
    )
    return frozenset(free | set(rng.sample(walls, len(walls) // 8)))


def distances(free: frozenset[Position], start: Position) -> dict[Position, int]:
    """Moves from the start to each free cell that can be reached."""
    found = {start: 0}
    queue = deque([start])
    while queue:
        row, column = queue.popleft()
        for down, right in MOVES.values():
            there = (row + down, column + right)
            if there in free and there not in found:
                found[there] = found[row, column] + 1
                queue.append(there)
    return found
