"""A PDDL reader: STRIPS domains and problems with types, constants, negative preconditions and equality.

A mistake is a `DataError` that names file and line. Features beyond `:strips :typing :negative-preconditions :equality`
are refused by name. The effects of actions are in `strips.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from atlas_ray.errors import DataError

REQUIREMENTS = frozenset({":strips", ":typing", ":negative-preconditions", ":equality"})
Fact = tuple[str, ...]
"""A predicate's name and its arguments: objects, or variables in an action schema."""

_TOKEN = re.compile(r"[()]|-(?=[^\s();-])|\?[^\s();?]*|[^\s();?]+|;[^\n]*|\n")
"""Files in use leave out blanks: `?l - level?l1 -level` is read as `?l - level ?l1 - level`."""


@dataclass(frozen=True)
class Schema:
    """An action before its parameters are filled in; `types` has the accepted types of each parameter."""

    name: str
    parameters: tuple[str, ...]
    types: tuple[tuple[str, ...], ...]
    needs: tuple[Fact, ...]
    lacks: tuple[Fact, ...]
    equal: tuple[tuple[str, str, bool], ...]
    """Pairs of terms that have to be the same object (True) or different ones (False)."""
    adds: tuple[Fact, ...]
    deletes: tuple[Fact, ...]


@dataclass(frozen=True)
class Domain:
    """Types with their parents, constants with their types, predicates with their arguments' types, actions."""

    name: str
    types: dict[str, str]
    constants: dict[str, str]
    predicates: dict[str, tuple[tuple[str, ...], ...]]
    actions: tuple[Schema, ...]

    def is_a(self, kind: str, accepted: tuple[str, ...]) -> bool:
        """Whether an object of type `kind` may stand where one of the accepted types is asked for."""
        while kind not in accepted:
            if kind == "object" or kind not in self.types:
                return "object" in accepted
            kind = self.types[kind]
        return True


@dataclass(frozen=True)
class Problem:
    """Objects with their types (constants included), the initial state, and what must hold and not hold at the end."""

    name: str
    objects: dict[str, str]
    start: frozenset[Fact]
    goal: frozenset[Fact]
    goal_not: frozenset[Fact]


def read_domain(text: str, where: str) -> Domain:
    """The domain of a file's text; `where` names the file in errors.

    Raises:
        DataError: Not a domain of the supported subset.
    """
    return _Reader(where).domain(text)


def read_problem(text: str, where: str, domain: Domain) -> Problem:
    """The problem of a file's text, checked against its domain.

    Raises:
        DataError: Not a problem of this domain.
    """
    return _Reader(where).problem(text, domain)


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"pddl: {path} cannot be read: {error}") from error


class _Word(str):
    """A token and the line it stands in."""

    line: int


class _List(list["_Word | _List"]):
    """A bracketed expression and the line it begins in."""

    line: int

    @property
    def head(self) -> str:
        return str(self[0]) if self and isinstance(self[0], _Word) else ""


