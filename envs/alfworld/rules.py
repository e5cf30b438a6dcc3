"""The household as a state machine: possible actions, their effects, and the texts.

The actions of the PDDL domain and the sentences of the text grammar in the `alfworld` wheel (alfred.pddl, alfred.twl2)
are written here in Python. Tests compare them with the TextWorld engine, which reads those two files. Facts that no
action can undo or show (`checked`, costs) are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from envs.alfworld.problem import Fact, Problem

Verbs = Literal["put", "move"]
NOTHING = "Nothing happens."

_SENTENCES: tuple[tuple[frozenset[str], str], ...] = tuple(
    (frozenset(properties.split()), sentence)
    for properties, sentence in (
        ("isclean ishot issliced", "This is a hot and clean sliced {}."),
        ("isclean iscool issliced", "This is a cool and clean sliced {}."),
        ("isclean issliced", "This is a clean sliced {}."),
        ("ishot issliced", "This is a hot sliced {}."),
        ("iscool issliced", "This is a cool sliced {}."),
        ("isclean ishot", "This is a hot and clean {}."),
        ("isclean iscool", "This is a cool and clean {}."),
        ("ishot", "This is a hot {}."),
        ("isclean", "This is a clean {}."),
        ("iscool", "This is a cold {}."),
        ("istoggled toggleable", "This {} is on."),
        ("issliced sliceable", "This is a sliced {}."),
        ("", "There's nothing special about {}."),
    )
)
"""What `examine` says of an object: the first line whose properties it has."""

_TRAITS = ("pickupable", "cleanable", "heatable", "coolable", "toggleable", "sliceable", "isreceptacleobject")
_APPLIANCES = {
    "sinkbasintype": ("clean", "cleanable"),
    "microwavetype": ("heat", "heatable"),
    "fridgetype": ("cool", "coolable"),
}
_RESULTS = {"clean": "clean", "heat": "hot", "cool": "cool"}
_CHANGEABLE = ("isclean", "iscool", "ishot", "issliced", "istoggled")
_PUT = {"put": "put {} in/on {}", "move": "move {} to {}"}
_PUT_DONE = {"put": "You put the {} in/on the {}.", "move": "You move the {} to the {}."}

_HELP = """\
Available commands:
  look:                             look around your current location
  inventory:                        check your current inventory
  go to (receptacle):               move to a receptacle
  open (receptacle):                open a receptacle
  close (receptacle):               close a receptacle
  take (object) from (receptacle):  take an object from a receptacle
  move (object) to (receptacle):  place an object in or on a receptacle
  examine (something):              examine a receptacle or an object
  use (object):                     use an object
  heat (object) with (receptacle):  heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle):  cool an object using a receptacle
  slice (object) with (object):     slice an object using a sharp object
