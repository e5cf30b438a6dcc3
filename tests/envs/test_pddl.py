"""PDDL: parser, STRIPS core, planner, words, shipped problems, problems by path, the expert."""

from __future__ import annotations

import json
import random
import re
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atlas_ray.errors import ConfigError, DataError
from envs.pddl.env import PDDLEnv
from envs.pddl.generate import rows, signature
from envs.pddl.parser import read_domain, read_problem
from envs.pddl.planner import plan
from envs.pddl.strips import Task
from envs.pddl.tasks import DOMAINS, SHIPPED, own_domain, shipped
from envs.pddl.words import find_action, wording
from tests.reference import reference

SWITCHES = """
(define (domain switches)
  (:requirements :strips :typing :negative-preconditions :equality)
  (:types lamp door - thing room)
  (:constants hall - room)
  (:predicates (lit ?l - lamp) (inside ?x - (either lamp door) ?r - room) (dark))
  (:action toggle-on :parameters (?l - lamp) :precondition (not (lit ?l)) :effect (and (lit ?l) (not (dark))))
  (:action carry
    :parameters (?x - thing ?from ?to - room)
    :precondition (and (inside ?x ?from) (not (= ?from ?to)) (not (dark)))
    :effect (and (inside ?x ?to) (not (inside ?x ?from)))))
"""
LAMPS = """
(define (problem lamps) (:domain switches)
  (:objects a b - lamp d - door attic - room) ; b stays off
  (:init (dark) (inside a hall) (inside b hall) (inside d attic))
  (:goal (and (inside d hall) (lit a) (not (lit b)))))
"""


def _lamps() -> Task:
    domain = read_domain(SWITCHES, "switches.pddl")
    return Task(domain, read_problem(LAMPS, "lamps.pddl", domain))


def _play(env: PDDLEnv, task: int, split: str = "train") -> dict[str, Any]:
    observation, info = env.reset(options={"task": task, "split": split})
    expert = env.expert()
    while env.running:
        thought, action = expert.next_action(observation)
        assert len(thought.split()) >= 5
        observation, *_, info = env.step(action)
    return info


def test_types_constants_negation_and_equality() -> None:
    task = _lamps()
    assert {objects for name, objects in task.operators if name == "toggle-on"} == {("a",), ("b",)}
    assert ("carry", ("d", "attic", "hall")) in task.operators
    assert ("carry", ("d", "hall", "hall")) not in task.operators
    start = task.problem.start
    assert [op.name for op in task.applicable(start)] == ["toggle-on", "toggle-on"], "too dark to carry"
    lit = task.operators["toggle-on", ("a",)].after(start)
    assert ("dark",) not in lit
    assert task.progress(start) == pytest.approx(1 / 3), "b is off already"
    assert task.progress(lit) == pytest.approx(2 / 3)
    steps = plan(task, start)
    assert steps is not None
    assert [(op.name, *op.objects) for op in steps] == [("toggle-on", "a"), ("carry", "d", "attic", "hall")]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":equality)", ":adl)", "line 3: requirement ':adl' is not supported"),
        ("(dark))\n", "(dark)\n", "line 2: the bracket that opens here is never closed"),
        ("(lit ?l) (not (dark))", "(lit ?k) (not (dark))", "line 7: '?k' is not declared here"),
        ("(lit ?l) (not (dark))", "(bright ?l)", "line 7: there is no predicate 'bright'"),
        ("(lit ?l) (not (dark))", "(lit ?l ?l)", "line 7: predicate 'lit' takes 1 arguments, not 2"),
        (":precondition (not (lit ?l))", ":precondition (or (dark))", "line 7: 'or' is not supported here"),
        ("?l - lamp)", "?l - lampe)", "line 6: '?l' has type 'lampe', which :types does not declare"),
        ("lamp door - thing room", "lamp - door door - lamp", "line 4: type 'lamp' is its own ancestor"),
        (":action carry", ":action toggle-on", "line 8: action 'toggle-on' is declared twice"),
        ("(define (domain switches)", "(define (problem switches)", "line 2: expected (define (domain NAME) ...)"),
    ],
)
def test_a_mistake_in_a_domain_is_named_with_its_line(old: str, new: str, message: str) -> None:
    assert old in SWITCHES
    with pytest.raises(DataError, match="^" + re.escape(f"pddl: switches.pddl {message}")):
        read_domain(SWITCHES.replace(old, new, 1), "switches.pddl")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(:domain switches)", "(:domain gripper)", "line 2: the problem is of domain 'gripper', not 'switches'"),
        ("a b - lamp", "a b - lamp a - room", "line 3: 'a' is declared twice, as a lamp and as a room"),
        ("(lit a)", "(lit c)", "line 5: 'c' is not declared here"),
        ("(:goal (and", "(:metric (and", "line 5: section ':metric' is not supported"),
    ],
)
def test_a_mistake_in_a_problem_is_named_with_its_line(old: str, new: str, message: str) -> None:
    domain = read_domain(SWITCHES, "switches.pddl")
    with pytest.raises(DataError, match="^" + re.escape(f"pddl: lamps.pddl {message}")):
        read_problem(LAMPS.replace(old, new, 1), "lamps.pddl", domain)