class _Reader:
    def __init__(self, where: str) -> None:
        self._where = where

    def _fail(self, line: int, what: str) -> NoReturn:
        raise DataError(f"pddl: {self._where} line {line}: {what}")

    # -- brackets -------------------------------------------------------------------------------------------------

    def _define(self, text: str, kind: str) -> tuple[str, _List]:
        """The name and the sections of `(define (kind name) section ...)`."""
        top = self._brackets(text)
        title = top[1] if len(top) > 1 else None
        if top.head != "define" or not isinstance(title, _List) or title.head != kind or len(title) != 2:
            self._fail(top.line, f"expected (define ({kind} NAME) ...)")
        sections = _List(top[2:])
        for section in sections:
            if not isinstance(section, _List) or not section.head.startswith(":"):
                self._fail(section.line, "expected a section such as (:predicates ...)")
        return self._word(title[1]), sections

    def _brackets(self, text: str) -> _List:
        outer = _List()
        outer.line = line = 1
        stack = [outer]
        for match in _TOKEN.finditer(text.lower()):
            piece = match[0]
            if piece == "\n":
                line += 1
            elif piece == "(":
                inner = _List()
                inner.line = line
                stack[-1].append(inner)
                stack.append(inner)
            elif piece == ")":
                if len(stack) == 1:
                    self._fail(line, "a closing bracket without an opening one")
                stack.pop()
            elif not piece.startswith(";"):
                word = _Word(piece)
                word.line = line
                stack[-1].append(word)
        if len(stack) > 1:
            self._fail(stack[-1].line, "the bracket that opens here is never closed")
        if len(outer) != 1 or not isinstance(outer[0], _List):
            self._fail(outer[1].line if len(outer) > 1 else 1, "expected one (define ...) and nothing else")
        return outer[0]

    def _word(self, node: _Word | _List) -> str:
        if isinstance(node, _List):
            self._fail(node.line, "expected a name, not a bracket")
        return str(node)

    def _typed(self, nodes: list[_Word | _List], one_type: bool) -> Iterator[tuple[_Word, tuple[str, ...]]]:
        """The entries of `a b - type c`; a type may be `(either x y)` unless it has to be one."""
        waiting: list[_Word] = []
        rest = iter(nodes)
        for node in rest:
            if isinstance(node, _List):
                self._fail(node.line, "expected a name, not a bracket")
            if node != "-":
                waiting.append(node)
                continue
            kind = next(rest, None)
            if kind is None or not waiting:
                self._fail(node.line, "a type has to stand between '-' and the next names")
            if isinstance(kind, _List):
                if kind.head != "either" or one_type:
                    self._fail(kind.line, "expected the name of a type")
                accepted = tuple(self._word(word) for word in kind[1:])
            else:
                accepted = (str(kind),)
            yield from ((word, accepted) for word in waiting)
            waiting = []
        yield from ((word, ("object",)) for word in waiting)

    # -- domain ---------------------------------------------------------------------------------------------------

    def domain(self, text: str) -> Domain:
        name, sections = self._define(text, "domain")
        domain = Domain(name, {}, {}, {}, ())
        actions: list[Schema] = []
        for section in sections:
            assert isinstance(section, _List)
            if section.head == ":requirements":
                for word in section[1:]:
                    if self._word(word) not in REQUIREMENTS:
                        known = ", ".join(sorted(REQUIREMENTS))
                        self._fail(word.line, f"requirement {str(word)!r} is not supported; supported are {known}")
            elif section.head == ":types":
                domain.types.update((str(word), kind[0]) for word, kind in self._typed(section[1:], one_type=True))
                self._check_circles(section, domain.types)
            elif section.head == ":constants":
                domain.constants.update(self._objects(section, domain))
            elif section.head == ":predicates":
                for node in section[1:]:
                    if not isinstance(node, _List) or not node.head:
                        self._fail(node.line, "expected a predicate such as (on ?x ?y)")
                    domain.predicates[node.head] = tuple(kinds for _, kinds in self._parameters(node[1:], domain))
            elif section.head == ":action":
                actions.append(self._action(section, domain))
                if actions[-1].name in {other.name for other in actions[:-1]}:
                    self._fail(section.line, f"action {actions[-1].name!r} is declared twice")
            else:
                self._fail(section.line, f"section {section.head!r} is not supported in a domain")
        if not actions:
            self._fail(1, "the domain has no actions")
        return Domain(name, domain.types, domain.constants, domain.predicates, tuple(actions))

    def _objects(self, section: _List, domain: Domain) -> dict[str, str]:
        objects: dict[str, str] = {}
        for word, (kind, *_) in self._typed(section[1:], one_type=True):
            self._check_types(word, (kind,), domain)
            known = objects.get(word, domain.constants.get(word, kind))
            if known != kind:
                self._fail(word.line, f"{str(word)!r} is declared twice, as a {known} and as a {kind}")
            objects[str(word)] = kind
        return objects

    def _check_circles(self, section: _List, types: dict[str, str]) -> None:
        for kind in types:
            above, parent = {kind}, types[kind]
            while parent in types:
                if parent in above:
                    self._fail(section.line, f"type {kind!r} is its own ancestor")
                above.add(parent)
                parent = types[parent]

    def _check_types(self, word: _Word, kinds: tuple[str, ...], domain: Domain) -> None:
        for kind in kinds:
            if kind != "object" and kind not in domain.types and kind not in domain.types.values():
                self._fail(word.line, f"{str(word)!r} has type {kind!r}, which :types does not declare")

    def _parameters(self, nodes: list[_Word | _List], domain: Domain) -> Iterator[tuple[str, tuple[str, ...]]]:
        for word, kinds in self._typed(nodes, one_type=False):
            if not word.startswith("?"):
                self._fail(word.line, f"expected a variable such as ?x, not {str(word)!r}")
            self._check_types(word, kinds, domain)
            yield str(word), kinds

    def _action(self, section: _List, domain: Domain) -> Schema:
        name = self._word(section[1]) if len(section) > 1 else self._fail(section.line, "an action needs a name")
        parts: dict[str, _List] = {}
        for key, value in zip(section[2::2], section[3::2], strict=False):
            if key not in (":parameters", ":precondition", ":effect") or not isinstance(value, _List):
                self._fail(key.line, f"action {name!r}: expected :parameters, :precondition or :effect and a bracket")
            parts[self._word(key)] = value
        if len(section) % 2 or ":effect" not in parts:
            self._fail(section.line, f"action {name!r} is incomplete")
        nothing = _List()
        nothing.line = section.line
        parameters = dict(self._parameters(parts.get(":parameters", nothing), domain))
        terms = {**dict.fromkeys(parameters), **dict.fromkeys(domain.constants)}
        needs, lacks, equal = self._condition(parts.get(":precondition", nothing), domain, terms)
        adds, deletes, equations = self._condition(parts[":effect"], domain, terms)
        if equations:
            self._fail(parts[":effect"].line, f"action {name!r}: an effect cannot make objects equal")
        types = tuple(parameters.values())
        return Schema(name, tuple(parameters), types, needs, lacks, equal, adds, deletes)

    def _condition(
        self, node: _List, domain: Domain, terms: dict[str, None]
    ) -> tuple[tuple[Fact, ...], tuple[Fact, ...], tuple[tuple[str, str, bool], ...]]:
        """The facts that a conjunction asserts, those that it denies, and its equations."""
        asserted: list[Fact] = []
        denied: list[Fact] = []
        equations: list[tuple[str, str, bool]] = []
        todo: list[tuple[_Word | _List, bool]] = [(node, True)]
        while todo:
            part, positive = todo.pop()
            if isinstance(part, _List) and not part and part is node:
                continue
            if not isinstance(part, _List) or not part.head:
                self._fail(part.line, "expected a condition such as (on ?x ?y)")
            if part.head == "and" and positive:
                todo += [(one, True) for one in reversed(part[1:])]
            elif part.head == "not" and positive and len(part) == 2:
                todo.append((part[1], False))
            elif part.head == "=" and len(part) == 3:
                first, second = (self._term(term, terms) for term in part[1:])
                equations.append((first, second, positive))
            elif part.head in ("and", "not", "or", "imply", "forall", "exists", "when", "="):
                self._fail(part.line, f"{part.head!r} is not supported here; only conjunctions of literals are")
            else:
                (asserted if positive else denied).append(self._fact(part, domain, terms))
        return tuple(asserted), tuple(denied), tuple(equations)

    def _fact(self, node: _List, domain: Domain, terms: dict[str, None]) -> Fact:
        if node.head not in domain.predicates:
            self._fail(node.line, f"there is no predicate {node.head!r}")
        arity = len(domain.predicates[node.head])
        if len(node) - 1 != arity:
            self._fail(node.line, f"predicate {node.head!r} takes {arity} arguments, not {len(node) - 1}")
        return (node.head, *(self._term(term, terms) for term in node[1:]))

    def _term(self, node: _Word | _List, terms: dict[str, None]) -> str:
        word = self._word(node)
        if word not in terms:
            self._fail(node.line, f"{word!r} is not declared here")
        return word

    # -- problem --------------------------------------------------------------------------------------------------

    def problem(self, text: str, domain: Domain) -> Problem:
        name, sections = self._define(text, "problem")
        found: dict[str, _List] = {}
        for section in sections:
            assert isinstance(section, _List)
            if section.head not in (":domain", ":requirements", ":objects", ":init", ":goal"):
                self._fail(section.line, f"section {section.head!r} is not supported in a problem")
            found[section.head] = section
        for needed in (":domain", ":init", ":goal"):
            if needed not in found:
                self._fail(1, f"the problem has no {needed}")
        named = self._word(found[":domain"][1]) if len(found[":domain"]) == 2 else ""
        if named != domain.name:
            self._fail(found[":domain"].line, f"the problem is of domain {named!r}, not {domain.name!r}")
        declared = self._objects(found[":objects"], domain) if ":objects" in found else {}
        objects = {**domain.constants, **declared}
        terms = dict.fromkeys(objects)
        start: set[Fact] = set()
        for node in found[":init"][1:]:
            if not isinstance(node, _List):
                self._fail(node.line, "expected a fact such as (on a b)")
            # Types are not checked: official problems contradict their domain's (:predicates ...), as tyreworld's do.
            start.add(self._fact(node, domain, terms))
        goal = found[":goal"]
        if len(goal) != 2 or not isinstance(goal[1], _List):
            self._fail(goal.line, "expected (:goal (and ...))")
        wanted, unwanted, equations = self._condition(goal[1], domain, terms)
        if equations or not (wanted or unwanted):
            self._fail(goal.line, "a goal is one or more facts")
        return Problem(name, objects, frozenset(start), frozenset(wanted), frozenset(unwanted))
