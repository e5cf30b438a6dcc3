"""Styled experts play every environment that lists actions: what they add is labelled, proved, and repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from pydantic import ValidationError

from atlas_ray.environments import TextEnv, make
from atlas_ray.environments.styles import ExpertStyle, Kind, Style, StyledExpert, check_style
from atlas_ray.errors import ConfigError
from tests.environments.test_all import NAMES
from tests.environments.test_contract import Toy

LOOKS = {
    "alfworld": "look",
    "babyai": "check available actions",
    "jericho": "look",
    "maze": "move left",  # there is a wall to the left
    "pddl": "look around",
    "scienceworld": "look around",
    "textcraft": "inventory",
} | dict.fromkeys(("academia", "movie", "sheet", "todo", "weather"), "check_valid_actions with Action Input: {}")
"""A look at the start of the first training task; the other environments have none."""
REFUSED = {("wordle", "checks"), ("webshop", "checks"), ("movie", "slips"), ("movie", "wanders")}
"""Wordle's and WebShop's actions all change something; the only call of Movie without arguments is a look."""
COUNTS_EACH_ACTION = ("jericho", "scienceworld")
"""Environments in whose state a look leaves a trace: the number of turns."""


class Step(NamedTuple):
    thought: str
    action: str
    kind: Kind
    changed: bool
    """Whether the environment's own state differed after the step."""


@pytest.fixture(scope="module")
def environments() -> Iterator[dict[str, TextEnv]]:
    """One environment of each name with twice the rounds, so that an engine starts once."""
    made: dict[str, TextEnv] = {}
    yield made
    for env in made.values():
        env.close()


@pytest.fixture
def env(environments: dict[str, TextEnv], name: str) -> TextEnv:
    if name not in environments:
        card = make(name).card
        environments[name] = make(name, max_rounds=2 * card.max_rounds)
    return environments[name]


def tasks(env: TextEnv) -> list[int]:
    return [1] if env.card.isolated else [0, 3, 7, 9]


def plain_steps(env: TextEnv, task: int) -> list[tuple[str, str]]:
    observation, _ = env.reset(options={"task": task})
    expert, steps = env.expert(), []
    while env.running:
        steps.append(expert.next_action(observation))
        observation = env.step(steps[-1][1])[0]
    return steps


def styled_steps(env: TextEnv, task: int, style: Style, rate: float = 1.0, seed: int = 0) -> tuple[list[Step], bool]:
    """The steps of a styled expert, and whether it solved the task; the environment is left alone by its trials."""
    observation, info = env.reset(options={"task": task})
    expert, steps = StyledExpert(env, style, rate, seed), []
    while env.running:
        before = facts(env)
        thought, action = expert.next_action(observation)
        assert facts(env) == before
        valid = env.valid_actions()
        assert thought.strip() == thought != ""
        assert "\n" not in thought + action
        assert "Action:" not in thought
        inner = env.snapshot().inner
        observation, _, _, _, info = env.step(action)
        steps.append(Step(thought, action, expert.last_kind, env.snapshot().inner != inner))
        if steps[-1].kind in ("habit", "slip"):
            assert action in valid
    assert expert.kinds == [step.kind for step in steps]
    return steps, info["success"]


def facts(env: TextEnv) -> tuple[Any, ...]:
    """What must not change while the expert tries things out; BabyAI's state has several equal pickles."""
    state = env.snapshot()
    return env.valid_actions(), state.rounds, state.score, None if env.card.name == "babyai" else state.inner


def of_kind(steps: list[Step], kind: Kind) -> list[Step]:
    return [step for step in steps if step.kind == kind]


@pytest.mark.parametrize("name", NAMES)
def test_looks_are_valid_actions_that_change_nothing(env: TextEnv, name: str) -> None:
    observation, _ = env.reset(options={"task": 0})
    expert = env.expert()
    assert LOOKS[name] in env.looks() if name in LOOKS else env.looks() == []
    while env.running:
        before, looks = facts(env), env.looks()
        assert facts(env) == before
        assert looks == sorted(set(looks))
        assert set(looks) <= set(env.valid_actions())
        if looks and name not in COUNTS_EACH_ACTION:
            start = env.snapshot()
            for look in looks:
                inner = env.snapshot().inner
                _, reward, terminated, _, _ = env.step(look)
                assert (reward, terminated) == (0, False)
                assert env.snapshot().inner == inner
                env.restore(start)
        observation = env.step(expert.next_action(observation)[1])[0]
    assert env.looks() == []


@pytest.mark.parametrize("name", NAMES)
def test_plain_and_rate_zero_are_the_plain_expert(env: TextEnv, name: str) -> None:
    for task in tasks(env)[:2]:
        plain = plain_steps(env, task)
        for style, rate in (("plain", 1.0), ("checks", 0.0), ("slips", 0.0), ("wanders", 0.0)):
            steps, solved = styled_steps(env, task, style, rate)  # type: ignore[arg-type]
            assert [(step.thought, step.action) for step in steps] == plain
            assert {step.kind for step in steps} == {"productive"}
            assert solved


@pytest.mark.parametrize("name", [param for param in NAMES if param.values[0] in LOOKS])
def test_checks_looks_after_every_action_but_the_last(env: TextEnv, name: str) -> None:
    shown = 0
    for task in tasks(env):
        plain = plain_steps(env, task)
        steps, solved = styled_steps(env, task, "checks")
        assert solved
        assert [(step.thought, step.action) for step in steps if step.kind == "productive"] == plain
        assert {step.kind for step in steps} <= {"productive", "habit"}
        shown += len(of_kind(steps, "habit"))
        if name == "maze":  # there is not a wall everywhere
            continue
        assert [step.kind for step in steps] == ["productive", "habit"] * (len(plain) - 1) + ["productive"]
        assert len({step.action for step in of_kind(steps, "habit")}) <= 1
        if name not in COUNTS_EACH_ACTION:
            assert not any(step.changed for step in of_kind(steps, "habit"))
    assert shown


