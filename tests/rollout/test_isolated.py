"""Environments with processes of their own: never more than the memory holds, whoever waits. Real processes."""

from __future__ import annotations

import threading
import time

import psutil
import pytest

from atlas_ray.environments import EnvironmentCard, Outcome, TextEnv, registry
from atlas_ray.environments.process import EngineProcess
from atlas_ray.rollout.episode import EpisodeRecorder
from atlas_ray.rollout.isolated import Isolated
from atlas_ray.rollout.policy import PolicyTurn
from atlas_ray.rollout.server import _Slot
from atlas_ray.rollout.sessions import Refusal, Sessions
from atlas_ray.rollout.spec import EpisodeSpec

CARD = EnvironmentCard(
    name="apart", held_in=True, metric="success_rate", max_rounds=9, instruction="Count.", n_train=99, n_test=0,
    source="tests", action_rule="last", process_mib=300,
)  # fmt: skip


class ApartEnv(TextEnv):
    """Counts to three in a process of its own."""

    def __init__(self, *, first: int = 0) -> None:
        super().__init__(CARD)
        self.engine = EngineProcess("tests.environments.test_process:Counter", first)

    def _start(self, task, split, seed):
        self.engine.start()
        return f"Task {task}."

    def _act(self, action):
        self.engine.call("sleep", 0.05)
        done = self.rounds == 2
        return Outcome(f"Process {self.engine.pid}.", float(done), done, done)

    def close(self):
        self.engine.close()

    def _save(self):
        return None

    def _load(self, inner):
        pass

    def expert(self):
        raise NotImplementedError


class Adder:
    def reply(self, unheard, seconds):
        return PolicyTurn("Thought: one more\nAction: add")


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(registry._CLASSES, "apart", f"{__name__}:ApartEnv")


def spec(task, **options):
    return EpisodeSpec(model="m", model_key="k", env="apart", task=task, split="train", seed=0, options=options)


def children():
    return [it for it in psutil.Process().children() if any("environments.process" in part for part in it.cmdline())]


def test_eight_slots_share_the_three_processes_that_the_memory_holds():
    before = len(children())
    isolated = Isolated(1.0, own=lambda: 100 * 2**20)  # 924 MiB are left for processes of 300 MiB
    slots = [_Slot(isolated) for _ in range(8)]
    futures = [slot.submit(spec(task), lambda env, it: Adder(), EpisodeRecorder()) for task, slot in enumerate(slots)]
    most = 0
    while not all(future.done() for future in futures):
        most = max(most, len(children()) - before)
        time.sleep(0.01)
    episodes = [future.result(timeout=30) for future in futures]
    assert [episode.error for episode in episodes] == [None] * 8
    assert all(episode.success and episode.seconds < 30 for episode in episodes)
    assert len({episode.messages[-1].content for episode in episodes}) == most == 3
    other = slots[0].submit(spec(0, first=5), lambda env, it: Adder(), EpisodeRecorder()).result(timeout=30)
    assert other.success
    assert len(children()) - before == 3  # an idle one made room
    for _, env in isolated._idle:
        env.close()


def test_one_at_a_time_where_the_memory_is_too_small_and_one_that_hangs_is_given_up():
    isolated = Isolated(0.1, own=lambda: 2**40)
    hung, waiting = registry.make("apart"), registry.make("apart")
    assert isolated.take("a", "apart", hung) is hung
    hung.reset()
    assert isolated.take("b", "apart", waiting) is None
    found = []
    thread = threading.Thread(target=lambda: found.append(isolated.borrow("b", "apart", waiting)))
    thread.start()
    isolated.give_back("a", keep=False)
    thread.join(timeout=10)
    assert found == [waiting]
    assert hung.engine.pid is None
    isolated.give_back("a", keep=True)  # it returned after all, and is not lent again
    assert isolated.take("c", "apart", registry.make("apart")) is None


def test_sessions_beyond_the_memory_are_refused_until_one_is_closed_or_lost():
    before = len(children())
    isolated = Isolated(1.0, own=lambda: 400 * 2**20)  # room for two
    table = Sessions(limit=9, isolated=isolated)

    def opened():
        return table.open("apart", 0, "train", None, "llm", {})

    first, second = opened(), opened()
    refused = opened()
    assert isinstance(refused, Refusal)
    assert refused.status == 429
    assert "does not hold another apart process" in refused.message
    assert table.close(first["id"]) is None
    again = table.step(opened()["id"], "add")
    assert again["rounds"][0]["observation"].startswith("Process ")  # the process of the first
    assert len(children()) - before == 2
    table.drop(second["id"], "it hangs")
    assert len(children()) - before == 1
    table.close(again["id"])
    table.forget_idle()
    assert len(children()) == before


def test_a_session_that_could_not_be_opened_leaves_its_place(monkeypatch):
    isolated = Isolated(0.1, own=lambda: 2**40)
    sessions = Sessions(4, 60.0, isolated=isolated)
    monkeypatch.setattr(ApartEnv, "_start", lambda self, task, split, seed: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sessions.open("apart", 0, "train", None, "llm", {})
    env = registry.make("apart")
    assert isolated.take("a", "apart", env) is env  # where there is room for one alone
