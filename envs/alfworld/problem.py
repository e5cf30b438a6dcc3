"""A reader of household problems in PDDL: things, locations, first facts, and the goal.

It reads the part of PDDL that ALFWorld's problems use: typed objects, positive facts, and a goal of "and", "exists",
"=" and facts. Identifiers become lower case, because PDDL ignores case. The rules of the household are in `rules.py`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from atlas_ray.errors import DataError

Fact = tuple[str, ...]
"""A predicate and its arguments, such as ("inreceptacle", "mug_bar_1", "desk_bar_2")."""

FLUENTS = frozenset(
    "atlocation holds holdsany inreceptacle isclean iscool ishot ison issliced istoggled objectatlocation "
    "opened".split()
)
"""Predicates that some action of the domain changes; all others hold from the first state to the last."""

_ARITY = {
    **dict.fromkeys("holdsany isclean iscool ishot ison issliced istoggled opened openable pickupable".split(), 1),
    **dict.fromkeys("cleanable heatable coolable toggleable sliceable isreceptacleobject".split(), 1),
    **dict.fromkeys("atlocation holds inreceptacle objectatlocation receptacleatlocation cancontain".split(), 2),
    **dict.fromkeys("objecttype receptacletype inreceptacleobject".split(), 2),
}
"""How many arguments the facts have that the rules use."""

_Tree = list["str | _Tree"]
_WORD = re.compile(r"[()]|[^\s()]+")
_FLAT = re.compile(r"\(([^()]*)\)")


@dataclass(frozen=True)
class Problem:
    """A household before the first action.

    Attributes:
        static: The facts that no action changes, arguments by predicate.
        first: The facts that actions may change.
        names: What the texts call each thing, such as "mug 2"; by identifier.
        goal: All of these must hold, each in at least one of its ways, a way being facts that hold together.
        agent: The identifier of the agent.
        start: The location of the agent.
    """

    static: dict[str, frozenset[tuple[str, ...]]]
    first: frozenset[Fact]
    names: dict[str, str]
    goal: tuple[tuple[tuple[Fact, ...], ...], ...]
    agent: str
    start: str


def read_problem(text: str, where: str) -> Problem:
    """Parse a problem.

    Args:
        text: The PDDL text, as in the field `pddl_problem` of a game.
        where: What an error names, such as a file and row.

    Raises:
        DataError: It is not a problem of the Alfred domain as ALFWorld writes them.
    """
    text = text.lower()
    parts = [text.find(word) for word in ("(:objects", "(:init", "(:goal")]
    if -1 in parts or parts != sorted(parts) or not re.search(r"\(:domain\s+alfred\)", text):
        raise DataError(f"{where}: field pddl_problem is not a problem of domain alfred with objects, init and goal")
    types = _objects(text[parts[0] : parts[1]])
    static: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    first: set[Fact] = set()
    for match in _FLAT.finditer(text, parts[1], parts[2]):
        predicate, *arguments = match[1].split() or ("",)
        _check_arity(predicate, arguments, where)
        unknown = next((argument for argument in arguments if argument not in types), None)
        if unknown is not None:
            raise DataError(f"{where}: field pddl_problem: {unknown!r} of init ({predicate} ...) is not declared")
        if predicate in FLUENTS:
            first.add((predicate, *arguments))
        else:
            static[predicate].add(tuple(arguments))
    starts = [fact for fact in first if fact[0] == "atlocation"]
    if len(starts) != 1 or len(starts[0]) != 3:
        raise DataError(f"{where}: field pddl_problem must place one agent at one location, not {len(starts)}")
    frozen = {predicate: frozenset(arguments) for predicate, arguments in static.items()}
    goal = _tree(text[parts[2] :], where)
    ways = tuple(tuple(_ways(part, frozen, types, where)) for part in _conjuncts(goal[1]))
    return Problem(frozen, frozenset(first), _names(first, frozen), ways, starts[0][1], starts[0][2])


def _check_arity(predicate: str, arguments: Sequence[object], where: str) -> None:
    if _ARITY.get(predicate, len(arguments)) != len(arguments):
        raise DataError(
            f"{where}: field pddl_problem: {predicate} takes {_ARITY[predicate]} things, not {len(arguments)}"
        )


def _objects(text: str) -> dict[str, str]:
    """Identifiers and their types out of `(:objects a b - type ...`."""
    types: dict[str, str] = {}
    waiting: list[str] = []
    words = iter(text.replace("(:objects", "").replace(")", "").split())
    for word in words:
        if word == "-":
            types |= dict.fromkeys(waiting, next(words, "object"))
            waiting = []
        else:
            waiting.append(word)
    return types | dict.fromkeys(waiting, "object")


def _names(first: Iterable[Fact], static: dict[str, frozenset[tuple[str, ...]]]) -> dict[str, str]:
    """ALFWorld's names: the class and a number, which count down in the order of the identifiers."""
    used = {argument for fact in first for argument in fact[1:]}
    used.update(argument for facts in static.values() for arguments in facts for argument in arguments)
    classes = {
        identifier: identifier.partition("_bar_")[0] + "basin" * ("basin" in identifier)
        for identifier in sorted(used)
        if "_bar_" in identifier
    }
    left = Counter(classes.values())
    names = {}
    for identifier, name in classes.items():
        names[identifier] = f"{name} {left[name]}"
        left[name] -= 1
    return names | {identifier: f"{identifier} " for identifier in used if identifier not in names}


