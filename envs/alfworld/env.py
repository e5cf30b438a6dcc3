"""ALFWorld: find a thing in a text house, clean, heat, cool or light it, and put it where it belongs (AgentGym).

The rules are in `rules.py`, generated games in `generate.py`, official games in `data.py`, and the expert in
`expert.py`. The TextWorld engine of `engine.py` can replace the rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from atlas_ray.environments.contract import EnvironmentCard, Outcome, Split, TextEnv, first_texts
from atlas_ray.environments.process import EngineFailure, EngineProcess
from atlas_ray.environments.verbs import Verb
from atlas_ray.errors import ConfigError, EnvironmentError
from atlas_ray.trajectory import Message
from envs.alfworld.data import Game, Games, locate, open_games
from envs.alfworld.engine import EngineHouse, check_installed
from envs.alfworld.expert import HouseExpert
from envs.alfworld.generate import N_TEST, N_TRAIN, generate
from envs.alfworld.problem import Problem, read_problem
from envs.alfworld.rules import NOTHING, Household, Verbs

INSTRUCTION = """\
Do the household task. Answer each observation with a thought, if one is needed, and one action:
Thought: your reasoning
Action: one of the available actions, such as go to [place], open [place], take [thing] from [place] or {put}
What you need may be in any place, behind doors too. "Nothing happens." means that the action is not available."""

_WORDS = {"put": "put [thing] in/on [place]", "move": "move [thing] to [place]"}
_VERBS = tuple("go open close take put move examine use heat clean cool slice look inventory".split())
_LOOKING = ("examine", "help", "inventory", "look")


class ALFWorldEnv(TextEnv):
    """`info["score"]` becomes 1 when the task is done.

    Args:
        data: Official games instead of generated ones: an ALFWORLD_DATA directory, or a .jsonl or .jsonl.xz file with
            the fields split, task, trial, goal and pddl_problem, of which task i is row i whatever the split.
        verbs: "put" for the words of alfworld 0.3, which AgentGym and AgentTraj-L have; "move" for those of 0.4.
        backend: "python" for our own rules, "textworld" for the TextWorld engine in a process of its own (slow; needs
            `make engines`); a snapshot of it is restored by playing again.
        max_rounds: Rounds before truncation, the paper's 30 unless given.

    `valid_actions` are the engine's admissible commands. Nothing in a task is random, so `seed` changes nothing.
    """

    refusals: ClassVar[str] = re.escape(NOTHING)
    grammar = (
        Verb("go to {place}", "Walk to a place, named with its number, as in `shelf 1`."),
        Verb("open {place}", "Open it."),
        Verb("close {place}", "Close it."),
        Verb("take {thing} from {place}", "Take a thing that is there."),
        Verb("put {thing} in/on {place}", "Put down what is carried."),
        Verb("move {thing} to {place}", "Put down what is carried."),
        Verb("examine {thing}", "Look closely at a thing or a place."),
        Verb("use {thing}", "Switch it on."),
        Verb("heat {thing} with {appliance}", "Heat what is carried."),
        Verb("cool {thing} with {appliance}", "Cool what is carried."),
        Verb("clean {thing} with {appliance}", "Clean what is carried."),
        Verb("slice {thing} with {tool}", "Slice it."),
        Verb("look", "See where you are."),
        Verb("inventory", "See what you carry."),
        Verb("help", "See what can be done."),
    )

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        verbs: Verbs = "put",
        backend: Literal["python", "textworld"] = "python",
        max_rounds: int | None = None,
    ) -> None:
        if verbs not in get_args(Verbs):
            raise ConfigError(f"alfworld: verbs is {verbs!r}; choose 'put' or 'move'")
        if backend not in ("python", "textworld"):
            raise ConfigError(f"alfworld: backend is {backend!r}; choose 'python' or 'textworld'")
        if backend == "textworld":
            check_installed()
        self._games: Games | None = None if data is None else open_games(data)
        self._verbs = verbs
        self._engine = EngineProcess("envs.alfworld.engine:Engine") if backend == "textworld" else None
        card = EnvironmentCard(
            name="alfworld",
            held_in=True,
            metric="success_rate",
            max_rounds=30,
            instruction=INSTRUCTION.format(put=_WORDS[verbs]),
            n_train=self._games.count("train") if self._games else N_TRAIN,
            n_test=self._games.count("test") if self._games else N_TEST,
            source="ALFWorld (MIT) as in AgentGym; games of our own in its rooms, official ones by path",
            snapshot="native" if self._engine is None else "replay",
            process_mib=0 if self._engine is None else 128,
            action_rule="last",
        )
        super().__init__(card, max_rounds=max_rounds)
        self._house: Household | EngineHouse
        self._playing: tuple[Split, int] | None = None
        self._known_goals: dict[Split, tuple[str, ...]] = {}

    @property
    def opening(self) -> str:
        """The first text of the running episode: the room and the task."""
        return self._opening

    def locate(self, item_id: int | str) -> tuple[Split, int]:
        """AgentGym's item among official games; see `data.locate`."""
        if self._games is None:
            raise EnvironmentError(
                f"alfworld: item {item_id!r} is an official game; give the games with data=PATH to find it there"
            )
        return locate(self._games, item_id)

    def recognise(self, messages: Sequence[Message]) -> tuple[Split, int] | None:
        """The game with this goal and this room; see `TextEnv.recognise`."""
        said = " ".join(first_texts(messages).split())
        splits: tuple[Split, ...] = ("train", "test")
        for split in splits:
            for task, goal in enumerate(self._goals(split)):
                if f"Your task is to: {goal}" in said:
                    game = generate(split, task) if self._games is None else self._games.game(split, task)
                    room = Household(_problem(game), self._verbs).opening()
                    if " ".join(room.split()) in said:
                        return game.split, task
        return None

    def _goals(self, split: Split) -> tuple[str, ...]:
        """The goal of every game of a split, read when the first trajectory is recognised."""
        if split not in self._known_goals:
            tasks, games = range(self.card.n_tasks(split)), self._games
            found = ((games.game(split, task) if games else generate(split, task)).goal for task in tasks)
            self._known_goals[split] = tuple(found)
        return self._known_goals[split]

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        try:
            self._enter(split, task)
        except EngineFailure as failure:
            raise self._engine_failed(failure) from None
        return f"{self._opening}\nAVAILABLE ACTIONS: {','.join(sorted(self._house.commands()))}"

    def _enter(self, split: Split, task: int) -> None:
        """Go to the beginning of a game."""
        game = generate(split, task) if self._games is None else self._games.game(split, task)
        self._playing = None
        if self._engine is None:
            self._house = Household(_problem(game), self._verbs)
        else:
            self._engine.start()
            self._house = EngineHouse(self._engine, game.problem, self._verbs)
        self._opening = f"{self._house.opening()}\nYour task is to: {game.goal}."
        self._playing = (split, task)

    def _act(self, action: str) -> Outcome:
        try:
            observation = self._house.act(action)
        except EngineFailure as failure:
            self._playing = None
            raise self._engine_failed(failure) from None
        if observation == NOTHING and not action.strip().startswith(_VERBS):
            return Outcome(self._explain_format(), 0.0)
        won = self._house.won
        return Outcome(observation, float(won), success=won, done=won)

    def _explain_format(self) -> str:
        return (
            f"{NOTHING} An action is one line: go to, open, close or examine [place], examine or use [thing], "
            f"take [thing] from [place], {_WORDS[self._verbs]}, clean, heat or cool [thing] with [place], "
            "slice [thing] with [thing], look or inventory."
        )

    def valid_actions(self) -> list[str]:
        return sorted(self._house.commands()) if self.running else []

    def looks(self) -> list[str]:
        """See `TextEnv.looks`."""
        return [action for action in self.valid_actions() if action.split()[0] in _LOOKING]

    def expert(self) -> HouseExpert:
        return HouseExpert(self)

    def close(self) -> None:
        """End the engine's process, if there is one; the next reset starts another."""
        if self._engine is not None:
            self._playing = None
            self._engine.close()

    def _save(self) -> tuple[Split, int, Any]:
        assert self._playing is not None
        return (*self._playing, self._house.save())

    def _load(self, inner: tuple[Split, int, Any]) -> None:
        split, task, state = inner
        try:
            if self._playing != (split, task):
                self._enter(split, task)
            self._house.load(state)
        except EngineFailure as failure:
            self._playing = None
            raise self._engine_failed(failure) from None


@lru_cache(maxsize=256)
def _problem(game: Game) -> Problem:
    return read_problem(game.problem, game.where)
