"""BabyAI: minigrid's 40 levels with AgentGym's texts and macro actions.

minigrid makes the levels and decides when a mission is done. Texts and actions are in `text.py`, the numbering of tasks
in `tasks.py`, the expert in `expert.py`.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from typing import Any, cast

import gymnasium
import minigrid  # noqa: F401  (registers the levels)
from gymnasium.envs.registration import load_env_creator
from minigrid.core.roomgrid import RoomGrid
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling

from atlas_ray.environments.contract import EnvironmentCard, Outcome, Split, TextEnv
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


def _make_level(number: int, seed: int) -> Any:
    """A level at its start, without the images that minigrid would draw and with nothing printed."""
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

    level.gen_obs = _no_image
    level._gen_grid = generate
    level.reset(seed=seed)
    del level._gen_grid  # a local function would keep the level from being pickled
    return level


class BabyAIEnv(TextEnv):
    """Tasks are a level and a seed; `info["score"]` is minigrid's reward, 1 - 0.9 * moves / allowed moves, at least 0.

    Args:
        levels: Only these levels, by AgentGym's number (1 to 40) or name; tasks then take turns among them.
        max_rounds: Rounds before truncation, the paper's 20 unless given.

    The episode ends when minigrid calls the mission done. `valid_actions` are the
    available actions of the text. Nothing in a task is random, so `seed` changes nothing.
    """

    def __init__(self, *, levels: Sequence[int | str] | None = None, max_rounds: int | None = None) -> None:
        self._levels = check_levels(levels)
        card = EnvironmentCard(
            name="babyai",
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
        digits = str(item_id).removeprefix("babyai_")
        if self._levels != tuple(range(1, len(LEVELS) + 1)):
            raise EnvironmentError("babyai: item ids number the tasks of all levels; leave out the option levels")
        if not (digits.isascii() and digits.isdigit() and int(digits) < self.card.n_train):
            raise EnvironmentError(
                f"babyai: there is no item {item_id!r}; they are babyai_0 to babyai_{self.card.n_train - 1}"
            )
        return "train", int(digits)

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        self._number, level_seed = level_and_seed(task, split, self._levels)
        self._level = _make_level(self._number, level_seed)
        self._world = World.of(self._level)
        self._reading = read(self._world, look(self._world))
        return f"Your goal: {self.goal}\n{self._observe(self._reading.description)}"

    def _observe(self, text: str) -> str:
        actions = ", ".join(f'"{action}"' for action in self._reading.actions)
        return f"{text}\nAvailable actions: [{actions}]"

    def _act(self, action: str) -> Outcome:
        text = " ".join(_NOT_ALLOWED.sub("", action).split()).lower()
        if text.startswith("pick up "):
            text = "pickup " + text.removeprefix("pick up ")
        if "check" in text:
            listed = ", ".join(self._reading.actions)
            return Outcome(self._observe(f"You can take the following actions: {listed}"), 0.0)
        moves = self._reading.actions.get(text)
        if moves is None:
            return Outcome(self._observe(self._reading.refusals.get(text, _UNKNOWN)), 0.0)
        if not moves:
            return Outcome(self._observe("No change in state."), 0.0)
        return self._play(moves)

    def _play(self, moves: tuple[int, ...]) -> Outcome:
        """Carry out primitive moves until the mission ends or one changes nothing that the agent sees."""
        reward, done = 0.0, False
        view = look(self._world)
        for move in moves:
            _, reward, done, _, _ = self._level.step(move)
            done = done and reward != 0.0  # a strict level's "failure" does not end an episode, as in AgentGym
            self._follow()
            before, view = view, look(self._world)
            if done or view == before:
                break
        self._reading = read(self._world, view)
        text = self._reading.description
        if not done:
            return Outcome(self._observe(text), 0.0)
        return Outcome(self._observe(f"{text}\n The task is completed."), max(0.0, reward), success=True, done=True)

    def _follow(self) -> None:
        """Bring the world up to date after one primitive move: the agent, and the cell in front of it."""
        world, level = self._world, self._level
        x, y = level.agent_pos
        world.position, world.direction = world.at(int(x), int(y)), level.agent_dir
        world.carrying = encode(level.carrying)
        ahead_x, ahead_y = world.xy(world.ahead)
        world.cells[world.ahead] = encode(level.grid.get(ahead_x, ahead_y))

    def _explain_format(self) -> str:
        return self._observe(_UNKNOWN)

    def valid_actions(self) -> list[str]:
        return sorted(self._reading.actions) if self.running else []

    def looks(self) -> list[str]:
        """The question for the available actions; a macro action that needs no move is refused, and no look."""
        return ["check available actions"] if self.running else []

    def expert(self) -> BabyAIExpert:
        return BabyAIExpert(self)

    def _save(self) -> tuple[int, bytes]:
        return self._number, pickle.dumps(self._level, pickle.HIGHEST_PROTOCOL)

    def _load(self, inner: tuple[int, bytes]) -> None:
        self._number, level = inner
        self._level = pickle.loads(level)  # noqa: S301  (what `_save` made)
        self._world = World.of(self._level)
        self._reading = read(self._world, look(self._world))


_UNKNOWN = "The action is not recognized. Please check valid actions."
