"""The ALFWorld expert: searches where the wanted things usually lie, then does the task.

It knows only what an agent is told: the observations since the start of the episode, and the available actions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atlas_ray.errors import EnvironmentError

if TYPE_CHECKING:
    from envs.alfworld.env import ALFWorldEnv

_TASKS = (
    re.compile(r"put two (?P<two>\w+) in (?P<target>\w+)"),
    re.compile(r"find two (?P<two>\w+) and put them in (?P<target>\w+)"),
    re.compile(r"look at (?P<thing>\w+) under the (?P<lamp>\w+)"),
    re.compile(r"examine the (?P<thing>\w+) with the (?P<lamp>\w+)"),
    re.compile(r"put a (?P<state>clean|hot|cool) (?P<thing>\w+) in (?P<target>\w+)"),
    re.compile(r"(?P<verb>clean|heat|cool) some (?P<thing>\w+) and put it in (?P<target>\w+)"),
    re.compile(r"put (?:a|some) (?P<thing>\w+) (?:in|on) (?P<target>\w+)"),
)
_APPLIANCES = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}
_NAME = re.compile(r"\b[a-z]+ \d+\b")
_CONTENTS = re.compile(r"(?:The (\w+ \d+) is open\. In it|On the (\w+ \d+)), you see ([^.]*)\.")
_TAKEN = re.compile(r"You pick up the (\w+ \d+) from the (\w+ \d+)\.")
_PLACED = re.compile(r"You (?:put|move) the (\w+ \d+) (?:in/on|to) the (\w+ \d+)\.")
_TREATED = re.compile(r"You (clean|heat|cool) the (\w+ \d+) using")
_RARE = {
    "coffeemachine": ("mug",),
    "handtowelholder": ("handtowel",),
    "laundryhamper": ("cloth",),
    "stoveburner": ("kettle", "pan", "pot"),
    "toaster": ("bread",),
    "toiletpaperhanger": ("toiletpaper", "toiletpaperroll"),
    "towelholder": ("towel",),
    "tvstand": ("remotecontrol", "tissuebox"),
}
"""Places that one would look at last for anything but these."""
_DOORS = ("cabinet", "drawer", "fridge", "microwave", "safe")


@dataclass(frozen=True)
class _Goal:
    """The task: bring `count` things of a class, treated if `verb` says how, to a target or under a lamp."""

    text: str
    thing: str
    target: str
    verb: str | None
    count: int
    lamp: bool

    @classmethod
    def read(cls, opening: str) -> _Goal:
        text = opening.partition("Your task is to: ")[2].split("\n")[0].rstrip(".")
        for pattern in _TASKS:
            if match := pattern.fullmatch(text):
                parts = match.groupdict()
                verb = {"hot": "heat"}.get(parts.get("state") or "", parts.get("state")) or parts.get("verb")
                thing = parts.get("thing") or parts["two"]
                lamp = parts.get("lamp")
                return cls(text, thing, lamp or parts["target"], verb, 2 if "two" in parts else 1, lamp is not None)
        raise EnvironmentError(f"alfworld: the expert knows ALFRED's templates, not the task {text!r}")


def _kind(name: str) -> str:
    return name.rpartition(" ")[0]


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _number(name: str) -> tuple[str, int]:
    kind, _, number = name.rpartition(" ")
    return kind, int(number)


class HouseExpert:
    """Remembers what it saw where; looks first where a look costs little and is likely to help."""

    def __init__(self, env: ALFWorldEnv) -> None:
        self._env = env
        room, self._goal = env.opening.partition("Your task is to: ")[0], _Goal.read(env.opening)
        moves = (action.removeprefix("go to ") for action in env.valid_actions() if action.startswith("go to "))
        self._places = sorted({*_NAME.findall(room), *moves}, key=_number)
        self._seen: dict[str, set[str]] = {}
        self._treated: set[str] = set()
        self._refused: set[str] = set()
        self._began = False

    def next_action(self, observation: str) -> tuple[str, str]:
        """What a person would do next; see `Expert`."""
        self._learn(observation)
        valid = frozenset(self._env.valid_actions())
        near = [action.removeprefix("examine ") for action in sorted(valid) if action.startswith("examine ")]
        held = next((name for name in near if name not in self._places), None)
        thought, action = self._decide(valid, [place for place in near if place in self._places], held)
        if action not in valid:
            thought, action = "I am not sure where things are any more, so I look around.", "look"
            self._seen.clear()
        if not self._began:
            self._began = True
            thought = f"{self._plan()} {thought}"
        return thought, action

    # -- what it knows ---------------------------------------------------------------------------------------------

    def _learn(self, observation: str) -> None:
        for opened, surface, things in _CONTENTS.findall(observation):
            self._seen[opened or surface] = set(_NAME.findall(things))
        for thing, place in _TAKEN.findall(observation):
            self._seen.get(place, set()).discard(thing)
        for thing, place in _PLACED.findall(observation):
            self._seen.setdefault(place, set()).add(thing)
        for verb, thing in _TREATED.findall(observation):
            if verb == self._goal.verb:
                self._treated.add(thing)
            elif {verb, self._goal.verb} == {"heat", "cool"}:
                self._treated.discard(thing)

    def _known(self, kind: str) -> list[tuple[str, str]]:
        """Things of a class and their places, as far as it saw them."""
        places = [place for place in self._places if place in self._seen]
        return [(thing, place) for place in places for thing in sorted(self._seen[place]) if _kind(thing) == kind]

    def _plan(self) -> str:
        goal = self._goal
        if goal.lamp:
            return f"I have to find {_a(goal.thing)}, take it to a {goal.target} and switch that on."
        if goal.count == 2:
            return f"I have to find {_a(goal.thing)}, bring it to {_a(goal.target)} and then bring another one there."
        then = f", {goal.verb} it with the {_APPLIANCES[goal.verb]}" if goal.verb else ""
        return f"I have to find {_a(goal.thing)}{then} and put it in or on {_a(goal.target)}."

    # -- what it does ----------------------------------------------------------------------------------------------

    def _decide(self, valid: Collection[str], here: list[str], held: str | None) -> tuple[str, str]:
        goal = self._goal
        if held is None:
            return self._fetch(valid, here)
        if _kind(held) != goal.thing:
            return self._drop(valid, here, held)
        if goal.lamp:
            return self._light(valid, here, held)
        if goal.verb and held not in self._treated:
            return self._treat(valid, here, held, goal.verb)
        return self._deliver(valid, here, held)

    def _fetch(self, valid: Collection[str], here: list[str]) -> tuple[str, str]:
        """Take a thing that is needed, go to one that was seen, or look for one."""
        goal, base = self._goal, self._base()
        for thing, place in self._known(goal.thing):
            if place == base or (not (goal.lamp or goal.verb) and goal.count == 1 and _kind(place) == goal.target):
                continue
            if f"take {thing} from {place}" in valid:
                return f"There is {_a(goal.thing)} here: I take {thing} from {place}.", f"take {thing} from {place}"
            return self._visit(valid, here, place, f"I saw {thing} at {place}")
        wanted = f"another {goal.thing}" if base else _a(goal.thing)
        return self._search(valid, here, goal.thing, f"I need {wanted}")

    def _base(self) -> str | None:
        """Where the first of two things is already, so that the second goes there too."""
        if self._goal.count == 1:
            return None
        there = Counter(place for _, place in self._known(self._goal.thing) if _kind(place) == self._goal.target)
        return max(there, key=lambda place: there[place]) if there else None

    def _drop(self, valid: Collection[str], here: list[str], held: str) -> tuple[str, str]:
        for action in sorted(valid):
            if action.startswith((f"put {held} ", f"move {held} ")):
                return f"I do not need {held}, so I put it down here to have my hands free.", action
        self._refused.update(place for place in here if f"open {place}" not in valid)
        rest = [place for place in self._places if place not in self._refused]
        if not rest:
            self._refused.clear()
            rest = self._places
        return self._visit(valid, here, rest[0], f"I do not need {held} and want to put it down")

    def _light(self, valid: Collection[str], here: list[str], held: str) -> tuple[str, str]:
        lamp = self._goal.target
        for action in sorted(valid):
            if action.startswith(f"use {lamp} "):
                return f"I hold {held} and the {lamp} is here, so I switch it on to look at {held}.", action
        for thing, place in self._known(lamp):
            return self._visit(valid, here, place, f"I hold {held} and saw {thing} at {place}")
        return self._search(valid, here, lamp, f"I hold {held} and now need a {lamp}")

    def _treat(self, valid: Collection[str], here: list[str], held: str, verb: str) -> tuple[str, str]:
        for action in sorted(valid):
            if action.startswith(f"{verb} {held} with "):
                return f"I am at the {_APPLIANCES[verb]}, so I {verb} {held} here.", action
        for place in self._places:
            if _kind(place) == _APPLIANCES[verb] and place not in here:
                return self._visit(valid, here, place, f"I have {held} and have to {verb} it, which {place} is for")
        return f"I hold {held} but find nothing to {verb} it with, so I look around.", "look"

    def _deliver(self, valid: Collection[str], here: list[str], held: str) -> tuple[str, str]:
        targets = [place for place in self._places if _kind(place) == self._goal.target]
        base = self._base()
        targets.sort(key=lambda p: (p != base, p in self._refused, p not in here, p not in self._seen))
        for place in targets[:1]:
            for action in (f"put {held} in/on {place}", f"move {held} to {place}"):
                if action in valid:
                    ready = f"{held} is {_DONE[self._goal.verb]} now" if self._goal.verb else f"I have {held}"
                    return f"{ready} and {place} is where it belongs, so I put it there.", action
            if place in here and f"open {place}" not in valid:
                self._refused.add(place)
                return f"{place} does not take {held}; I look around for another.", "look"
            return self._visit(valid, here, place, f"I have {held}, which has to go to {place}")
        return f"I hold {held} but know no {self._goal.target}, so I look around.", "look"

    def _visit(self, valid: Collection[str], here: list[str], place: str, why: str) -> tuple[str, str]:
        """Get to where the inside of a place can be seen and reached."""
        if place not in here:
            return f"{why}, so I go to {place}.", f"go to {place}"
        if f"open {place}" in valid:
            return f"{why}. {place} is closed, so I open it.", f"open {place}"
        return f"{why}, so I look at {place} more closely.", f"examine {place}"

    def _search(self, valid: Collection[str], here: list[str], kind: str, why: str) -> tuple[str, str]:
        rest = [place for place in self._places if place not in self._seen]
        if not rest:
            self._seen.clear()
            return f"{why} but have looked everywhere; I start again.", "look"
        many = Counter(_kind(place) for place in self._places)

        def cost(place: str) -> tuple[bool, int, tuple[str, int]]:
            """Rounds for a look, times the places of its class over which chance spreads."""
            unlikely = kind not in _RARE.get(_kind(place), (kind,))
            rounds = (place not in here) + (_kind(place) in _DOORS and f"close {place}" not in valid)
            return unlikely, max(rounds, 1) * many[_kind(place)], _number(place)

        place = min(rest, key=cost)
        return self._visit(valid, here, place, f"{why} and have not looked at {place} yet")


_DONE = {"clean": "clean", "heat": "hot", "cool": "cool"}
