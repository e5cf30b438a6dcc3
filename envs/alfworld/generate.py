"""Household games of all six task types, generated from a seed in the rooms of `rooms.py` and written as PDDL problems.

Every game can be solved: all receptacles can be reached, the things that the task needs lie in reachable locations, and
the target receptacle takes the wanted thing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import cast

from atlas_ray.environments.contract import Split
from envs.alfworld.data import Game
from envs.alfworld.rooms import Room, RoomKind, holds, openable, rooms, rules

N_TRAIN = 1000
N_TEST = 134

_CLEAN, _HEAT, _COOL = (f"pick_{verb}_then_place_in_recep" for verb in ("clean", "heat", "cool"))
TASK_TYPES = ("pick_and_place_simple", "look_at_obj_in_light", _CLEAN, _HEAT, _COOL, "pick_two_obj_and_place")
"""Task i is of the type i % 6."""

_GOALS = {
    "pick_and_place_simple": ("put a {} in {}", "put some {} on {}"),
    "look_at_obj_in_light": ("look at {} under the {}", "examine the {} with the {}"),
    _CLEAN: ("put a clean {} in {}", "clean some {} and put it in {}"),
    _HEAT: ("put a hot {} in {}", "heat some {} and put it in {}"),
    _COOL: ("put a cool {} in {}", "cool some {} and put it in {}"),
    "pick_two_obj_and_place": ("put two {} in {}", "find two {} and put them in {}"),
}
_TREATMENT = {
    _CLEAN: ("Cleanable", "SinkBasin", "isClean"),
    _HEAT: ("Heatable", "Microwave", "isHot"),
    _COOL: ("Coolable", "Fridge", "isCool"),
}
"""Which things, where, and what they become."""

_LAMP_STANDS = ("Desk", "SideTable", "Dresser", "Shelf", "CoffeeTable")
_MAX_COPIES = 3
_OPEN_WEIGHT = 3
"""A thing lies this many times more often on an open receptacle's class than behind a given class of doors."""


@dataclass(frozen=True)
class _Task:
    """What is to be done: a class of thing, the receptacle's class (or the lamp), and the room for it."""

    kind: str
    thing: str
    target: str
    room: Room


@cache
def generate(split: Split, task: int) -> Game:
    """The game of a task number; the same in every process."""
    rng = random.Random(f"alfworld {split} {task}")
    what = _draw(rng, split, TASK_TYPES[task % len(TASK_TYPES)])
    goal = rng.choice(_GOALS[what.kind]).format(what.thing.lower(), what.target.lower())
    name = f"{what.kind}-{what.thing}-None-{what.target}-{what.room.number}"
    trial = f"generated_{split}_{task}"
    return Game(split, name, trial, goal, _problem(rng, what, trial), f"generated game {split} {task}")


def _draw(rng: random.Random, split: Split, kind: str) -> _Task:
    kinds = cast("list[RoomKind]", sorted(rules().GOALS_VALID[kind]))
    choices: list[Room] = []
    while not choices:
        choices = [room for room in rooms(split, rng.choice(kinds)) if _pairs(kind, room)]
    room = rng.choice(choices)
    thing = rng.choice(sorted({thing for thing, _ in _pairs(kind, room)}))
    return _Task(kind, thing, rng.choice([target for other, target in _pairs(kind, room) if other == thing]), room)


@cache
def _pairs(kind: str, room: Room) -> tuple[tuple[str, str], ...]:
    """Things and targets that make a task of this kind in this room."""
    present = sorted({receptacle for receptacle, _ in room.receptacles})
    if kind == "look_at_obj_in_light":
        stands = room.lamp and set(_LAMP_STANDS) & set(present)
        return tuple((thing, "DeskLamp") for thing in room.things) if stands else ()
    trait, appliance, _ = _TREATMENT.get(kind, ("", "", ""))
    if appliance and appliance not in present:
        return ()
    return tuple(
        (thing, target)
        for target in present
        if target != appliance
        for thing in room.things
        if thing in holds(target) and (not trait or thing in rules().VAL_ACTION_OBJECTS[trait])
        if any(thing in holds(other) for other in present if other != target)
    )


