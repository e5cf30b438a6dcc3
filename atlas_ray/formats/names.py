"""This project's names of environments that others call otherwise: `sciworld`, `tool_sheet_3`, `agenttuning_alfworld`.

A name is known by its words. What cannot be known is left to `collect.environments`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

from atlas_ray.environments import registry
from atlas_ray.formats import sources

_ALIASES = {
    "sciworld": "scienceworld", "blocksworld": "pddl", "blockworld": "pddl", "gripper": "pddl", "barman": "pddl",
    "tyreworld": "pddl", "zork": "jericho",
}  # fmt: skip
"""Names in AgentGym, ETO and AgentBoard."""
_COMMON = ("academia", "maze", "movie", "sheet", "todo", "weather")
"""Names that are ordinary words: they count only beside words of `_CARRIERS`."""
_CARRIERS = frozenset(
    "tool tools lmrlgym lmrl gym agentgym agenttraj agenteval agenttuning agentinstruct agentboard agentbench adp eto "
    "atlas env environment task tasks data dataset traj trajs trajectory trajectories episodes runs run expert experts "
    "train training test valid validation dev val sample samples part shard full std sft raw l v of all jsonl json "
    "success successful gpt split rows chunk file output outputs results conversations messages".split()
)
_LOOSE = ("task", "source", "task_type", "domain")
"""Fields that may name an environment, but more often say something else."""
_WORDS = re.compile(r"[a-z]+|\d+")
_HEX = re.compile(r"(?=.*\d)[0-9a-f]{4,}$")
_NUMBERED = re.compile(r"[_\-#/:. ]+\d+$")
_ALFWORLD = re.compile(
    r"(^|/)(look_at_obj_in_light|pick_(and_place|two_obj|clean|heat|cool)\w*|alfworld)[-_/]", re.IGNORECASE
)


class Named(NamedTuple):
    """An environment as a row names it."""

    env: str
    theirs: str
    """As the row, its id or its file calls it."""
    disagrees: str | None = None
    """What else the row says about its environment."""


class Names:
    """Finds environments' names.

    Args:
        given: ours by theirs, which count before anything else; see `collect.environments`.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = {name.casefold(): ours for name, ours in given.items()}
        self._known: dict[str, str | None] = {}
        self.met: set[str] = set()
        """The given names that were met, in lower case."""

    def of_row(self, said: Mapping[str, str], identity: str | None, path: str) -> Named:
        """The environment of a row.

        Args:
            said: what the row says of its environment, by field, the most telling one first.
            identity: the row's id of its task, if it has one.
            path: its file.
        """
        by_id = None if identity is None else self.of_item(identity)
        for field, name in said.items():
            env = self.known(name)
            if env is not None:
                other = by_id.env if by_id is not None and by_id.env != env and by_id.env in known_names() else None
                disagrees = None if other is None else f"its id is of {other}, its {field} of {env}"
                return Named(env, name, disagrees)
        if by_id is not None and (by_id.env in known_names() or self.known(by_id.theirs)):
            return by_id
        of_file = self._of_file(path)
        if of_file.env in known_names() or self.known(of_file.theirs):
            return of_file
        theirs = next((name for field, name in said.items() if field not in _LOOSE and _is_name(name)), None)
        if theirs is None and by_id is not None and by_id.theirs != identity and _is_name(by_id.theirs):
            theirs = by_id.theirs
        return of_file if theirs is None else Named(theirs, theirs)

    def of_item(self, identity: str) -> Named:
        """The environment that a task's id names; ALFWorld's ids are paths of games."""
        theirs = _NUMBERED.sub("", identity)
        env = self.known(theirs)
        if env is None and theirs != identity:
            env = self.known(identity)
        return Named(theirs, theirs) if env is None else Named(env, _without_numbers(theirs))

    def known(self, name: str) -> str | None:
        """Our name of the environment, if the name is given, or its words say it."""
        if name not in self._known:
            if len(self._known) > 10_000:
                self._known.clear()
            folded = name.casefold()
            if folded in self._given:
                self.met.add(folded)
            self._known[name] = self._given.get(folded) or _by_words(name)
        return self._known[name]

    def _of_file(self, path: str) -> Named:
        candidates = list(_file_names(path))
        for name in candidates:
            env = self.known(name)
            if env is not None:
                return Named(env, name)
        theirs = next((_without_split(name) for name in candidates if not _says_nothing(name)), "unknown")
        return Named(self.known(theirs) or theirs, theirs)


@cache
def known_names() -> frozenset[str]:
    """The names of all environments."""
    return frozenset(registry.names())


def _by_words(name: str) -> str | None:
    if name in known_names():
        return name
    if _ALFWORLD.search(name):
        return "alfworld"
    words = _WORDS.findall(name.lower())[:12]
    found: set[str] = set()
    for start in range(len(words)):
        for end in range(start + 1, min(start + 3, len(words)) + 1):
            joined = "".join(words[start:end])
            env = _ALIASES.get(joined, joined)
            others = (word for word in (*words[:start], *words[end:]) if not word.isdigit())
            if env in known_names() and (env not in _COMMON or all(word in _CARRIERS for word in others)):
                found.add(env)
    return found.pop() if len(found) == 1 else None


def _file_names(path: str) -> Iterator[str]:
    """What may name the environment of a file's rows: its own name, and its folders' where that says nothing."""
    name = sources.stem(path)
    yield name
    for folder in sources.folders(path)[:2]:
        if not _says_nothing(name):
            return
        name = folder
        yield name


def _says_nothing(name: str) -> bool:
    return all(word in _CARRIERS or word.isdigit() for word in _WORDS.findall(name.lower()))


def _is_name(text: str) -> bool:
    """Whether the text may be the name of an environment that many rows have: a few words, none of them a number."""
    words = re.split(r"[_\-/:. ]+", text)
    return (
        len(text) <= 40
        and len(words) <= 4
        and all(re.match(r"[^\W\d_]", word) and not _HEX.match(word) for word in words)
    )


def _without_split(name: str) -> str:
    return re.sub(r"([_-](train|test|valid|validation|dev|sample))+$", "", name) or name


def _without_numbers(name: str) -> str:
    """The name without the words that have digits, so that rows of one source have one."""
    return "_".join(word for word in re.split(r"[_\-/:. ]+", name) if not any(c.isdigit() for c in word)) or name
