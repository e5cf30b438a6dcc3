"""Every registered environment keeps the contract; the registry and the checker say what is wrong when something is."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import envs as envs_package
from atlas_ray.environments import ContractError, TextEnv, card, check_env, make, names, option_names, register
from atlas_ray.environments import registry as registry_module
from atlas_ray.environments.contract import MAX_ACTION_CHARS, EnvironmentCard, Outcome, Split
from atlas_ray.errors import ConfigError, EnvironmentError

NAMES = names()
CHECKED: dict[str, list[dict[str, Any]]] = {
    "babyai": [{}, {"levels": ["UnlockLocalDist", "PutNextLocalS6N4", "OpenDoorsOrderN4Debug"]}],
    "maze": [{}, {"layout": "random"}],
    "textcraft": [{}, {"depths": [3]}],
    "wordle": [{"strict": True}],
}


@pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name in NAMES for options in CHECKED.get(name, [{}])], ids=str
)
def test_environment_keeps_the_contract(name: str, options: dict[str, Any]) -> None:
    check_env(name, tasks=range(3), seed=1, **options)


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_makes_it_without_warnings(name: str) -> None:
    assert envs_package.__name__ == "envs"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(f"atlas/{name}-v0", max_rounds=4)
        observation, info = env.reset(seed=3, options={"task": 1, "split": "test"})
        env.step("nothing")
    unwrapped = env.unwrapped
    assert isinstance(unwrapped, TextEnv)
    assert unwrapped.card.max_rounds == 4
    assert unwrapped.spec is not None
    assert observation
    assert info["split"] == "test"


_FINGERPRINT = """
import hashlib, sys
from atlas_ray.environments import make, names
digest = hashlib.sha256()
for name in names():
    env = make(name)
    for split in ("train", "test"):
        for task in (0, 7, 19):
            observation, _ = env.reset(seed=task, options={"task": task, "split": split})
            expert = env.expert()
            digest.update(observation.encode())
            for _ in range(4):
                if env.running:
                    thought, action = expert.next_action(observation)
                    digest.update(repr((thought, action, env.valid_actions())).encode())
                    observation = env.step(action)[0]
                    digest.update(observation.encode())
