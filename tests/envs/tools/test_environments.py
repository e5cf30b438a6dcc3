"""What holds for every tool environment: experts, disjoint tasks, sessions apart, and no input that does harm."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_ray.environments import make, names
from atlas_ray.environments.registry import _load_class
from envs.tools.env import ToolEnv
from envs.tools.grammar import FORMAT_ERROR, MAX_CALL_CHARS, format_call

NAMES = [name for name in names() if issubclass(_load_class(name), ToolEnv)]
ANSWERING = [name for name in NAMES if name != "sheet"]
"""Those whose `finish` takes an answer."""


def _make(name: str, **options: Any) -> ToolEnv:
    env = make(name, **options)
    assert isinstance(env, ToolEnv)
    return env


@pytest.mark.parametrize("name", NAMES)
def test_the_expert_solves_every_task_by_its_tools(name: str) -> None:
    env = _make(name)
    calls: dict[tuple[str, str], set[int]] = {}
    goals: dict[str, set[tuple[str, str]]] = {"train": set(), "test": set()}
    for split, seen in goals.items():
        for task in range(env.card.n_tasks(split)):  # type: ignore[arg-type]
            observation, info = env.reset(options={"task": task, "split": split})
            seen.add((env.task.goal, repr(env.task.setting)))
            expert = env.expert()
            while env.running:
                thought, action = expert.next_action(observation)
                assert len(thought) > 15
                observation, *_, info = env.step(action)
                assert "ERROR" not in observation
            assert info["success"], (split, task, env.task, observation)
            calls.setdefault((env.task.template, env.task.difficulty), set()).add(env.rounds - 1)
    assert (len(goals["train"]), len(goals["test"])) == (200, 20)
    assert not goals["train"] & goals["test"]
    assert len(calls) >= 10
    assert all(max(n) <= 3 for (_, difficulty), n in calls.items() if difficulty == "easy")
    assert all(max(n) > 3 for (_, difficulty), n in calls.items() if difficulty == "hard")
    assert {difficulty for _, difficulty in calls} == {"easy", "hard"}


@pytest.mark.parametrize("name", ANSWERING)
def test_a_wrong_answer_ends_without_success(name: str) -> None:
    env = _make(name)
    env.reset(options={"task": 1})
    observation, reward, terminated, _, info = env.step('finish with Action Input: {"answer": ["b", "a"]}')
    assert observation == "Observation: ['a', 'b']\nGive me one action."
    assert (reward, terminated, info["success"], info["faults"]) == (0, True, False, 0)


@pytest.mark.parametrize("name", NAMES)
def test_an_expert_takes_over_without_asking_twice(name: str) -> None:
    env = _make(name)
    for task in range(0, 60, 4):
        observation, _ = env.reset(options={"task": task})
        expert = env.expert()
        straight = []
        while env.running:
            straight.append(expert.next_action(observation)[1])
            observation = env.step(straight[-1])[0]
        observation, _ = env.reset(options={"task": task})
        for action in straight[:2]:
            observation = env.step(action)[0]
        if not env.running:
            continue
        env.step("check_valid_actions with Action Input: {}")
        rest = []
        while env.running:
            rest.append(env.expert().next_action(observation)[1])
            observation = env.step(rest[-1])[0]
        assert rest == straight[2:]


@pytest.mark.parametrize("name", NAMES)
def test_sessions_do_not_see_each_other(name: str) -> None:
    alone = []
    env = _make(name)
    for task in range(64):
        texts = [env.reset(options={"task": task})[0]]
        expert = env.expert()
        while env.running:
            texts.append(env.step(expert.next_action(texts[-1])[1])[0])
        alone.append(texts)
    sessions = [_make(name) for _ in range(64)]
    together = [[session.reset(options={"task": task})[0]] for task, session in enumerate(sessions)]
    rng = random.Random(4)
    while running := [i for i, session in enumerate(sessions) if session.running]:
        i = rng.choice(running)
        together[i].append(sessions[i].step(sessions[i].expert().next_action("")[1])[0])
    assert together == alone


_HOSTILE = st.sampled_from(
    [
        "'; DROP TABLE movie; --",
        '" OR 1=1 --',
        "%",
        "_",
        "=IMPORTXML(A1)",
        "=1+cmd|' /C calc'!A0",
        "../../etc/passwd",
        "{{7*7}}",
        "__import__('os').getcwd()",
        "\x00",
        "é漢🙂\u202e",
        "x" * 3000,
        "9" * 400,
        "2023-02-30",
        "A1",
        "2020-01-01",
    ]
)
_VALUES = st.recursive(
    _HOSTILE
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("name", NAMES)
def test_no_call_does_harm(name: str) -> None:
    """Any arguments, by type right or wrong: an observation in words, and the state as it was unless it succeeded."""
    env = _make(name, max_rounds=10**6)
    env.reset(options={"task": 3})
    tools = [tool for tool in map(env.toolbox.get, env.toolbox.names) if tool is not None and tool.name != "finish"]

    @settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        tool = data.draw(st.sampled_from(tools))
        arguments = {name: data.draw(_VALUES) for name in tool.parameters if data.draw(st.integers(0, 9))}
        if not data.draw(st.integers(0, 9)):
            arguments["extra"] = data.draw(_VALUES)
        before = env.snapshot()
        observation, reward, terminated, truncated, _ = env.step(format_call(tool.name, arguments))
        assert env.observation_space.contains(observation)
        assert len(observation) < 20_000
        assert observation.startswith("Observation: ") or observation == FORMAT_ERROR
        assert (terminated, truncated) == (False, False)
        if len(env.log) == len(before.inner[1]):
            assert reward == 0
            assert env.snapshot().inner == before.inner
        env.restore(before)

    run()


@pytest.mark.parametrize("name", ANSWERING)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("x" * 1_000_000, FORMAT_ERROR),
        ("[" * (MAX_CALL_CHARS - 100), "Parameters in action input are not valid"),
        ('{"answer": ' + "[" * 40 + "]" * 40 + "}", "nested deeper"),
        ("open('/etc/passwd').read()", "no JSON object"),
        ("{}", "answer: Field required"),
        ('{"answer": 1, "more": 2}', "more: Extra inputs are not permitted"),
    ],
    ids=lambda value: value[:20],
)
def test_arguments_that_cannot_be_read_are_explained(name: str, arguments: str, said: str) -> None:
    env = _make(name)
    env.reset()
    before = env.snapshot().inner
    observation = env.step(f"finish with Action Input: {arguments}")[0]
    assert said in observation
    assert env.snapshot().inner == before
    assert env.running


@pytest.mark.parametrize("name", NAMES)
def test_unknown_and_listed_actions(name: str) -> None:
    env = _make(name)
    env.reset()
    assert env.step("hack_it with Action Input: {}")[0].startswith("Observation: ERROR | Invalid action: hack_it.")
    listed = env.step("check_valid_actions with Action Input: {}")[0]
    assert listed == f"Observation: You can use following valid actions: {env.toolbox.names}\nGive me one action."
    assert env.step("finish")[0] == FORMAT_ERROR
