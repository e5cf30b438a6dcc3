"""From facts, actions and rules of a planning domain to words, and from words to actions.

The four domains have sentences of their own. Any other domain, also another version of the four, is described with the
names in its file. The rules of the actions are generated from the domain, so they always agree with the engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from envs.pddl.parser import Domain, Fact, Schema
from envs.pddl.strips import Operator

_TOKEN = re.compile(r"[a-z0-9_][a-z0-9_-]*")


@dataclass(frozen=True)
class Wording:
    """How a domain speaks; `brief` domains have so many facts that an observation shows the new ones only."""

    about: str
    facts: dict[str, str] = field(default_factory=dict)
    actions: dict[str, str] = field(default_factory=dict)
    brief: bool = False

    def fact(self, fact: Fact) -> str:
        """A fact as a clause without capital and full stop."""
        return _filled(self.facts, fact[0], fact[1:])

    def action(self, name: str, objects: tuple[str, ...]) -> str:
        """An action as the list of valid actions shows it."""
        return _filled(self.actions, name, objects)

    def operator(self, operator: Operator) -> str:
        """A ground action as the list of valid actions shows it."""
        return self.action(operator.name, operator.objects)

    def sentences(self, facts: Iterable[Fact]) -> str:
        """Facts as sentences, sorted."""
        return " ".join(sorted(_sentence(self.fact(fact)) for fact in facts))

    def rules(self, domain: Domain) -> str:
        """What the domain is about and, a line each, what its actions need and do."""
        return "\n".join([self.about, "Actions:", *(f"- {self._rule(schema)}" for schema in domain.actions)])

    def _rule(self, schema: Schema) -> str:
        shown = {name: f"<{name.removeprefix('?')}>" for name in schema.parameters}

        def clauses(facts: Iterable[Fact]) -> list[str]:
            return [self.fact((name, *(shown.get(term, term) for term in terms))) for name, *terms in facts]

        needs = clauses(schema.needs) + [f"not: {clause}" for clause in clauses(schema.lacks)]
        needs += [f"{shown.get(a, a)} is {'' if same else 'not '}{shown.get(b, b)}" for a, b, same in schema.equal]
        parts = {"Needs": needs, "Then": clauses(schema.adds), "No longer": clauses(schema.deletes)}
        told = " ".join(f"{label}: {'; '.join(part)}." for label, part in parts.items() if part)
        return f"{self.action(schema.name, tuple(shown.values()))}. {told}"


def _filled(templates: dict[str, str], name: str, objects: tuple[str, ...]) -> str:
    template = templates.get(name)
    return template.format(*objects) if template else " ".join((name, *objects))


@cache
def _sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}."


def find_action(text: str, arities: dict[str, int], objects: dict[str, str]) -> tuple[str, tuple[str, ...]] | None:
    """The action that a text means: the first action's name in it, and the first objects in it, in their order.

    None if it has no action's name or too few objects. Upstream's rule, so any way of putting it is understood.
    """
    words = _TOKEN.findall(text.lower())
    name = next((word for word in words if word in arities), None)
    if name is None:
        return None
    named = [word for word in words if word in objects][: arities[name]]
    return (name, tuple(named)) if len(named) == arities[name] else None


def wording(domain: Domain) -> Wording:
    """The wording whose facts cover the domain's predicates; a plain one for a domain that none covers."""
    arities = {name: len(kinds) for name, kinds in domain.predicates.items()}
    for known in WORDINGS.values():
        if all(name in known.facts and known.facts[name].count("{}") == arity for name, arity in arities.items()):
            actions = {schema.name: len(schema.parameters) for schema in domain.actions}
            if all(known.actions.get(name, "").count("{}") == arity for name, arity in actions.items()):
                return known
    return Wording(f"This is the planning domain {domain.name}.")


