"""BabyAI: minigrid's 40 levels with AgentGym's texts and macro actions.

minigrid makes the levels and decides when a mission is done. Texts and actions are in `text.py`, the numbering of tasks
in `tasks.py`, the expert in `expert.py`.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import gymnasium
import minigrid  # noqa: F401  (registers the levels)
from gymnasium.envs.registration import load_env_creator
from minigrid.core.roomgrid import RoomGrid
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling

from atlas_ray.environments.contract import EnvironmentCard, Outcome, Split, TextEnv, item_number
from atlas_ray.environments.verbs import Verb
from atlas_ray.errors import EnvironmentError
from envs.babyai.expert import BabyAIExpert
from envs.babyai.grid import World, encode, look
from envs.babyai.tasks import LEVELS, N_TEST_SEEDS, N_TRAIN_SEEDS, check_levels, level_and_seed, minigrid_id
from envs.babyai.text import Reading, read

INSTRUCTION = """\
Reach the goal by the available actions. Answer each observation with a thought and one action:
Thought: your reasoning
Action: one of turn left, turn right, move forward, go to [object] [id], pickup [object] [id], drop, toggle, \
go through [door] [id], toggle and go through [door] [id]
toggle opens the door or box right in front of you, a locked door with the key of its color."""

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9, ]+")


def _no_image() -> dict[str, Any]:
    return {}


def _make_level(number: int, seed: int) -> tuple[Any, int | None]:
    """A level at its start, without the images that minigrid would draw and with nothing printed.

    The second value is the position of an object that the agent holds already, but sees on the floor: minigrid makes
    the first view before it puts the object into the agent's hands.
    """
    spec = gymnasium.spec(minigrid_id(number))
    assert spec.entry_point is not None
    level: Any = cast(Any, load_env_creator(cast(str, spec.entry_point)))(**spec.kwargs)

    def generate(width: int, height: int) -> None:
        # minigrid's own loop, but it does not print the layouts that it throws away.
        while True:
            try:
                RoomGrid._gen_grid(level, width, height)
                level.gen_mission()
                level.validate_instrs(level.instrs)
            except (RecursionError, RejectSampling):
                continue
            break
        level.surface = level.mission = level.instrs.surface(level)

    first: list[World] = []

    def view() -> dict[str, Any]:
        first.append(World.of(level))
        return {}

    level.gen_obs = view
    level._gen_grid = generate
    level.reset(seed=seed)
    level.gen_obs = _no_image
    del level._gen_grid  # local functions would keep the level from being pickled
    if level.carrying is None:
        return level, None
    before, now = first[0].cells, World.of(level).cells
    return level, next((at for at, cell in enumerate(before) if cell != now[at]), None)


class BabyAIEnv(TextEnv):
    """Tasks are a level and a seed; `info["score"]` is minigrid's reward, 1 - 0.9 * moves / allowed moves, at least 0.

    Args:
        levels: Only these levels, by AgentGym's number (1 to 40) or name; tasks then take turns among them.
        max_rounds: Rounds before truncation, the paper's 20 unless given.

    As in AgentGym, the episode ends when the last move of a macro action does the mission for a reward of more than
    0.5; a mission that was done by an earlier move of it is not noticed. For a smaller reward the episode goes on, and
    the score is the largest reward so far. `valid_actions` are the available actions of the text. Nothing in a task is
    random, so `seed` changes nothing.
    """

    grammar = (
        Verb("turn {direction}", "Turn on the spot.", {"direction": ("left", "right")}),
        Verb("move forward", "Take a step ahead."),
        Verb("go to {object}", "Walk to an object, named with its number, as in `red ball 1`."),
        Verb("pickup {object}", "Walk to an object and pick it up; named with its number."),
        Verb("pick up {object}", "As pickup."),
        Verb("drop", "Put down what is carried."),
        Verb("toggle and go through {door}", "Open a door, named with its number, and go through it."),
        Verb("toggle", "Open or close the door or box right ahead."),
        Verb("go through {door}", "Go through an open door, named with its number."),
        Verb("check available actions", "See what can be done now."),
    )
    refusals: ClassVar[str] = (
        r"The action is not recognized|No change in state|You cannot (?!see )|"
        r"There is a barrier in front of you, you can't move"
    )

    def __init__(self, *, levels: Sequence[int | str] | None = None, max_rounds: int | None = None) -> None:
        self._levels = check_levels(levels)
        card = EnvironmentCard(
            name="babyai",
            version=2,
            held_in=True,
            metric="mean_reward",
            max_rounds=20,
            instruction=INSTRUCTION,
            n_train=len(self._levels) * N_TRAIN_SEEDS,
            n_test=len(self._levels) * N_TEST_SEEDS,
            source="minigrid BabyAI levels (Apache-2.0) with the text and actions of AgentGym",
            action_rule="one",
        )
        super().__init__(card, max_rounds=max_rounds)
        self._level: Any = None
        self._number = 0
        self._shown: int | None = None
        self._world: World
        self._reading: Reading

    @property
    def level(self) -> Any:
        """The minigrid level of the running episode."""
        return self._level

    @property
    def level_name(self) -> str:
        """The level's name, such as "GoToObjS6"."""
        return LEVELS[self._number - 1]

    @property
    def goal(self) -> str:
        """The mission in words, as the first observation gives it."""
        return str(self._level.mission).replace("then", "and").replace("after you", "and")

    @property
    def world(self) -> World:
        """The grid as it is; not a copy."""
        return self._world

    @property
    def reading(self) -> Reading:
        """What the agent reads now and can do; not a copy."""
        return self._reading

    def locate(self, item_id: int | str) -> tuple[Split, int]:
        """AgentGym's item n is training task n; see `TextEnv.locate`."""
        number = item_number(item_id, "babyai")
        if self._levels != tuple(range(1, len(LEVELS) + 1)):
            raise EnvironmentError("babyai: item ids number the tasks of all levels; leave out the option levels")
        if number is None or number >= self.card.n_train:
            raise EnvironmentError(
                f"babyai: there is no item {item_id!r}; they are babyai_0 to babyai_{self.card.n_train - 1}"
            )
        return "train", number

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        self._number, level_seed = level_and_seed(task, split, self._levels)
        self._level, self._shown = _make_level(self._number, level_seed)
        self._world = World.of(self._level)
        self._read()
        return f"Your goal: {self.goal}\n{self._observe(self._reading.description)}"

    def _read(self) -> None:
        """Describe what the agent sees; until its first move that includes the object that it began by picking up."""
        world = self._world
        if self._shown is not None:
            world = world.copy()
            world.cells[self._shown] = world.carrying
        self._reading = read(world, look(world))

    def _observe(self, text: str) -> str:
        actions = ", ".join(f'"{action}"' for action in self._reading.actions)
        return f"{text}\nAvailable actions: [{actions}]"

    def _outcome(self, text: str, *, done: bool = False) -> Outcome:
        return Outcome(self._observe(text), self._score, success=self._score > 0, done=done)

    def _act(self, action: str) -> Outcome:
        text = " ".join(_NOT_ALLOWED.sub("", action).split()).lower()
        if "check" in text:
            listed = ", ".join(self._reading.actions)
            return self._outcome(f"You can take the following actions: {listed}")
        moves = self._reading.actions.get(text, self._reading.unlisted.get(text))
        if moves is None:
            return self._outcome(self._reading.refusals.get(text, _UNKNOWN) if text else _NO_CHANGE)
        return self._play(moves) if moves else self._outcome(_NO_CHANGE)

    def _play(self, moves: tuple[int, ...]) -> Outcome:
        """Carry out primitive moves until one changes nothing that the agent sees; the last one's result counts."""
        reward, done = 0.0, False
        view = look(self._world)
        for move in moves:
            _, reward, done, _, _ = self._level.step(move)
            self._follow()
            before, view = view, look(self._world)
            if view == before:
                break
        self._shown = None
        self._read()
        text = self._reading.description
        if not done:
            return self._outcome(text)
        score = max(self._score, reward)
        text = self._observe(f"{text}\n The task is completed.")  # also of a strict level's failure, as upstream
        return Outcome(text, score, success=score > 0, done=reward > _ENOUGH)

    def _follow(self) -> None:
        """Bring the world up to date after one primitive move: the agent, and the cell in front of it."""
        world, level = self._world, self._level
        x, y = level.agent_pos
        world.position, world.direction = world.at(int(x), int(y)), level.agent_dir
        world.carrying = encode(level.carrying)
        ahead_x, ahead_y = world.xy(world.ahead)
        world.cells[world.ahead] = encode(level.grid.get(ahead_x, ahead_y))

    def _explain_format(self) -> str:
        return self._observe(_NO_CHANGE)

    def valid_actions(self) -> list[str]:
        return sorted(self._reading.actions) if self.running else []

    def looks(self) -> list[str]:
        """The question for the available actions; a macro action that needs no move is refused, and no look."""
        return ["check available actions"] if self.running else []

    def expert(self) -> BabyAIExpert:
        return BabyAIExpert(self)

    def _save(self) -> tuple[int, bytes, int | None]:
        return self._number, pickle.dumps(self._level, pickle.HIGHEST_PROTOCOL), self._shown

    def _load(self, inner: tuple[int, bytes, int | None]) -> None:
        self._number, level, self._shown = inner
        self._level = pickle.loads(level)  # noqa: S301  (what `_save` made)
        self._world = World.of(self._level)
        self._read()


_UNKNOWN = "The action is not recognized. Please check valid actions."
_NO_CHANGE = "No change in state."
_ENOUGH = 0.5
"""A mission that is done for a smaller reward does not end the episode."""
