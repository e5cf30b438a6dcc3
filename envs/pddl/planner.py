"""A small planner: weighted A* over bit sets with the relaxed-plan heuristic of FF (Hoffmann and Nebel).

It finds short plans for problems of a few hundred ground actions in well under a second. On larger problems it gives up
after `max_expanded` states; a real planner does not.
"""

from __future__ import annotations

import heapq

from envs.pddl.strips import Operator, State, Task

MAX_EXPANDED = 30_000


def plan(task: Task, state: State, *, weight: float = 3.0, max_expanded: int = MAX_EXPANDED) -> list[Operator] | None:
    """Actions from the state to the goal, or None if none were found.

    Args:
        task: The problem.
        state: Where to start.
        weight: How much the heuristic counts against the steps taken; 1 gives the shortest plans, more is faster.
        max_expanded: States to look into before giving up.
    """
    return _Search(task, state).run(state, weight, max_expanded)


class _Search:
    """The problem as integers: a fact is a bit, a state is a set of bits."""

    def __init__(self, task: Task, state: State) -> None:
        self._operators = _reachable(task, state)
        problem = task.problem
        facts = state | problem.goal | problem.goal_not
        facts = facts.union(*(op.needs | op.lacks | op.adds | op.deletes for op in self._operators))
        self._numbers = {fact: n for n, fact in enumerate(sorted(facts))}
        self._rows = [
            (self._bits(op.needs), self._bits(op.lacks), self._bits(op.adds), self._bits(op.deletes))
            for op in self._operators
        ]
        self._goal, self._goal_not = self._bits(problem.goal), self._bits(problem.goal_not)
        self._goal_facts = [self._numbers[fact] for fact in sorted(problem.goal)]
        self._needs = [[self._numbers[fact] for fact in sorted(op.needs)] for op in self._operators]
        self._adds = [[self._numbers[fact] for fact in sorted(op.adds)] for op in self._operators]
        self._users: list[list[int]] = [[] for _ in self._numbers]
        for n, needs in enumerate(self._needs):
            for number in needs:
                self._users[number].append(n)

    def _bits(self, facts: State) -> int:
        return sum(1 << self._numbers[fact] for fact in facts)

    def run(self, state: State, weight: float, max_expanded: int) -> list[Operator] | None:
        start = self._bits(state)
        estimate = self._estimate(start)
        if estimate is None:
            return None
        came: dict[int, tuple[int, int] | None] = {start: None}
        cost = {start: 0}
        heap = [(weight * estimate, estimate, 0, start)]
        tie = expanded = 0
        closed: set[int] = set()
        while heap and expanded < max_expanded:
            *_, here = heapq.heappop(heap)
            if here in closed:
                continue
            closed.add(here)
            expanded += 1
            if self._done(here):
                return self._trace(came, here)
            steps = cost[here] + 1
            for n, (needs, lacks, adds, deletes) in enumerate(self._rows):
                if here & needs != needs or here & lacks:
                    continue
                after = here & ~deletes | adds
                if cost.get(after, steps + 1) <= steps:
                    continue
                estimate = self._estimate(after)
                if estimate is None:
                    continue
                cost[after], came[after] = steps, (here, n)
                closed.discard(after)
                tie += 1
                heapq.heappush(heap, (steps + weight * estimate, estimate, tie, after))
        return None

    def _done(self, state: int) -> bool:
        return state & self._goal == self._goal and not state & self._goal_not

    def _trace(self, came: dict[int, tuple[int, int] | None], state: int) -> list[Operator]:
        steps = []
        while (step := came[state]) is not None:
            state, n = step
            steps.append(self._operators[n])
        return steps[::-1]

    def _estimate(self, state: int) -> int | None:
        """Actions in a plan that ignores what actions delete; None if even that does not reach the goal."""
        n_facts = len(self._numbers)
        price: list[int | None] = [None] * n_facts
        by: list[int] = [-1] * n_facts
        waiting = [len(needs) for needs in self._needs]
        paid = [0] * len(waiting)
        heap: list[tuple[int, int]] = []
        for fact in range(n_facts):
            if state >> fact & 1:
                price[fact] = 0
                heap.append((0, fact))
        for n, needs in enumerate(waiting):
            if needs == 0:
                self._reach(n, 1, price, by, heap)
        settled = bytearray(n_facts)
        unmet = self._goal
        while heap:
            cost, fact = heapq.heappop(heap)
            if settled[fact]:
                continue
            settled[fact] = 1
            unmet &= ~(1 << fact)
            if not unmet:
                break
            for n in self._users[fact]:
                waiting[n] -= 1
                paid[n] += cost
                if not waiting[n]:
                    self._reach(n, paid[n] + 1, price, by, heap)
        if any(price[fact] is None for fact in self._goal_facts):
            return None
        relaxed: set[int] = set()
        todo = [fact for fact in self._goal_facts if price[fact]]
        while todo:
            n = by[todo.pop()]
            if n not in relaxed:
                relaxed.add(n)
                todo += [fact for fact in self._needs[n] if price[fact]]
        return len(relaxed)

    def _reach(self, n: int, cost: int, price: list[int | None], by: list[int], heap: list[tuple[int, int]]) -> None:
        for fact in self._adds[n]:
            known = price[fact]
            if known is None or cost < known:
                price[fact], by[fact] = cost, n
                heapq.heappush(heap, (cost, fact))


def _reachable(task: Task, state: State) -> list[Operator]:
    """The ground actions that could ever be done from the state if nothing were deleted."""
    facts = set(state)
    todo, found = list(task.operators.values()), []
    grown = True
    while grown:
        grown, rest = False, []
        for op in todo:
            if op.needs <= facts:
                found.append(op)
                grown = grown or not op.adds <= facts
                facts |= op.adds
            else:
                rest.append(op)
        todo = rest
    return found
