"""The STRIPS core: the ground actions of a problem, when they apply, and their effects.

A state is a frozenset of facts, so a snapshot costs nothing. The wording is in `words.py`, search in `planner.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from atlas_ray.errors import DataError
from envs.pddl.parser import Domain, Fact, Problem, Schema

State = frozenset[Fact]
MAX_OPERATORS = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """A ground action: what it needs and must lack, what it adds and deletes (adding wins, as PDDL has it)."""

    name: str
    objects: tuple[str, ...]
    needs: State
    lacks: State
    adds: State
    deletes: State

    def applies(self, state: State) -> bool:
        """Whether it can be done in the state."""
        return self.needs <= state and self.lacks.isdisjoint(state)

    def after(self, state: State) -> State:
        """The state that it leads to."""
        return (state - self.deletes) | self.adds


class Task:
    """A problem with the ground actions that its unchanging facts allow."""

    def __init__(self, domain: Domain, problem: Problem) -> None:
        self.domain = domain
        self.problem = problem

    @cached_property
    def arities(self) -> dict[str, int]:
        """How many objects each action is about."""
        return {schema.name: len(schema.parameters) for schema in self.domain.actions}

    @cached_property
    def operators(self) -> dict[tuple[str, tuple[str, ...]], Operator]:
        """The ground actions by name and objects, in the domain's order, then the objects'.

        Raises:
            DataError: There are too many of them.
        """
        changing = {fact[0] for schema in self.domain.actions for fact in (*schema.adds, *schema.deletes)}
        found: dict[tuple[str, tuple[str, ...]], Operator] = {}
        for schema in self.domain.actions:
            for objects in self._bindings(schema, changing):
                found[schema.name, objects] = _ground(schema, objects)
                if len(found) > MAX_OPERATORS:
                    raise DataError(f"pddl: problem {self.problem.name!r} has more than {MAX_OPERATORS} ground actions")
        return found

    def applicable(self, state: State) -> list[Operator]:
        """The actions that can be done in a state and change it."""
        return [op for op in self.operators.values() if op.applies(state) and op.after(state) != state]

    def progress(self, state: State) -> float:
        """The share of the goal's facts that hold."""
        met = len(self.problem.goal & state) + len(self.problem.goal_not - state)
        return met / (len(self.problem.goal) + len(self.problem.goal_not))

    def _bindings(self, schema: Schema, changing: set[str]) -> Iterator[tuple[str, ...]]:
        """The objects for the parameters that types, equations and facts that never change allow."""
        start, objects, n = self.problem.start, self.problem.objects, len(schema.parameters)
        index_of = {name: index for index, name in enumerate(schema.parameters)}
        checks: list[list[tuple[Fact, bool]]] = [[] for _ in range(n + 1)]
        for facts, positive in ((schema.needs, True), (schema.lacks, False)):
            for fact in facts:
                if fact[0] not in changing:
                    checks[max((index_of.get(term, -1) + 1 for term in fact[1:]), default=0)].append((fact, positive))
        for first, second, same in schema.equal:
            ready = max(index_of.get(first, -1), index_of.get(second, -1)) + 1
            checks[ready].append((("=", first, second), same))
        fitting = [
            [name for name, kind in objects.items() if self.domain.is_a(kind, accepted)] for accepted in schema.types
        ]
        chosen: list[str] = []

        def allowed() -> bool:
            bound = dict(zip(schema.parameters, chosen, strict=False))
            for (name, *terms), positive in checks[len(chosen)]:
                ground = tuple(bound.get(term, term) for term in terms)
                holds = ground[0] == ground[1] if name == "=" else (name, *ground) in start
                if holds is not positive:
                    return False
            return True

        def extend() -> Iterator[tuple[str, ...]]:
            if not allowed():
                return
            if len(chosen) == n:
                yield tuple(chosen)
                return
            for name in fitting[len(chosen)]:
                chosen.append(name)
                yield from extend()
                chosen.pop()

        yield from extend()


def _ground(schema: Schema, objects: tuple[str, ...]) -> Operator:
    bound = dict(zip(schema.parameters, objects, strict=True))

    def ground(facts: tuple[Fact, ...]) -> State:
        return frozenset((name, *(bound.get(term, term) for term in terms)) for name, *terms in facts)

    return Operator(
        schema.name, objects, ground(schema.needs), ground(schema.lacks), ground(schema.adds), ground(schema.deletes)
    )
