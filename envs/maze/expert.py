"""The Maze expert: takes a shortest way from wherever the agent is, and explains each move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envs.maze.tasks import MOVES, Position, distances

if TYPE_CHECKING:
    from envs.maze.env import MazeEnv


class MazeExpert:
    """Knows the whole maze; where several moves are as short, it takes the one that leads more towards the goal."""

    def __init__(self, env: MazeEnv) -> None:
        self._env = env

    def next_action(self, observation: str) -> tuple[str, str]:
        """The next move of a shortest way; see `Expert`."""
        maze, here = self._env.maze, self._env.position
        free = frozenset(
            (row, column) for row, cells in enumerate(maze.rows) for column, cell in enumerate(cells) if cell == "."
        )
        left = distances(free, maze.goal)
        if here == maze.goal:
            stays = next(name for name, step in MOVES.items() if not maze.free((here[0] + step[0], here[1] + step[1])))
            return f"I am on the goal at {here[0]}, {here[1]} already, so I walk into a wall: {stays}.", stays
        down, right = maze.goal[0] - here[0], maze.goal[1] - here[1]

        def gain(step: Position) -> int:
            """Cells nearer to the goal as the crow flies, weighted by how far off that direction is."""
            return step[0] * down + step[1] * right

        ahead = {
            action: step
            for action, step in MOVES.items()
            if left.get((here[0] + step[0], here[1] + step[1]), left[here]) < left[here]
        }
        action = max(ahead, key=lambda name: gain(ahead[name]))
        way = " and ".join(filter(None, (_side(down, "down", "up"), _side(right, "right", "left"))))
        thought = f"I am at {here[0]}, {here[1]} and the goal is at {maze.goal[0]}, {maze.goal[1]}, so it is {way}."
        direction = action.removeprefix("move ")
        if gain(MOVES[action]) > 0:
            return f"{thought} There is no wall {_SIDES[direction]}, so I {action}.", action
        return f"{thought} Walls block the direct way, so I go around them and {action}.", action


_SIDES = {"up": "above me", "down": "below me", "left": "to my left", "right": "to my right"}


def _side(cells: int, forward: str, back: str) -> str:
    return (forward if cells > 0 else back) if cells else ""
