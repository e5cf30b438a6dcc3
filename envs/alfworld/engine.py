"""The TextWorld engine, an alternative to `rules.py`: the original, at some 10 commands per second.

`Engine` runs in a child process, because it keeps global state in a C library. `EngineHouse` is the running game in
this process; it restores a state by repeating the game's commands. The packages `textworld` and
`fast-downward-textworld` (GPL) are needed.
"""

from __future__ import annotations

import os
import tempfile
from copy import deepcopy
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

from atlas_ray.environments.process import EngineProcess
from atlas_ray.errors import ConfigError
from envs.alfworld.rooms import wheel
from envs.alfworld.rules import NOTHING, Verbs

_PUT_VERBS = (
    ('template :: "move {o} to {r}"', 'template :: "put {o} in/on {r}"'),
    ("You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}."),
    ("You arrive at {r.name}. #examineReceptacle.feedback#", "#examineReceptacle.feedback#"),
)
"""What makes the grammar of alfworld 0.4 that of 0.3, but for `help`: upstream's patch of its games, backwards."""


class View(NamedTuple):
    """What the engine says of a game after a command."""

    text: str
    commands: list[str]
    won: bool


def check_installed() -> None:
    """Raise a ConfigError that names the remedy unless the engine is installed."""
    for package in ("textworld", "fast_downward", "alfworld"):
        if find_spec(package) is None:
            raise ConfigError(
                f'alfworld: backend="textworld" needs the package {package}; run: make engines (it compiles '
                "requirements/engines.lock, partly under the GPL)"
            )


class Engine:
    """TextWorld's PddlEnv with ALFWorld's names, for one game at a time; to be made in a child process.

    Args:
        remember: Keep what the engine works out again at each load, reset and command (parses of the grammar,
            translations of the problem). It is several times as fast so, and says the same.
    """

    def __init__(self, remember: bool = True) -> None:
        check_installed()
        os.environ.setdefault("ALFWORLD_DATA", tempfile.gettempdir())  # importing alfworld makes this folder
        import textworld
        from textworld.envs.pddl import PddlEnv

        if remember:
            _remember()
        self._env = PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True, feedback=True))
        self._loaded: tuple[str, Verbs] | None = None

    def begin(self, problem: str, verbs: Verbs) -> View:
        """Begin a game; the text is the opening without banner and task."""
        from alfworld.agents.utils.misc import Demangler

        if self._loaded != (problem, verbs):
            domain, grammar = _logic(verbs)
            self._env.load({"pddl_domain": domain, "grammar": grammar, "pddl_problem": problem})
            infos = self._env._entity_infos
            names = Demangler(game_infos=infos)
            for info in infos.values():
                info.name = names.demangle_alfred_name(info.id)
            self._loaded = (problem, verbs)
        view = self._view(self._env.reset())
        return view._replace(text=view.text.split("\n\n")[1])

    def step(self, command: str) -> View:
        """Give one command."""
        return self._view(self._env.step(command)[0])

    def replay(self, problem: str, verbs: Verbs, commands: tuple[str, ...]) -> View:
        """Begin a game and give commands; the view after the last."""
        view = self.begin(problem, verbs)
        for command in commands:
            view = self.step(command)
        return view

    @staticmethod
    def _view(state: Any) -> View:
        return View(state["feedback"], state["admissible_commands"], bool(state["won"]))


def _logic(verbs: Verbs) -> tuple[str, str]:
    """The wheel's domain and grammar."""
    domain, grammar = ((wheel() / "data" / name).read_text() for name in ("alfred.pddl", "alfred.twl2"))
    if verbs == "put":
        for new, old in _PUT_VERBS:
            grammar = grammar.replace(new, old)
        domain = domain.rpartition("(:action help")[0] + ")"
    return domain, grammar


def _remember() -> None:
    """Cache the results of the engine's three pure but slow functions.

    The engine translates each problem twice, the second time for its planner, which is not used here.
    """
    import fast_downward
    from textworld.envs.pddl import textgen
    from textworld.logic import Rule

    translate = lru_cache(maxsize=2)(fast_downward.pddl2sas)
    fast_downward.pddl2sas = lambda domain, problem, **options: translate(domain, problem)
    Rule.parse_conjunctive_query = cache(Rule.parse_conjunctive_query)
    parse = cache(textgen._parse_and_convert)
    textgen._parse_and_convert = lambda *text, **options: deepcopy(parse(*text, **options))


class EngineHouse:
    """One game in the engine, with the methods of `rules.Household`; a state is the list of commands that led to it.

    Raises (as its methods do):
        EngineFailure: The engine's process died or hung.
    """

    def __init__(self, engine: EngineProcess, problem: str, verbs: Verbs) -> None:
        self._engine, self._problem, self._verbs = engine, problem, verbs
        self._done: tuple[str, ...] = ()
        self._view: View = engine.call("begin", problem, verbs)
        self._opening: str = self._view.text

    @property
    def won(self) -> bool:
        """Whether the goal is reached."""
        return self._view.won

    def opening(self) -> str:
        """The text before the first action."""
        return self._opening

    def commands(self) -> list[str]:
        """The commands that can be done now."""
        return self._view.commands

    def act(self, command: str) -> str:
        """Carry out a command; returns the text that says what happens."""
        view: View = self._engine.call("step", command)
        self._view = view
        if view.text != NOTHING:
            self._done += (command,)
        return view.text

    def save(self) -> tuple[str, ...]:
        """The commands so far that changed something."""
        return self._done

    def load(self, state: tuple[str, ...]) -> None:
        """Play commands from the beginning."""
        self._view, self._done = self._engine.call("replay", self._problem, self._verbs, state), state