"""


@dataclass(frozen=True, slots=True)
class HouseState:
    """A household between two actions."""

    facts: frozenset[Fact]
    place: str
    held: str | None


class Household:
    """One game: `act` takes a command, `commands` lists those that can be done.

    Args:
        problem: The household and its goal.
        verbs: "move" for the texts of alfworld 0.4 ("move X to Y", "You arrive at Y.", help); "put" for those of
            alfworld 0.3, which AgentGym plays ("put X in/on Y", no sentence on the arrival, no help).
    """

    def __init__(self, problem: Problem, verbs: Verbs) -> None:
        self.problem, self._verbs = problem, verbs
        self._name = problem.names
        static = problem.static
        self._at: defaultdict[str, list[str]] = defaultdict(list)
        for receptacle, location in sorted(static.get("receptacleatlocation", ())):
            self._at[location].append(receptacle)
        self._openable = {receptacle for (receptacle,) in static.get("openable", ())}
        self._kinds: defaultdict[str, set[str]] = defaultdict(set)
        for thing, kind in static.get("receptacletype", frozenset()) | static.get("objecttype", frozenset()):
            self._kinds[thing].add(kind)
        self._things = sorted(thing for thing, kind in static.get("objecttype", ()))
        self._has: defaultdict[str, set[str]] = defaultdict(set)
        for trait in _TRAITS:
            for (thing,) in static.get(trait, ()):
                self._has[thing].add(trait)
        self._goto: dict[str, Fact] = {
            f"go to {self._name[receptacle]}": ("goto", location, receptacle)
            for receptacle, location in sorted(static.get("receptacleatlocation", ()))
        }
        self.load(HouseState(problem.first, problem.start, None))

    def save(self) -> HouseState:
        """The current state."""
        return HouseState(frozenset(self._facts), self._place, self._held)

    def load(self, state: HouseState) -> None:
        """Go on from a state of the same game."""
        self._facts, self._place, self._held = set(state.facts), state.place, state.held
        self._commands: dict[str, Fact] | None = None

    @property
    def won(self) -> bool:
        """Whether the goal is reached."""
        facts = self._facts
        return all(any(facts.issuperset(way) for way in part) for part in self.problem.goal)

    # -- what can be done ------------------------------------------------------------------------------------------

    def commands(self) -> dict[str, Fact]:
        """The possible commands, each with the name of its action and the action's arguments."""
        if self._commands is None:
            self._commands = self._list_commands()
        return self._commands

    def _list_commands(self) -> dict[str, Fact]:
        facts, place, held, name = self._facts, self._place, self._held, self._name
        found: dict[str, Fact] = {text: action for text, action in self._goto.items() if action[1] != place}
        found |= {"look": ("look",), "inventory": ("inventory",)}
        if self._verbs == "move":
            found["help"] = ("help",)
        for receptacle in self._at[place]:
            where = name[receptacle]
            found[f"examine {where}"] = ("examine receptacle", receptacle)
            openable, opened = receptacle in self._openable, ("opened", receptacle) in facts
            if openable:
                found[f"close {where}" if opened else f"open {where}"] = ("close" if opened else "open", receptacle)
            for thing in self._inside(receptacle):
                if "toggleable" in self._has[thing]:
                    found[f"use {name[thing]}"] = ("use", thing)
                if held is None and (opened or not openable) and "pickupable" in self._has[thing]:
                    found[f"take {name[thing]} from {where}"] = ("take", thing, receptacle)
            if held is not None:
                if (opened or not openable) and self._fits(held, receptacle):
                    found[_PUT[self._verbs].format(name[held], where)] = ("put", held, receptacle)
                for kind in sorted(self._kinds[receptacle]):
                    verb, trait = _APPLIANCES.get(kind, ("", ""))
                    if trait in self._has[held]:
                        found[f"{verb} {name[held]} with {where}"] = (verb, held, receptacle)
        if held is not None:
            # The domain means to let one examine what lies about, too, but the comma in its "exists" keeps that off.
            found[f"examine {name[held]}"] = ("examine", held)
            if self._kinds[held] & {"knifetype", "butterknifetype"}:
                for thing in self._things:
                    if "sliceable" in self._has[thing] and ("objectatlocation", thing, place) in facts:
                        found[f"slice {name[thing]} with {name[held]}"] = ("slice", thing, held)
        return found

    def _fits(self, thing: str, receptacle: str) -> bool:
        allowed = self.problem.static.get("cancontain", frozenset())
        return any((kind, other) in allowed for kind in self._kinds[receptacle] for other in self._kinds[thing])

    # -- what it does ----------------------------------------------------------------------------------------------

    def act(self, command: str) -> str:
        """Carry out a command; returns the text that says what happens. An impossible command changes nothing."""
        action = self.commands().get(command.strip())
        if action is None:
            return NOTHING
        verb, *arguments = action
        if verb == "look":
            return self._look(self._place)
        if verb == "inventory":
            return self._inventory()
        if verb == "help":
            return _HELP
        if verb == "examine":
            return self._examine(arguments[0])
        if verb == "examine receptacle":
            return self._examine_receptacle(arguments[0])
        self._commands = None
        return self._change(verb, *arguments)

    def _change(self, verb: str, one: str, other: str = "") -> str:
        facts, name = self._facts, self._name
        agent = self.problem.agent
        if verb == "goto":
            facts.discard(("atlocation", agent, self._place))
            self._place = one
            facts.add(("atlocation", agent, one))
            arrival = f"You arrive at {name[other]}. " if self._verbs == "move" else ""
            return arrival + self._examine_receptacle(other)
        if verb == "open":
            facts.add(("opened", one))
            return f"You open the {name[one]}. {self._examine_receptacle(one)}"
        if verb == "close":
            facts.discard(("opened", one))
            return f"You close the {name[one]}."
        if verb == "take":
            facts -= {("inreceptacle", one, other), ("objectatlocation", one, self._place)}
            facts |= {("holds", agent, one), ("holdsany", agent), ("not_inreceptacle", one, other)}
            self._held = one
            return f"You pick up the {name[one]} from the {name[other]}."
        if verb == "put":
            facts -= {("holds", agent, one), ("holdsany", agent), ("not_inreceptacle", one, other)}
            facts |= {("inreceptacle", one, other), ("objectatlocation", one, self._place)}
            self._held = None
            return _PUT_DONE[self._verbs].format(name[one], name[other])
        if verb == "use":
            facts ^= {("ison", one)}
            facts.add(("istoggled", one))
            return f"You turn on the {name[one]}."
        if verb == "slice":
            facts.add(("issliced", one))
            return f"You sliced the {name[one]} with the {name[other]}."
        if verb != "clean":
            facts.discard(("iscool" if verb == "heat" else "ishot", one))
        facts.add((f"is{_RESULTS[verb]}", one))
        return f"You {verb} the {name[one]} using the {name[other]}."

    # -- what one sees ---------------------------------------------------------------------------------------------

    def opening(self) -> str:
        """The text before the first action."""
        return self._look(None)

    def _inside(self, receptacle: str) -> list[str]:
        return [thing for thing in self._things if ("inreceptacle", thing, receptacle) in self._facts]

    def _look(self, place: str | None) -> str:
        """The sentences of `look`; at the opening `place` is None, and the grammar then means any place."""
        here = self._at[self._place]
        if here:
            facing = _listed([self._name[receptacle] for receptacle in here])
            beside = [
                self._name[thing]
                for thing in self._things
                if ("objectatlocation", thing, self._place) in self._facts
                for receptacle in here
                if ("not_inreceptacle", thing, receptacle) in self._facts
            ]
            return f"You are facing the {facing}. Next to it, you see {_listed([f'a {name}' for name in beside])}."
        seen = [] if place else [f"a {self._name[action[2]]}" for action in self._goto.values()]
        return f"You are in the middle of a room. Looking quickly around you, you see {_listed(seen)}."

    def _inventory(self) -> str:
        if self._held is None:
            return "You are not carrying anything."
        return f"You are carrying: a {self._name[self._held]}."

    def _examine_receptacle(self, receptacle: str) -> str:
        name = self._name[receptacle]
        openable = receptacle in self._openable
        if openable and ("opened", receptacle) not in self._facts:
            return f"The {name} is closed."
        seen = _listed([f"a {self._name[thing]}" for thing in self._inside(receptacle)])
        return f"The {name} is open. In it, you see {seen}." if openable else f"On the {name}, you see {seen}."

    def _examine(self, thing: str) -> str:
        name, traits = self._name[thing], self._has[thing]
        if "isreceptacleobject" in traits:
            inner = sorted(one for one, outer in self.problem.static.get("inreceptacleobject", ()) if outer == thing)
            return f"This is a normal {name}. In it, you see {_listed([f'a {self._name[one]}' for one in inner])}."
        has = traits | {trait for trait in _CHANGEABLE if (trait, thing) in self._facts}
        return next(sentence for properties, sentence in _SENTENCES if properties <= has).format(name)


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "nothing"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])}, and {names[-1]}"