def _tree(text: str, where: str) -> _Tree:
    """The first expression of the text as nested lists."""
    stack: list[_Tree] = [[]]
    for word in _WORD.findall(text):
        if word == "(":
            stack.append([])
        elif word != ")":
            stack[-1].append(word)
        elif len(stack) > 1:
            done = stack.pop()
            stack[-1].append(done)
            if len(stack) == 1 and len(done) == 2:
                return done
    raise DataError(f"{where}: field pddl_problem: the parentheses of its goal do not match")


def _conjuncts(formula: str | _Tree) -> Iterator[str | _Tree]:
    if isinstance(formula, list) and formula and formula[0] == "and":
        for part in formula[1:]:
            yield from _conjuncts(part)
    else:
        yield formula


def _ways(
    formula: str | _Tree, static: dict[str, frozenset[tuple[str, ...]]], types: dict[str, str], where: str
) -> list[tuple[Fact, ...]]:
    """Every way to make a formula true, as the changeable facts that it needs; the static facts are settled here."""
    variables: dict[str, str] = {}
    atoms: list[Fact] = []
    different: list[tuple[str, str]] = []

    def collect(part: str | _Tree) -> None:
        match part:
            case ["and", *parts]:
                for inner in parts:
                    collect(inner)
            case ["exists", [*declared], inner]:
                variables.update(_objects(" ".join(str(word) for word in declared)))
                collect(inner)
            case ["not", ["=", str(one), str(other)]]:
                different.append((one, other))
            case [str(predicate), *arguments] if predicate not in ("or", "not", "forall", "imply", "when", "="):
                _check_arity(predicate, arguments, where)
                atoms.append((predicate, *map(str, arguments)))
            case _:
                raise DataError(
                    f"{where}: field pddl_problem: its goal holds {str(part)[:60]!r}; "
                    "only and, exists, facts and (not (= ...)) are understood"
                )

    collect(formula)
    bindings: list[dict[str, str]] = [{}]
    for predicate, *arguments in sorted(atoms, key=lambda atom: len(static.get(atom[0], ()))):
        if predicate not in FLUENTS:
            known = sorted(static.get(predicate, ()))
            tries = (_bound(old, arguments, values) for old in bindings for values in known)
            bindings = [binding for binding in tries if binding is not None]
    for variable, kind in variables.items():
        if bindings and variable not in bindings[0]:
            values = [name for name, its in types.items() if kind in ("object", its)]
            bindings = [old | {variable: value} for old in bindings for value in values]
    return [
        tuple((atom[0], *(binding.get(a, a) for a in atom[1:])) for atom in atoms if atom[0] in FLUENTS)
        for binding in bindings
        if all(binding.get(one, one) != binding.get(other, other) for one, other in different)
    ]


def _bound(old: dict[str, str], arguments: Iterable[str], values: tuple[str, ...]) -> dict[str, str] | None:
    """The binding with the arguments set to the values, or None where they disagree."""
    new = dict(old)
    for argument, value in zip(arguments, values, strict=True):
        if new.setdefault(argument, value) != value if argument.startswith("?") else argument != value:
            return None
    return new
