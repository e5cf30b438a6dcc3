"""Maze: walk to the goal, knowing only its position and the walls beside the agent (LMRL-Gym, AgentGym).

The mazes are in `tasks.py`, the expert in `expert.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from atlas_ray.environments.contract import EnvironmentCard, Outcome, Split, TextEnv, first_texts, item_number
from atlas_ray.environments.verbs import Verb
from atlas_ray.errors import ConfigError, EnvironmentError
from atlas_ray.trajectory import Message
from envs.maze.expert import MazeExpert
from envs.maze.tasks import (
    DOUBLE_T_GOAL,
    DOUBLE_T_STARTS,
    GOAL_ITEM,
    MOVES,
    N_RANDOM_TEST,
    N_RANDOM_TRAIN,
    Maze,
    Position,
    double_t,
    random_maze,
)

INSTRUCTION = "You are an expert in walking through mazes."

EXPLANATION = """\
Reach the goal in as few moves as you can. Positions are row, column; down adds 1 to the row, right adds 1 to the \
column. Answer each observation with a thought and one action:
Thought: your reasoning
Action: move up, move down, move left or move right"""

_POSITIONS = re.compile(r"goal is at position (\d+), (\d+)\. Your current position is at position (\d+), (\d+)\.")
_NEIGHBOURS = {"to your right": (0, 1), "to your left": (0, -1), "above you": (-1, 0), "below you": (1, 0)}


class MazeEnv(TextEnv):
    """`info["score"]` becomes 1 at the goal.

    Args:
        layout: Which mazes are tested. "double_t": AgentGym's double T, test task i being its item i (all 25 starts);
            "random": seeded random mazes. Training tasks are random mazes either way.
        max_rounds: Rounds before truncation, the paper's 15 unless given.

    `valid_actions` lists the four moves, walls or not. Nothing in a task is random, so `seed` changes nothing.
    """

    rules: ClassVar[str] = EXPLANATION
    refusals: ClassVar[str] = r"Your possible actions are"
    grammar = (Verb("move {direction}", "Take a step.", {"direction": ("up", "down", "left", "right")}),)

    def __init__(self, *, layout: str = "double_t", max_rounds: int | None = None) -> None:
        if layout not in ("double_t", "random"):
            raise ConfigError(f"maze: layout is {layout!r}; choose 'double_t' or 'random'")
        self._layout = layout
        card = EnvironmentCard(
            name="maze",
            version=2,
            held_in=True,
            metric="success_rate",
            max_rounds=15,
            instruction=INSTRUCTION,
            n_train=N_RANDOM_TRAIN,
            n_test=len(DOUBLE_T_STARTS) if layout == "double_t" else N_RANDOM_TEST,
            source="LMRL-Gym maze (MIT) as in AgentGym; random mazes are our own",
            action_rule="first",
        )
        super().__init__(card, max_rounds=max_rounds)
        self._maze: Maze
        self._position: Position = (0, 0)

    @property
    def maze(self) -> Maze:
        """The maze of the running episode."""
        return self._maze

    @property
    def position(self) -> Position:
        """Where the agent is."""
        return self._position

    def locate(self, item_id: int | str) -> tuple[Split, int]:
        """AgentGym's item n is test task n; its item 25, which starts on the goal, is in no split.

        See `TextEnv.locate`.
        """
        number = item_number(item_id, "maze", "lmrlgym_maze")
        if self._layout != "double_t":
            raise EnvironmentError("maze: item ids number the starts of the double T; use layout='double_t'")
        if number is None or number > GOAL_ITEM:
            raise EnvironmentError(f"maze: there is no item {item_id!r}; they are maze_0 to maze_{GOAL_ITEM}")
        return "test", number

    def recognise(self, messages: Sequence[Message]) -> tuple[Split, int] | None:
        """The start in the double T, from the last position before the first step; see `TextEnv.recognise`."""
        found = _POSITIONS.findall(first_texts(messages))
        if self._layout != "double_t" or not found:
            return None
        goal_row, goal_column, row, column = (int(number[:9]) for number in found[-1])
        starts = (*DOUBLE_T_STARTS, DOUBLE_T_GOAL)
        if (goal_row, goal_column) != DOUBLE_T_GOAL or (row, column) not in starts:
            return None
        return "test", starts.index((row, column))

    def _n_items(self, split: Split) -> int:
        return int(split == "test" and self._layout == "double_t")

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        if split == "test" and self._layout == "double_t":
            self._maze = double_t(task)
        else:
            self._maze = random_maze(split, task)
        self._position = self._maze.start
        return f"{self.rules}\n{self._describe()}"

    def _describe(self) -> str:
        (row, column), (goal_row, goal_column) = self._position, self._maze.goal
        walls = [
            words for words, (down, right) in _NEIGHBOURS.items() if not self._maze.free((row + down, column + right))
        ]
        if not walls:
            near = "There are no walls near you."
        elif len(walls) == 1:
            near = f"There is a wall {walls[0]}."
        else:
            near = f"There are walls {', '.join(walls)}."
        here = f"Your current position is at position {row}, {column}."
        return f"The goal is at position {goal_row}, {goal_column}. {here} {near}"

    def _act(self, action: str) -> Outcome:
        step = MOVES.get(action.strip())
        if step is None:
            return self._arrived() or Outcome(self._explain_format(), 0.0)
        there = (self._position[0] + step[0], self._position[1] + step[1])
        if self._maze.free(there):
            self._position = there
        return self._arrived() or Outcome(self._describe(), 0.0)

    def _arrived(self) -> Outcome | None:
        """The end of the episode on the goal; as upstream, also after an action that did not move."""
        return Outcome("Success", 1.0, success=True, done=True) if self._position == self._maze.goal else None

    def _explain_format(self) -> str:
        return f'Your possible actions are "move up", "move down", "move left", "move right". {self._describe()}'

    def valid_actions(self) -> list[str]:
        return sorted(MOVES) if self.running else []

    def expert(self) -> MazeExpert:
        return MazeExpert(self)

    def _save(self) -> tuple[Maze, Position]:
        return self._maze, self._position

    def _load(self, inner: tuple[Maze, Position]) -> None:
        self._maze, self._position = inner