@pytest.mark.parametrize(
    "written",
    [
        "(?x - thing ?from ?to - room)",
        "(?x - thing?from ?to - room)",
        "(?x - thing?from?to -room)",
        "(?x -thing\n?from?to\n-room)",
    ],
)
def test_blanks_that_files_in_use_leave_out(written: str) -> None:
    plain = read_domain(SWITCHES, "switches.pddl")
    assert read_domain(SWITCHES.replace("(?x - thing ?from ?to - room)", written), "switches.pddl") == plain


def test_names_keep_their_hyphens() -> None:
    assert "toggle-on" in {action.name for action in read_domain(SWITCHES, "switches.pddl").actions}


@pytest.mark.parametrize("objects", ["hall attic - room", "attic - room hall - room", "hall - room attic attic - room"])
def test_constants_may_be_declared_as_objects_too(objects: str) -> None:
    domain = read_domain(SWITCHES, "switches.pddl")
    expected = read_problem(LAMPS, "lamps.pddl", domain)
    assert read_problem(LAMPS.replace("attic - room", objects), "lamps.pddl", domain) == expected
    with pytest.raises(DataError, match="line 3: 'hall' is declared twice, as a room and as a lamp"):
        read_problem(LAMPS.replace("attic - room", "attic - room hall - lamp"), "lamps.pddl", domain)


def test_facts_may_contradict_the_types_of_their_predicate() -> None:
    """As those of the official tyreworld do: `(in ?x - container ?y - obj)`, and `(in jack boot)`."""
    domain = read_domain(SWITCHES, "switches.pddl")
    problem = read_problem(LAMPS.replace("(:init (dark)", "(:init (dark) (inside attic d)"), "lamps.pddl", domain)
    assert ("inside", "attic", "d") in problem.start
    assert plan(Task(domain, problem), problem.start) is not None


_pieces = st.sampled_from([*SWITCHES.split(), "(", ")", "-", "(define", "?l", "and", ":init", "\n"])


def _refusal(read: Any) -> str:
    try:
        read()
    except DataError as error:
        return str(error)
    return "pddl: x line 1: it was read"


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(_pieces, max_size=60), cut=st.integers(0, len(SWITCHES)))
@example(pieces=["("] * 5000, cut=0)
def test_any_text_is_read_or_refused(pieces: list[str], cut: int) -> None:
    for text in (" ".join(pieces), SWITCHES[:cut] + " ".join(pieces) + SWITCHES[cut:]):
        assert _refusal(lambda text=text: read_domain(text, "x")).startswith("pddl: x line ")
        assert _refusal(lambda text=text: read_problem(text, "x", own_domain("gripper"))).startswith("pddl: x line ")


def test_planner_says_when_there_is_no_way() -> None:
    domain = read_domain(SWITCHES, "switches.pddl")
    problem = read_problem(LAMPS.replace("(lit a)", "(lit a) (dark)"), "lamps.pddl", domain)
    assert plan(Task(domain, problem), problem.start) is None


def test_shipped_problems_are_what_the_generator_makes_and_differ() -> None:
    lines = [json.loads(line) for line in SHIPPED.read_text().splitlines()]
    for name in DOMAINS:
        mine = [row for row in lines if row["domain"] == name]
        assert [row["split"] for row in mine] == ["test"] * 20 + ["train"] * 40
        assert list(islice(rows(name), 5)) == mine[:5]
        marks = [signature(read_problem(row["problem"], "shipped", own_domain(name))) for row in mine]
        assert len(set(marks)) == len(marks)
    renamed = json.loads(SHIPPED.read_text().splitlines()[0])["problem"].replace("ball1", "ball9")
    problem = read_problem(renamed, "renamed", own_domain("gripper"))
    assert signature(problem) == signature(shipped(DOMAINS, "test")[0].problem)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_expert_solves_every_problem(split: Any) -> None:
    env = PDDLEnv()
    infos = [_play(env, task, split) for task in range(env.card.n_tasks(split))]
    assert all(info["success"] and info["score"] == 1 for info in infos)
    assert max(info["rounds"] for info in infos) <= 18


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_expert_takes_over_an_episode(domain: str) -> None:
    env = PDDLEnv(domains=[domain], max_rounds=60)
    rng = random.Random(domain)
    for task in range(3):
        env.reset(options={"task": task})
        for _ in range(6):
            if env.running:
                env.step(rng.choice(env.valid_actions()))
        expert = env.expert()
        info: dict[str, Any] = {"success": not env.running}
        while env.running:
            info = env.step(expert.next_action("")[1])[4]
        assert info["success"]


