"""Generation of the shipped problems: seeded, each solved by the planner, no two alike.

`python -m envs.pddl.generate` rewrites `problems.jsonl`, byte for byte the same. Playing is in `env.py`.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise

from envs.pddl.parser import Fact, Problem, read_problem
from envs.pddl.planner import plan
from envs.pddl.strips import Task
from envs.pddl.tasks import DOMAINS, SHIPPED, own_domain

PER_DOMAIN = {"train": 40, "test": 20}
MIN_STEPS, MAX_STEPS = 3, 18
"""Plans leave two rounds of the cap of 20 for a look at the valid actions."""

Draft = tuple[dict[str, list[str]], list[Fact], list[Fact]]
"""Objects by type, initial facts, goal facts."""


def gripper(rng: random.Random) -> Draft:
    """Two to four rooms, two to five balls to be moved, two grippers (sometimes one)."""
    rooms = [f"room{letter}" for letter in "abcd"[: rng.randint(2, 4)]]
    balls = [f"ball{n}" for n in range(1, rng.randint(2, 5) + 1)]
    grippers = ["left", "right"][: rng.choice((1, 2, 2, 2))]
    start: list[Fact] = [("at-robby", rng.choice(rooms)), *(("free", name) for name in grippers)]
    goal: list[Fact] = []
    for ball in balls:
        here, there = rng.choice(rooms), rng.choice(rooms)
        start.append(("at", ball, here))
        if here != there:
            goal.append(("at", ball, there))
    return {"room": rooms, "ball": balls, "gripper": grippers}, start, goal


def blocksworld(rng: random.Random) -> Draft:
    """Three to six blocks in random towers; the goal names who is on whom in other towers."""
    blocks = [f"b{n}" for n in range(1, rng.randint(3, 6) + 1)]
    start: list[Fact] = [("arm-empty",)]
    for tower in _towers(rng, blocks):
        start += [("on-table", tower[0]), ("clear", tower[-1])]
        start += [("on", upper, lower) for lower, upper in pairwise(tower)]
    goal: list[Fact] = []
    for tower in _towers(rng, blocks):
        goal += [("on", upper, lower) for lower, upper in pairwise(tower)]
    return {"block": blocks}, start, [fact for fact in goal if fact not in start]


def _towers(rng: random.Random, blocks: list[str]) -> list[list[str]]:
    towers: list[list[str]] = []
    for block in rng.sample(blocks, len(blocks)):
        if towers and rng.random() < 0.65:
            rng.choice(towers).append(block)
        else:
            towers.append([block])
    return towers


def barman(rng: random.Random) -> Draft:
    """Two to four ingredients; one or two glasses are to contain an ingredient or a cocktail."""
    ingredients = [f"ingredient{n}" for n in range(1, rng.randint(2, 4) + 1)]
    cocktails = [f"cocktail{n}" for n in range(1, rng.randint(1, 3) + 1)]
    shots = [f"shot{n}" for n in range(1, rng.randint(2, 4) + 1)]
    dispensers = [f"dispenser{n}" for n in range(1, len(ingredients) + 1)]
    hands, levels = ["left", "right"], ["level0", "level1", "level2"]
    start: list[Fact] = [("handempty", hand) for hand in hands]
    for thing in (*shots, "shaker1"):
        start += [("ontable", thing), ("empty", thing), ("clean", thing)]
    start += [("dispenses", *pair) for pair in zip(dispensers, ingredients, strict=True)]
    start += [("shaker-level", "shaker1", "level0"), ("shaker-empty-level", "shaker1", "level0")]
    start += [("next", "level0", "level1"), ("next", "level1", "level2")]
    for cocktail in cocktails:
        first, second = rng.sample(ingredients, 2)
        start += [("cocktail-part1", cocktail, first), ("cocktail-part2", cocktail, second)]
    n_goals = rng.randint(1, min(2, len(shots) - 1))
    drinks = [rng.choice(cocktails), *rng.choices(ingredients, k=n_goals - 1)]
    if rng.random() < 0.25:
        drinks[0] = rng.choice(ingredients)
    goal: list[Fact] = [("contains", shot, drink) for shot, drink in zip(shots, drinks, strict=False)]
    return {
        "ingredient": ingredients, "cocktail": cocktails, "shot": shots, "dispenser": dispensers,
        "hand": hands, "level": levels, "shaker": ["shaker1"],
    }, start, goal  # fmt: skip


def tyreworld(rng: random.Random) -> Draft:
    """One or two flat tyres at some stage of the job of changing them; the goal is a part of that job."""
    numbers = range(1, rng.randint(1, 2) + 1)
    tools, hubs = ["wrench", "jack", "pump"], [f"hub{n}" for n in numbers]
    flats, spares, nuts = ([f"{name}{n}" for n in numbers] for name in ("w", "r", "nut"))
    start: list[Fact] = [("unlocked", "boot"), *(("not-inflated", wheel) for wheel in spares)]
    start += [("intact", wheel) for wheel in spares]
    boot_open = rng.random() < 0.3
    start.append(("isopen" if boot_open else "closed", "boot"))
    for thing in (*tools, *spares):
        start.append(("have", thing) if boot_open and rng.random() < 0.4 else ("in", thing, "boot"))
    stages = [rng.randint(0, 2) for _ in hubs]
    for hub, nut, flat, spare, stage in zip(hubs, nuts, flats, spares, stages, strict=True):
        if stage == 2:  # the spare is already on, with a loose nut
            start = [fact for fact in start if fact not in (("have", spare), ("in", spare, "boot"))]
            start += [("on-ground", hub), ("fastened", hub), ("loose", nut, hub), ("on", spare, hub), ("have", flat)]
        else:
            start += [("on-ground", hub), ("fastened", hub), ("on", flat, hub)]
            start.append(("tight" if stage == 0 else "loose", nut, hub))
    wishes: list[Fact] = [("closed", "boot"), *(("in", tool, "boot") for tool in tools)]
    for hub, nut, flat, spare in zip(hubs, nuts, flats, spares, strict=True):
        wishes += [("on", spare, hub), ("inflated", spare), ("tight", nut, hub), ("in", flat, "boot")]
    wishes = [fact for fact in wishes if fact not in start]
    goal = rng.sample(wishes, min(len(wishes), rng.randint(1, 6)))
    return {"container": ["boot"], "hub": hubs, "wheel": [*flats, *spares], "nut": nuts}, start, goal


GENERATORS: dict[str, Callable[[random.Random], Draft]] = {
    "gripper": gripper,
    "blocksworld": blocksworld,
    "barman": barman,
    "tyreworld": tyreworld,
}


def problem_text(name: str, domain: str, draft: Draft) -> str:
    """A draft as PDDL, facts sorted."""
    objects, start, goal = draft
    declared = " ".join(f"{' '.join(names)} - {kind}" for kind, names in objects.items())
    return (
        f"(define (problem {name}) (:domain {domain})\n(:objects {declared})\n"
        f"(:init {_facts(start)})\n(:goal (and {_facts(goal)})))"
    )


def _facts(facts: Iterable[Fact]) -> str:
    return " ".join(f"({' '.join(fact)})" for fact in sorted(facts))


def signature(problem: Problem) -> tuple[object, ...]:
    """The same for two problems that differ in the names of their objects only (colour refinement, three rounds)."""
    facts = [("init", fact) for fact in problem.start] + [("goal", fact) for fact in problem.goal]
    colours: dict[str, str] = dict(problem.objects)
    for _ in range(3):
        seen: dict[str, list[str]] = {name: [] for name in colours}
        for part, (predicate, *terms) in facts:
            for index, term in enumerate(terms):
                seen[term].append(f"{part} {predicate} {index} {[colours[other] for other in terms]}")
        told = {name: (colours[name], *sorted(seen[name])) for name in colours}
        ranks = {colour: str(rank) for rank, colour in enumerate(sorted(set(told.values())))}
        named = {rank: problem.objects[name] for name, rank in ((n, ranks[told[n]]) for n in told)}
        colours = {name: f"{named[ranks[told[name]]]} {ranks[told[name]]}" for name in told}
    return tuple(sorted(Counter((part, fact[0], *(colours[t] for t in fact[1:])) for part, fact in facts).items()))


def rows(domain_name: str) -> Iterable[dict[str, object]]:
    """The problems of a domain with their plans: test problems first, then training problems, all different."""
    domain, seed = own_domain(domain_name), 0
    seen: set[tuple[object, ...]] = set()
    for split in ("test", "train"):
        found = 0
        while found < PER_DOMAIN[split]:
            seed += 1
            draft = GENERATORS[domain_name](random.Random(f"pddl {domain_name} {seed}"))
            name = f"{domain_name}-{split}-{found}"
            if not draft[2]:
                continue
            text = problem_text(name, domain_name, draft)
            problem = read_problem(text, name, domain)
            if (mark := signature(problem)) in seen:
                continue
            steps = plan(Task(domain, problem), problem.start, weight=1.5)
            if steps is None or not MIN_STEPS <= len(steps) <= MAX_STEPS:
                continue
            seen.add(mark)
            found += 1
            plan_text = [" ".join((op.name, *op.objects)) for op in steps]
            yield {"domain": domain_name, "split": split, "problem": text, "plan": plan_text}


def main() -> None:
    """Write the file that the project ships."""
    with SHIPPED.open("w", encoding="utf-8") as file:
        for name in DOMAINS:
            for row in rows(name):
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