WORDINGS = {
    "gripper": Wording(
        about="You are the robot Robby. You carry balls between rooms, one ball in each of your grippers.",
        facts={
            "at-robby": "Robby is in {}",
            "at": "{} is in {}",
            "free": "gripper {} is free",
            "carry": "{} is held by gripper {}",
            "room": "{} is a room",
            "ball": "{} is a ball",
            "gripper": "{} is a gripper",
        },
        actions={
            "move": "move from {} to {}",
            "pick": "pick up {} in {} with gripper {}",
            "drop": "drop {} in {} from gripper {}",
        },
    ),
    "blocksworld": Wording(
        about="You are a robot arm over a table with blocks. You hold one block at a time and build towers.",
        facts={
            "on-table": "{} is on the table",
            "on": "{} is on {}",
            "clear": "nothing is on {}",
            "holding": "the arm holds {}",
            "arm-empty": "the arm is empty",
        },
        actions={
            "pickup": "pickup {} from the table",
            "putdown": "putdown {} on the table",
            "stack": "stack {} on {}",
            "unstack": "unstack {} from {}",
        },
    ),
    "barman": Wording(
        about=(
            "You are a barman with two hands, dispensers of ingredients, shot glasses and a shaker. "
            "For a cocktail, pour its two ingredients into the clean shaker, shake it and pour it into a clean shot."
        ),
        facts={
            "ontable": "{} is on the table",
            "holding": "hand {} holds {}",
            "handempty": "hand {} is free",
            "empty": "{} is empty",
            "clean": "{} is clean",
            "contains": "{} contains {}",
            "used": "{} was used for {}",
            "dispenses": "{} gives {}",
            "shaker-level": "{} is filled to {}",
            "shaker-empty-level": "{} is empty at {}",
            "next": "{} is just below {}",
            "unshaked": "{} waits to be shaken",
            "shaked": "{} is shaken",
            "cocktail-part1": "the first part of {} is {}",
            "cocktail-part2": "the second part of {} is {}",
        },
        actions={
            "grasp": "grasp with {} the {}",
            "leave": "leave with {} the {}",
            "fill-shot": "fill-shot {} with {} in hand {} while {} presses {}",
            "refill-shot": "refill-shot {} with {} in hand {} while {} presses {}",
            "empty-shot": "empty-shot with {} the {} of {}",
            "clean-shot": "clean-shot {} of {} in hand {} with hand {}",
            "pour-shot-to-clean-shaker": "pour-shot-to-clean-shaker {} of {} into {} with {} from {} to {}",
            "pour-shot-to-used-shaker": "pour-shot-to-used-shaker {} of {} into {} with {} from {} to {}",
            "empty-shaker": "empty-shaker with {} the {} of {} from {} to {}",
            "clean-shaker": "clean-shaker in hand {} with hand {} the {}",
            "shake": "shake {} of {} and {} in {} with {} and {}",
            "pour-shaker-to-shot": "pour-shaker-to-shot {} into {} with {} from {} from {} to {}",
        },
        brief=True,
    ),
    "tyreworld": Wording(
        about=(
            "You change flat tyres. The tools and the spare wheels are in the boot, which has to be opened first. "
            "A wheel comes off a hub that is jacked up and whose nut was loosened on the ground, then undone."
        ),
        facts={
            "isopen": "{} is open",
            "closed": "{} is closed",
            "unlocked": "{} is unlocked",
            "in": "{} is in {}",
            "have": "you have {}",
            "tight": "{} is tight on {}",
            "loose": "{} is loose on {}",
            "fastened": "{} is fastened",
            "unfastened": "{} is unfastened",
            "on-ground": "{} is on the ground",
            "not-on-ground": "{} is jacked up",
            "on": "{} is on {}",
            "free": "{} has no wheel",
            "intact": "{} is intact",
            "inflated": "{} is inflated",
            "not-inflated": "{} is not inflated",
        },
        actions={
            "open": "open {}",
            "close": "close {}",
            "fetch": "fetch {} from {}",
            "put-away": "put-away {} in {}",
            "loosen": "loosen {} on {}",
            "tighten": "tighten {} on {}",
            "jack-up": "jack-up {}",
            "jack-down": "jack-down {}",
            "undo": "undo {} on {}",
            "do-up": "do-up {} on {}",
            "remove-wheel": "remove-wheel {} from {}",
            "put-on-wheel": "put-on-wheel {} on {}",
            "inflate": "inflate {}",
        },
        brief=True,
    ),
}