def test_every_action_in_words_is_understood() -> None:
    for entry in shipped(DOMAINS, "train")[:8]:
        task, words = Task(entry.domain, entry.problem), wording(entry.domain)
        assert words.facts, f"{entry.domain.name} has no words"
        for operator in task.operators.values():
            text = words.operator(operator)
            assert find_action(text, task.arities, entry.problem.objects) == (operator.name, operator.objects)


def test_texts() -> None:
    env = PDDLEnv(domains=["gripper"], max_rounds=50)
    observation, _ = env.reset(options={"task": 0, "split": "test"})
    assert "- move from <from> to <to>. Needs: Robby is in <from>; <from> is not <to>." in observation
    goal, state = observation.rpartition("\n\n")[2].split("\n")
    assert goal.startswith("The goal is to satisfy the following conditions: ball")
    assert state.startswith("Observation: Ball1 is in room")
    expert = env.expert()
    action = expert.next_action(observation)[1]
    assert env.step("juggle ball1")[0].startswith("This is not an action here")
    assert env.step("drop ball1 rooma left")[0].startswith("The action is not valid now")
    listed = env.step("Check valid actions.")[0]
    assert listed.startswith("Valid actions are: check valid actions, look around, ")
    assert action in listed
    assert env.step("look around")[0] == state.removeprefix("Observation: ")
    *_, info = env.step(f"I will {action}!")
    assert env.task.progress(env.state) == info["score"]


def test_progress_is_the_best_so_far() -> None:
    env = PDDLEnv(domains=["gripper"], max_rounds=50)
    for task in range(40):
        env.reset(options={"task": task})
        expert, info = env.expert(), {"score": 0.0}
        while env.running and not 0 < info["score"] < 1:
            info = env.step(expert.next_action("")[1])[4]
        if env.running:
            break
    undo = next(action for action in env.valid_actions() if action.startswith("pick up"))
    score = info["score"]
    assert env.step(undo)[4]["score"] == score
    assert env.task.progress(env.state) <= score


def test_own_files(tmp_path: Path) -> None:
    domain, folder = tmp_path / "switches.pddl", tmp_path / "problems"
    folder.mkdir()
    domain.write_text(SWITCHES)
    for name in ("b", "a"):
        (folder / f"{name}.pddl").write_text(LAMPS.replace("lamps)", f"{name})"))
    env = PDDLEnv(domain=domain, problems=folder)
    assert (env.card.n_train, env.card.n_test) == (2, 2)
    observation, _ = env.reset(options={"task": 0})
    assert env.task.problem.name == "a"
    assert "- toggle-on <l>. Needs: not: lit <l>. Then: lit <l>. No longer: dark." in observation
    assert _play(env, 1)["success"]
    (folder / "c.pddl").write_text("(define (problem c)")
    with pytest.raises(DataError, match=r"c.pddl line 1: the bracket that opens here is never closed"):
        PDDLEnv(domain=str(domain), problems=str(folder))
    with pytest.raises(ConfigError, match="does not exist"):
        PDDLEnv(domain=domain, problems=tmp_path / "none")
    with pytest.raises(ConfigError, match="together"):
        PDDLEnv(domain=domain)
    with pytest.raises(ConfigError, match="domains is"):
        PDDLEnv(domains=["chess"])


@pytest.mark.parametrize(("domain", "n"), [("gripper", 20), ("blockworld", 10)])
@reference("pddl")
def test_reference_problems_load_and_play(path: str, domain: str, n: int) -> None:
    env = PDDLEnv(domain=f"{path}/{domain}.pddl", problems=f"{path}/{domain}", max_rounds=60)
    assert env.card.n_test == n
    assert all(_play(env, task, "test")["success"] for task in range(n))
    assert env.wording.facts, "upstream's vocabulary has our words"