def _problem(rng: random.Random, what: _Task, name: str) -> str:
    """The PDDL problem: the room, the things that are drawn into it, and the goal."""
    numbered = [
        (f"{kind.removesuffix('Basin')}_bar_{number:02}" + f"_bar_{kind}" * kind.endswith("Basin"), kind, location)
        for number, (kind, location) in enumerate(what.room.receptacles)
    ]
    init = [f"atLocation agent1 {rng.choice(what.room.floor)}"]
    objects = ["agent1 - agent"]
    for receptacle, kind, location in numbered:
        objects.append(f"{receptacle} - receptacle")
        init += [f"receptacleType {receptacle} {kind}Type", f"receptacleAtLocation {receptacle} {location}"]
        if openable(kind):
            init.append(f"openable {receptacle}")
    things = _things(rng, what)
    for number, kind in enumerate(things):
        thing = f"{kind}_bar_{number:02}"
        receptacle, location = _place(rng, kind, what, numbered)
        objects.append(f"{thing} - object")
        init += [f"objectType {thing} {kind}Type", f"inReceptacle {thing} {receptacle}"]
        init += [f"objectAtLocation {thing} {location}", *(f"{trait} {thing}" for trait in _traits(kind))]
    kinds = sorted({kind for _, kind, _ in numbered})
    init += [f"canContain {kind}Type {thing}Type" for kind in kinds for thing in sorted(set(things) & holds(kind))]
    objects += [f"{kind}Type - rtype" for kind in kinds] + [f"{thing}Type - otype" for thing in sorted(set(things))]
    places = sorted({location for _, _, location in numbered} | set(what.room.floor))
    objects += [f"{place} - location" for place in places]
    facts = "\n".join(f"    ({fact})" for fact in init)
    declared = "\n".join(f"    {line}" for line in objects)
    head = f"(define (problem {name})\n  (:domain alfred)\n  (:objects\n{declared}\n  )\n  (:init\n{facts}\n  )\n"
    return f"{head}  (:goal {_goal(what)})\n)\n"


def _things(rng: random.Random, what: _Task) -> list[str]:
    """The classes of what lies about, the task's thing among them, as many as the task needs or a few more."""
    least = 2 if what.kind == "pick_two_obj_and_place" else 1
    found = [what.thing] * rng.randint(least, _MAX_COPIES)
    for kind in what.room.things:
        if kind != what.thing:
            found += [kind] * rng.choice((0, 1, 1, 2, _MAX_COPIES))
    return sorted(found) + ["DeskLamp"] * what.room.lamp


def _place(rng: random.Random, kind: str, what: _Task, numbered: list[tuple[str, str, str]]) -> tuple[str, str]:
    """A receptacle for a thing and its location; the task's thing never lies where the task wants it."""
    if kind == "DeskLamp":
        allowed = {stand for _, stand, _ in numbered if stand in _LAMP_STANDS} or {numbered[0][1]}
    else:
        allowed = {other for _, other, _ in numbered if kind in holds(other)}
        if kind == what.thing:
            allowed.discard(what.target)
    classes = sorted(allowed)
    chosen = rng.choices(classes, [1 if openable(other) else _OPEN_WEIGHT for other in classes])[0]
    receptacle, _, location = rng.choice([one for one in numbered if one[1] == chosen])
    return receptacle, location


def _traits(kind: str) -> list[str]:
    """What one can do with a thing, as the domain's predicates."""
    if kind == "DeskLamp":
        return ["toggleable"]
    able = [
        name for name in ("Cleanable", "Coolable", "Heatable", "Sliceable") if kind in rules().VAL_ACTION_OBJECTS[name]
    ]
    inner = ["isReceptacleObject"] if kind in rules().MOVABLE_RECEPTACLES_SET else []
    return ["pickupable", *(trait.lower() for trait in able), *inner]


def _goal(what: _Task) -> str:
    """The goal in PDDL, of the form that ALFRED gives tasks of this kind."""
    thing, target = f"{what.thing}Type", f"{what.target}Type"
    placed = f"(objectType ?o {thing}) (receptacleType ?r {target}) (inReceptacle ?o ?r)"
    if what.kind == "look_at_obj_in_light":
        lit = f"(objectType ?ot {target}) (toggleable ?ot) (isToggled ?ot)"
        near = "(receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?ot ?r)"
        lamp = f"(exists (?ot - object ?r - receptacle ?a - agent ?l - location) (and {lit} {near}))"
        return f"(and {lamp} (exists (?o - object ?a - agent) (and (objectType ?o {thing}) (holds ?a ?o))))"
    if what.kind == "pick_two_obj_and_place":
        second = f"(and (not (= ?o ?o2)) (objectType ?o2 {thing}) (inReceptacle ?o2 ?r))"
        placed = f"{placed} (exists (?o2 - object) {second})"
    if what.kind in _TREATMENT:
        trait, _, result = _TREATMENT[what.kind]
        placed = f"({trait.lower()} ?o) ({result} ?o) {placed}"
    return f"(and (exists (?r - receptacle) (exists (?o - object) (and {placed}))))"