sys.stdout.write(digest.hexdigest())
"""


def test_texts_are_the_same_in_any_process() -> None:
    digests = set()
    for hash_seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run(
            [sys.executable, "-c", _FINGERPRINT], capture_output=True, text=True, env=environment, check=True
        )
        assert len(run.stdout) == 64, "something else was printed"
        digests.add(run.stdout)
    assert len(digests) == 1


_VERBS = ("get", "craft", "inventory", "move", "go", "turn", "pick", "drop", "toggle")
_texts = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "So", "Nd"]), max_size=20),
    st.sampled_from(_VERBS).flatmap(lambda verb: st.text(max_size=30).map(lambda rest: f"{verb} {rest}")),
    st.integers(MAX_ACTION_CHARS - 2, MAX_ACTION_CHARS + 2).map(lambda n: "get 1 " + "x" * (n - 6)),
)


@pytest.mark.parametrize("name", NAMES)
def test_any_text_is_answered(name: str) -> None:
    env = make(name, max_rounds=10**6)
    env.reset(options={"task": 2, "split": "train"})

    @settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(action=_texts)
    def run(action: str) -> None:
        before = env.snapshot()
        observation, reward, terminated, truncated, info = env.step(action)
        assert 0 < len(observation) < 20_000
        assert env.observation_space.contains(observation)
        assert not truncated
        assert 0 <= info["score"] <= 1
        if not action.strip().lower().startswith(_VERBS) and "".join(action.split()) not in "".join(_words(env)):
            assert (reward, terminated) == (0, False)
            assert env.snapshot().inner == before.inner
        if terminated:
            env.restore(before)

    run()


def _words(env: TextEnv) -> list[str]:
    return [action.replace(" ", "") for action in env.valid_actions()]


@pytest.mark.parametrize("name", NAMES)
def test_a_start_that_is_refused_keeps_the_running_episode(name: str) -> None:
    env = make(name)
    env.reset(options={"task": 0})
    with pytest.raises(EnvironmentError, match=rf"{name}: split 'test' has no task {10**7}; its tasks are 0 to \d+"):
        env.reset(options={"task": 10**7, "split": "test"})
    assert env.running
    env.step("nothing")


def test_unknown_names_and_options_are_named() -> None:
    with pytest.raises(ConfigError, match=f"no environment 'maz'; choose one of {', '.join(NAMES)}"):
        make("maz")
    with pytest.raises(ConfigError, match="'maze' has no option 'size'; it takes layout, max_rounds"):
        make("maze", size=3)
    with pytest.raises(ConfigError, match="max_rounds is 0"):
        make("maze", max_rounds=0)
    assert option_names("atlas/wordle-v0") == ["max_rounds", "strict", "vocabulary"]
    assert card("babyai", levels=[1, 2]).n_test == 200
    with pytest.raises(ConfigError, match="already registered"):
        register("maze", "somewhere:Else")


# -- the checker finds what is broken ---------------------------------------------------------------------------------


class _Expert:
    def __init__(self, env: Toy) -> None:
        self._env = env

    def next_action(self, observation: str) -> tuple[str, str]:
        return "The target is higher, so I add one.", "add" if self._env.total < 3 else "stop"


class Toy(TextEnv):
    """Add up to three, then stop."""

    def __init__(self, *, max_rounds: int | None = None) -> None:
        super().__init__(
            EnvironmentCard(
                name="toy",
                held_in=False,
                metric="progress_rate",
                max_rounds=8,
                instruction="Add up to three. Answer with Thought: and Action:.",
                n_train=4,
                n_test=2,
                source="this test",
                action_rule="last",
            ),
            max_rounds=max_rounds,
        )
        self.total = 0

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        self.total = 0
        return f"{split} {task}: the total is 0."

    def _act(self, action: str) -> Outcome:
        if action == "add":
            self.total += 1
        done = action == "stop" and self.total == 3
        return Outcome(f"The total is {self.total}.", min(1.0, self.total / 3), done, done)

    def valid_actions(self) -> list[str]:
        return ["add", "stop"] if self.running else []

    def expert(self) -> _Expert:
        return _Expert(self)

    def _save(self) -> int:
        return self.total

    def _load(self, inner: int) -> None:
        self.total = inner


class Forgetful(Toy):
    def _load(self, inner: int) -> None:
        self.total = max(0, inner - 1)


class Random(Toy):
    def _start(self, task: int, split: Split, seed: int | None) -> str:
        return super()._start(task, split, seed) + str(random.random())


class Unsorted(Toy):
    def valid_actions(self) -> list[str]:
        return super().valid_actions()[::-1]


class Clueless(Toy):
    def expert(self) -> Any:
        return type("E", (), {"next_action": lambda self, observation: ("I do not know.", "wait")})()


class Fragile(Toy):
    def _act(self, action: str) -> Outcome:
        if not action.isascii():
            self.total += 1
        return super()._act(action)


class Greedy(Toy):
    def _act(self, action: str) -> Outcome:
        return super()._act(action)._replace(score=2.0)


class Silent(Toy):
    def _act(self, action: str) -> Outcome:
        return super()._act(action)._replace(observation="")


@pytest.fixture
def registered(request: pytest.FixtureRequest) -> Iterator[None]:
    registry_module.register("toy", f"{__name__}:{request.param}")
    yield
    del registry_module._ENTRY_POINTS["toy"], gymnasium.registry["atlas/toy-v0"]


@pytest.mark.parametrize("registered", ["Toy"], indirect=True)
def test_a_sound_environment_passes(registered: None) -> None:
    check_env("toy")
    assert "toy" in names()


@pytest.mark.parametrize(
    ("registered", "clause"),
    [
        ("Forgetful", "snapshots|valid actions"),
        ("Random", "determinism .*two resets"),
        ("Unsorted", "not sorted"),
        ("Clueless", "expert: it solves 0 of 3 training tasks"),
        ("Fragile", "changed the"),
        ("Greedy", r"score 2.0 is not in \[0, 1\]"),
        ("Silent", "observation '' is not a text"),
    ],
    indirect=["registered"],
)
def test_the_check_names_the_broken_clause(registered: None, clause: str) -> None:
    with pytest.raises(ContractError, match=clause):
        check_env("toy")


def test_entry_points_of_other_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    point = type("Point", (), {"name": "toy", "value": f"{__name__}:Toy"})()
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [point] if "environments" in group else [])
    registry_module._discover.cache_clear()
    try:
        assert "toy" in names()
        assert isinstance(make("toy"), Toy)
    finally:
        del registry_module._ENTRY_POINTS["toy"], gymnasium.registry["atlas/toy-v0"]