@pytest.mark.parametrize("style", ["slips", "wanders"])
@pytest.mark.parametrize("name", NAMES)
def test_slips_and_detours_are_extra_steps_on_a_way_that_succeeds(env: TextEnv, name: str, style: Style) -> None:
    strays, allowed = 0, {"slips": {"slip", "recovery"}, "wanders": {"wander"}}[style]
    for task in tasks(env):
        plain = plain_steps(env, task)
        steps, solved = styled_steps(env, task, style)
        assert solved
        assert {step.kind for step in steps} <= {"productive", *allowed}
        assert len(of_kind(steps, "productive")) == len(plain)
        slips = of_kind(steps, "slip")
        assert all(step.changed for step in slips)
        if style == "wanders":
            assert [step.action for step in of_kind(steps, "productive")] == [action for _, action in plain]
        assert all({step.kind, following.kind} != {"slip"} for step, following in pairwise(steps))
        assert steps[-1].kind == "productive"
        strays += len(slips) + len(of_kind(steps, "wander"))
    assert (strays == 0) is ((name, style) in REFUSED)


@pytest.mark.parametrize("name", ["maze"])
def test_a_wrong_turn_is_taken_back_and_called_a_mistake(env: TextEnv, name: str) -> None:
    back = {"move left": "move right", "move right": "move left", "move up": "move down", "move down": "move up"}
    steps, _ = styled_steps(env, 3, "slips")
    slips = 0
    for step, following in pairwise(steps):
        if step.kind == "slip":
            slips += 1
            assert (following.kind, following.action) == ("recovery", back[step.action])
            assert any(word in following.thought for word in ("mistake", "wrong", "did not help"))
            assert f"so I {following.action}" in following.thought or f"and {following.action}" in following.thought
    assert slips > 3


@pytest.mark.parametrize("name", ["textcraft"])
@pytest.mark.parametrize("style", ["checks", "slips", "wanders"])
def test_the_seed_decides(env: TextEnv, name: str, style: Style) -> None:
    other = make(name, max_rounds=env.card.max_rounds)
    played = [styled_steps(here, 3, style, 0.5, seed)[0] for here, seed in ((env, 1), (other, 1), (env, 2))]
    assert played[0] == played[1]
    assert played[0] != played[2]
    assert {step.kind for step in played[0]} > {"productive"}


@pytest.mark.parametrize("style", ["slips", "wanders"])
@pytest.mark.parametrize("spare", [-1, 0, 1, 3])
def test_the_round_cap_bounds_what_is_added(style: Style, spare: int) -> None:
    plain = plain_steps(make("textcraft"), 3)
    capped = make("textcraft", max_rounds=len(plain) + spare)
    steps, solved = styled_steps(capped, 3, style)
    assert solved is (spare >= 0)
    extra = len(steps) - len(of_kind(steps, "productive"))
    assert 0 <= extra <= max(spare, 0)
    assert extra > 0 or spare <= 0


def test_the_state_that_a_styled_expert_takes_over_does_not_matter() -> None:
    env = make("pddl", max_rounds=60)
    env.reset(options={"task": 0})
    env.step(next(action for action in env.valid_actions() if action.startswith("move")))
    expert, observation, info = StyledExpert(env, "slips", 1.0, 0), "", {"success": False}
    while env.running:
        observation, _, _, _, info = env.step(expert.next_action(observation)[1])
    assert info["success"]
    assert "slip" in expert.kinds


# -- refusals ---------------------------------------------------------------------------------------------------------


class Silent(Toy):
    """Lists no actions."""

    def valid_actions(self) -> list[str]:
        return []


@pytest.mark.parametrize("style", ["plain", "checks", "slips", "wanders"])
@pytest.mark.parametrize("name", NAMES)
def test_a_style_that_cannot_show_is_refused_before_it_is_used(env: TextEnv, name: str, style: Style) -> None:
    if (name, style) in REFUSED:
        with pytest.raises(ConfigError, match=rf"{name}: in its first 5 train tasks, no listed action fits .*{style}"):
            check_style(env, ExpertStyle(style=style))
    else:
        check_style(env, ExpertStyle(style=style))


def test_an_environment_without_actions_has_only_the_plain_style() -> None:
    env = Silent()
    check_style(env, ExpertStyle())
    for style in ("checks", "slips", "wanders"):
        with pytest.raises(ConfigError, match=f"toy: it lists no actions, so there is no expert of style '{style}'"):
            check_style(env, ExpertStyle(style=style))  # type: ignore[arg-type]
    assert StyledExpert(env, "plain", 1.0, 0).next_action("")[1] == "add"


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), True, "1"])
def test_a_rate_outside_its_range_is_refused(rate: Any) -> None:
    env = Toy()
    env.reset(options={"task": 0})
    with pytest.raises(ConfigError, match="toy: rate of style 'slips' is .*; give a number from 0 to 1"):
        StyledExpert(env, "slips", rate, 0)
    if rate not in (True, "1"):
        with pytest.raises(ValidationError):
            ExpertStyle(style="slips", rate=rate)


def test_an_unknown_style_is_refused() -> None:
    env = Toy()
    env.reset(options={"task": 0})
    with pytest.raises(ConfigError, match="toy: style is 'dances'; choose one of plain, checks, slips, wanders"):
        StyledExpert(env, "dances", 1.0, 0)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        ExpertStyle(style="dances")  # type: ignore[arg-type]
