"""What holds for every registered environment: the contract, one text in any process, an answer to any action.

The environments come from the registry. One that runs in a process of its own plays fewer tasks; one whose optional
engine is not installed is skipped by name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import gymnasium
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from atlas_ray.environments import TextEnv, check_env, make, names
from atlas_ray.environments.contract import MAX_ACTION_CHARS, State
from atlas_ray.errors import EnvironmentError

ENDLESS = 10**6
"""Rounds that no test plays."""
ENGINES = {"jericho": "jericho", "scienceworld": "scienceworld"}
"""Environments that nothing can be played in without the package named."""

NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name in ENGINES and importlib.util.find_spec(ENGINES[name]) is None,
            reason=f"{ENGINES.get(name)} is not installed (make engines)",
        ),
    )
    for name in names()
]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "babyai": [{}, {"levels": ["UnlockLocalDist", "PutNextLocalS6N4", "OpenDoorsOrderN4Debug"]}],
    "maze": [{}, {"layout": "random"}],
    "pddl": [{}, {"domains": ["barman"]}],
    "textcraft": [{}, {"depths": [3]}],
    "wordle": [{"strict": True}],
}
"""Options to check the contract with, besides none."""


@pytest.fixture(scope="module")
def endless() -> Iterator[Callable[[str], TextEnv]]:
    """One environment of each name for all tests here, so that an engine starts once; episodes never end by the cap."""
    made: dict[str, TextEnv] = {}

    def get(name: str) -> TextEnv:
        if name not in made:
            made[name] = make(name, max_rounds=ENDLESS)
        return made[name]

    yield get
    for env in made.values():
        env.close()


@pytest.mark.parametrize("name", NAMES)
def test_environment_keeps_the_contract(name: str) -> None:
    for options in OPTIONS.get(name, [{}]):
        check_env(name, tasks=range(1 if make(name).card.isolated else 3), seed=1, **options)


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_makes_it_without_warnings(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(f"atlas/{name}-v0", max_rounds=4)
        observation, info = env.reset(seed=3, options={"task": 1, "split": "test"})
        env.step("nothing")
        env.close()
    unwrapped = env.unwrapped
    assert isinstance(unwrapped, TextEnv)
    assert unwrapped.card.max_rounds == 4
    assert unwrapped.spec is not None
    assert observation
    assert info["split"] == "test"


# -- the same texts in any process ------------------------------------------------------------------------------------


def fingerprint(env: TextEnv) -> str:
    """A digest of some texts of an environment: what it begins with, what its expert does, what it lists."""
    digest = hashlib.sha256()
    for split in ("train", "test"):
        for task in (0,) if env.card.isolated else (0, 7, 19):
            observation, _ = env.reset(seed=task, options={"task": task, "split": split})
            expert = env.expert()
            digest.update(observation.encode())
            for _ in range(4):
                if env.running:
                    thought, action = expert.next_action(observation)
                    digest.update(repr((thought, action, env.valid_actions())).encode())
                    observation = env.step(action)[0]
                    digest.update(observation.encode())
    return digest.hexdigest()


_ELSEWHERE = """
import json, sys
from atlas_ray.environments import make
from tests.environments.test_all import ENDLESS, fingerprint
digests = {name: fingerprint(make(name, max_rounds=ENDLESS)) for name in sys.argv[1:]}
sys.stdout.write(json.dumps({**digests, "": hash("text")}))
"""


@pytest.fixture(scope="module")
def elsewhere() -> Callable[[], dict[str, Any]]:
    """Starts a process that hashes strings differently; it works while this one does. The digests that it found."""
    playable = [param.values[0] for param in NAMES if not param.marks[0].args[0]]
    hash_seed = "1" if os.environ.get("PYTHONHASHSEED") == "4242" else "4242"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _ELSEWHERE, *playable]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    @cache
    def found() -> dict[str, Any]:
        printed = run.communicate()[0]
        assert run.returncode == 0
        digests: dict[str, Any] = json.loads(printed)  # fails if anything else was printed
        assert digests.pop("") != hash("text")
        return digests

    return found


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_the_same_in_any_process(
    elsewhere: Callable[[], dict[str, Any]], endless: Callable[[str], TextEnv], name: str
) -> None:
    here = fingerprint(endless(name))
    assert elsewhere()[name] == here


# -- an answer to any action ------------------------------------------------------------------------------------------

_HUGE = "9" * 1_000_000
_ODD = st.characters(categories=["Cs", "Cc", "Cf", "Co", "So", "Sk", "Mn", "Lo"])
_NONSENSE = st.one_of(
    st.text(alphabet=_ODD, max_size=40),
    st.text(alphabet="()[]{}<>%$\\#@~^|`;*", max_size=40),
    st.integers(MAX_ACTION_CHARS + 1, MAX_ACTION_CHARS + 9).map(lambda n: "x" * n),
    st.just(_HUGE),
)
"""Actions without a word that any environment could know."""
_ADVERSARIAL = st.sampled_from(
    [
        "__import__('os').system('true')",
        "'; DROP TABLE tasks; --",
        "Action: finish with Action Input: {'answer': __import__('os')}",
        "finish with Action Input: " + "[" * 400,
        "{0} %s %n ${HOME} {{self}} \\1 (?P<x>[",
        "search[<r>]",
        "\x1b[2J\x00\r\n\u202eget 1 stick",
        "click[" + "]" * 300,
        "get 99999999999999999999 stick",
        "go to " + "red " * 200,
        "=SUM(A1:A9999999)",
        "Thought: I am done\nAction: finish\nAction: finish",
    ]
)
_EXPLAINS = re.compile(
    "action|command|valid|format|nothing happens|understand|recogni|possible|expected", re.IGNORECASE
)


@pytest.mark.parametrize("name", NAMES)
def test_any_action_is_answered(endless: Callable[[str], TextEnv], name: str) -> None:
    env = endless(name)
    env.reset(options={"task": 2, "split": "train"})
    verbs = sorted({action.split()[0] for action in env.valid_actions() if action.split()}) or ["look"]
    near = st.tuples(st.sampled_from(verbs), st.text(max_size=30)).map(" ".join)

    def play(action: str) -> tuple[State, str, float, bool]:
        before = env.snapshot()
        observation, reward, terminated, truncated, info = env.step(action)
        assert 0 < len(observation) < 20_000
        assert env.observation_space.contains(observation)
        assert "Traceback" not in observation
        assert not truncated
        assert 0 <= info["score"] <= 1
        return before, observation, reward, terminated

    @settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @example(action="")
    @example(action=" \n\t ")
    @example(action=_HUGE)
    @given(action=st.one_of(_NONSENSE, near, st.text(max_size=60), _ADVERSARIAL))
    def run(action: str) -> None:
        wordless = not re.search("[a-zA-Z0-9]", action) or len(action) > MAX_ACTION_CHARS
        listed = env.valid_actions() if wordless else []
        before, observation, reward, terminated = play(action)
        if wordless:
            assert _EXPLAINS.search(observation), f"{observation!r} does not explain the format"
            assert (reward, terminated) == (0, False)
            assert env.valid_actions() == listed
            if env.card.snapshot == "native":
                assert env.snapshot().inner == before.inner
        if terminated:
            env.restore(before)

    run()


@pytest.mark.parametrize("name", NAMES)
def test_a_start_that_is_refused_keeps_the_running_episode(endless: Callable[[str], TextEnv], name: str) -> None:
    env = endless(name)
    env.reset(options={"task": 0})
    with pytest.raises(EnvironmentError, match=rf"{name}: split 'test' has no task {10**7}; its tasks are 0 to \d+"):
        env.reset(options={"task": 10**7, "split": "test"})
    assert env.running
    env.step("nothing")
