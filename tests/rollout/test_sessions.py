"""Sessions: steps by agent and person, undo, limits, expiry; on real environments, without Ray."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from atlas_ray.config import RolloutConfig
from atlas_ray.environments import registry
from atlas_ray.rollout.player import ModelSpec
from atlas_ray.rollout.server import EnvironmentServer
from atlas_ray.rollout.sessions import Refusal, Sessions
from tests.plugin.faulty import FaultyEnv


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def table(clock):
    return Sessions(limit=3, idle_s=60, clock=clock)


def opened(table, **options):
    view = table.open("textcraft", 0, "train", None, "llm", options)
    assert isinstance(view, dict), view
    return view


def expert_actions():
    env = registry.make("textcraft")
    observation, _ = env.reset(options={"task": 0})
    expert = env.expert()
    while env.running:
        thought, action = expert.next_action(observation)
        yield thought, action
        observation = env.step(action)[0]


def test_agent_and_person_play_in_turn_and_the_model_sees_one_conversation(table):
    view = opened(table)
    for turn, (thought, action) in enumerate(expert_actions()):
        if turn % 2:
            view = table.step(view["id"], action)
        else:
            messages = table.think(view["id"], 30)
            assert len(messages) == 3 + 2 * turn
            assert [m["role"] for m in messages][-1] == "user"
            view = table.reply(view["id"], f"Thought: {thought}\nAction: {action}")
    assert view["success"]
    assert view["over"]
    assert view["score"] == 1
    assert {r["by"] for r in view["rounds"]} == {"agent", "person"}
    assert table.step(view["id"], "inventory") == Refusal(
        409, "the episode is over; undo a step, or open another session"
    )


def test_thinking_is_neither_played_nor_shown_again(table):
    view = opened(table)
    for text in ("<think>\nAction: look\n</think>\n\nAction: inventory", "Action: look\n</think>\nAction: inventory"):
        table.think(view["id"], 30)
        view = table.reply(view["id"], text)
        assert (view["rounds"][-1]["action"], view["rounds"][-1]["text"]) == ("inventory", "Action: inventory")
    assert "look" not in str(table.think(view["id"], 30)[3:])


def test_undo_goes_back_to_the_first_observation_and_the_episode_can_be_won_again(table):
    identity = opened(table)["id"]
    before = table.view(identity)
    actions = [action for _, action in expert_actions()]
    for action in actions:
        table.step(identity, action)
    for _ in actions:
        view = table.undo(identity)
    assert view == before
    assert table.undo(identity).status == 409
    for action in actions:
        view = table.step(identity, action)
    assert view["success"]


def test_a_reply_without_an_action_is_a_round_and_the_cap_ends_the_episode(table):
    view = opened(table, max_rounds=2)
    for _ in range(2):
        table.think(view["id"], 30)
        view = table.reply(view["id"], "I would rather not.")
    assert view["rounds"][0]["action"] is None
    assert view["rounds"][0]["observation"].startswith("Error:")
    assert view["over"]
    assert not view["success"]


def test_while_the_agent_thinks_nobody_else_acts(table, clock):
    identity = opened(table)["id"]
    table.think(identity, 30)
    for call in (
        lambda: table.step(identity, "inventory"),
        lambda: table.think(identity, 30),
        lambda: table.undo(identity),
    ):
        assert call().status == 409
    clock.now = 31  # the one who asked for it is gone
    assert table.step(identity, "inventory")["rounds"]
    table.think(identity, 30)
    table.release(identity)
    assert table.reply(identity, "Action: inventory").status == 410


def test_limits_expiry_and_unknown_names(table, clock):
    first = opened(table)["id"]
    opened(table), opened(table)
    assert table.open("textcraft", 0, "train", None, "llm", {}).status == 429
    clock.now = 61
    assert len(opened(table)["id"]) > 8  # the three idle ones have made room
    assert len(table) == 1
    assert table.view(first).status == 404
    assert table.close(first).status == 404
    assert table.open("chess", 0, "train", None, "llm", {}).status == 422
    assert "no task 10000000" in table.open("textcraft", 10**7, "train", None, "llm", {}).message
    assert table.open("textcraft", 0, "train", None, "llm", {"depths": "x"}).status == 422


def test_sessions_do_not_see_each_other(table):
    one, two = opened(table)["id"], opened(table)["id"]
    actions = [action for _, action in expert_actions()]
    table.step(one, actions[0])
    assert table.view(two)["rounds"] == []
    table.close(one)
    assert opened(table)["rounds"] == []


def test_an_environment_that_hangs_or_raises_ends_its_own_session_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(registry._CLASSES, "faulty", "tests.plugin.faulty:FaultyEnv")
    server = EnvironmentServer(ModelSpec(), RolloutConfig(call_deadline_s=5.0, memory_gib=1000), 3, 600.0)

    async def opened(task):
        options = {"folder": str(tmp_path)}
        return (await server.session("open", "faulty", task, "train", None, "llm", options))["id"]

    async def story():
        stuck, well, broken = [await opened(task) for task in (3, 4, 5)]
        for session in (stuck, well):
            await server.session("step", session, "add 1")
        (tmp_path / "hang-3").touch()
        hanging = asyncio.create_task(server.session("step", stuck, "add 1"))
        while not list(tmp_path.glob("trace-3-1-*")):
            await asyncio.sleep(0.01)
        assert len((await server.session("step", well, "add 1"))["rounds"]) == 2
        assert not hanging.done()
        assert await hanging == Refusal(410, "the session is lost: its environment did not return within 5 s")
        (tmp_path / "hang-3").unlink()
        assert (await server.session("view", stuck)).status == 404
        monkeypatch.setattr(FaultyEnv, "_act", lambda self, action: 1 / 0)
        lost = await server.session("step", broken, "add 1")
        assert lost.status == 410
        assert "ZeroDivisionError" in lost.message
        assert (await server.session("view", broken)).status == 404
        assert len((await server.session("view", well))["rounds"]) == 2

    asyncio.run(story())


def test_calls_of_one_session_from_many_threads_are_played_one_after_the_other():
    table = Sessions(limit=2)
    identity = opened(table, max_rounds=40)["id"]
    with ThreadPoolExecutor(16) as pool:
        views = list(pool.map(lambda _: table.step(identity, "inventory"), range(40)))
    assert sorted(len(view["rounds"]) for view in views) == list(range(1, 41))
    assert table.step(identity, "inventory").status == 409
