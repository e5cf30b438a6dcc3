"""Todo: actions and texts, generated tasks and experts, upstream's 155 tasks, isolation, fuzzing, the live backend."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import todoist_api_python._core.http_requests as todoist_requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_ray.errors import ConfigError, DataError, EnvironmentError
from envs.todo import env as todo_module
from envs.todo.env import TodoEnv
from envs.todo.live import KEY, TodoistBackend
from envs.tools import live
from envs.tools.grammar import format_call
from tests.envs.tools.calls import assert_answered, calls
from tests.envs.tools.server import Reply
from tests.envs.tools.todoist import Todoist, account
from tests.reference import reference

CHANGING = ("update_project", "complete_task", "update_task", "delete_task")


def _call(env: TodoEnv, name: str, **arguments: Any) -> str:
    return env.step(format_call(name, arguments))[0]


def _solve(env: TodoEnv, task: int, split: str) -> dict[str, Any]:
    observation, _ = env.reset(options={"task": task, "split": split})
    expert = env.expert()
    info: dict[str, Any] = {}
    while env.running:
        thought, action = expert.next_action(observation)
        assert 5 <= len(thought.split()) <= 60, thought
        observation, *_, info = env.step(action)
    return info


def test_a_right_answer_with_a_wrong_list_is_no_success() -> None:
    env = TodoEnv()
    task = next(n for n, t in enumerate(todo_module.generated().train) if t.template == "due_date")
    env.reset(options={"task": task})
    answer = env.task.answer.value
    start = env.snapshot()
    assert env.step(format_call("finish", {"answer": answer}))[4]["success"]
    env.restore(start)
    project = _projects(env)[0]["id"]
    assert "'is_favorite': True" in _call(env, "update_project", project_id=project, is_favorite="True")
    assert not env.step(format_call("finish", {"answer": answer}))[4]["success"]
    env.restore(start)
    assert not env.step(format_call("finish", {"answer": "1999-01-01"}))[4]["success"]


def _projects(env: TodoEnv) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = env._list.get_projects()
    return rows


def test_what_actions_return_and_refuse() -> None:
    env = TodoEnv()
    env.reset(options={"task": 0})
    project = _projects(env)[0]
    task = env._list.get_tasks(project["id"])[0]
    assert list(project) == ["id", "order", "color", "name", "is_favorite"]
    assert list(task) == ["id", "order", "content", "is_completed", "priority", "due_date"]
    same = f"'id': '{task['id']}', 'content': {task['content']!r}"
    assert f"{{{same}, 'description': '- Place: " in _call(env, "get_task_description", task_id=task["id"])
    assert "(minute)'}" in _call(env, "get_task_duration", task_id=int(task["id"]))
    assert _call(env, "get_tasks", project_id="12") == (
        "Observation: Project 12 does not exist; get_projects lists the ids.\nGive me one action."
    )
    for wrong in ("2024-13-01", "tomorrow", "20240101", "2024-01-01T00:00"):
        assert "is no date" in _call(env, "update_task", task_id=task["id"], due_date=wrong)
    assert "'due_date': '2031-01-02'" in _call(env, "update_task", task_id=task["id"], due_date="2031-01-02")
    assert "is_completed" not in _call(env, "complete_task", task_id=task["id"])
    assert "does not exist" in _call(env, "delete_task", task_id=task["id"])
    assert "due_date: Field required" in _call(env, "update_task", task_id=task["id"])


def test_64_sessions_do_not_see_each_other() -> None:
    sessions = [TodoEnv() for _ in range(64)]
    for env in sessions:
        env.reset(options={"task": 5})
    starts = {str(env._list.state()) for env in sessions}
    assert len(starts) == 1
    for n, env in enumerate(sessions):
        tasks = [task for project in _projects(env) for task in env._list.get_tasks(project["id"])]
        due = f"2040-01-{n % 28 + 1:02d}"
        assert due in _call(env, "update_task", task_id=tasks[n % len(tasks)]["id"], due_date=due)
    changed = [env._list.state() for env in sessions]
    assert all(sum(task["due_date"] > "2039" for task in state["tasks"]) == 1 for state in changed)
    before = [env.snapshot() for env in sessions]
    for env, state in zip(sessions, before[1:] + before[:1]):
        env.restore(state)
    assert [env._list.state() for env in sessions] == changed[1:] + changed[:1]


def test_any_call_is_answered() -> None:
    env = TodoEnv(max_rounds=10**6)
    env.reset(options={"task": 3})
    ids = [p["id"] for p in _projects(env)]
    ids += [task["id"] for project in list(ids) for task in env._list.get_tasks(project)]
    start = env.snapshot()

    @settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(action=calls(env, st.sampled_from([*ids, "True", "2030-01-01", "done"])))
    def run(action: str) -> None:
        if env.rounds % 25 == 0:
            env.restore(start)
        assert_answered(env, action, CHANGING)

    run()
    for action in ("x" * 1_000_000, format_call("get_tasks", {"project_id": "x" * 1_000_000}), "[" * 5000):
        assert_answered(env, action, CHANGING)
    deep = "get_tasks with Action Input: " + '{"project_id": ' + "[" * 2000 + "]" * 2000 + "}"
    assert_answered(env, deep, CHANGING)


# -- upstream's tasks -------------------------------------------------------------------------------------------------


def _replay(env: TodoEnv, task: int) -> bool:
    """Make the changes that the gold state shows, then finish with the gold answer."""
    env.reset(options={"task": task, "split": "test"})
    final = env.task.final
    wanted = {row["content"]: row for row in final["tasks"]}
    favorites = {row["name"]: row["is_favorite"] for row in final["projects"]}
    for project in _projects(env):
        if favorites[project["name"]] != project["is_favorite"]:
            _call(env, "update_project", project_id=project["id"], is_favorite="True")
        for row in env._list.get_tasks(project["id"]):
            if row["content"] not in wanted:
                _call(env, "complete_task" if task % 2 else "delete_task", task_id=row["id"])
            elif wanted[row["content"]]["due_date"] != row["due_date"]:
                _call(env, "update_task", task_id=row["id"], due_date=wanted[row["content"]]["due_date"])
    return bool(env.step(format_call("finish", {"answer": env.task.answer.value}))[4]["success"])


@reference("tools/todo.jsonl")
def test_all_155_tasks_of_upstream_are_solved_by_their_gold(path: str) -> None:
    env = TodoEnv(data=path)
    assert (env.card.n_train, env.card.n_test) == (0, 155)
    assert [task for task in range(155) if not _replay(env, task)] == []
    assert env.locate("todo_154") == ("test", 154)
    env.reset(options={"task": 1, "split": "test"})
    assert not env.step(format_call("finish", {"answer": "done"}))[4]["success"], "nothing was completed"
    env.reset(options={"task": 0, "split": "test"})
    assert "2015-05-31" in _call(env, "get_user_current_date")
    with pytest.raises(EnvironmentError, match="no expert for .*line 1"):
        env.expert()


def test_files_that_are_wrong_are_named(tmp_path: Path) -> None:
    row = {"goal": "g", "subgoals": ["a"], "additional_info": {"tool": "todo", "answer": {}}}
    (tmp_path / "todo.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match="holds neither todo_projects.json nor projects.json"):
        TodoEnv(data=tmp_path / "todo.jsonl")
    (tmp_path / "projects.json").write_text(json.dumps([{"name": "P", "tasks": [{"content": "x"}]}]))
    with pytest.raises(DataError, match=r"projects.json: field 0.tasks.0.description: Field required"):
        TodoEnv(data=tmp_path / "todo.jsonl")
    with pytest.raises(ConfigError, match="give both"):
        TodoEnv(projects=tmp_path / "projects.json")


# -- the live backend -------------------------------------------------------------------------------------------------


@pytest.fixture
def live_env(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TodoEnv, Todoist]]:
    monkeypatch.setenv(KEY, "secret")
    monkeypatch.setattr(live, "LONGEST_WAIT_S", 0.2)
    with account() as (todoist, client):
        monkeypatch.setattr(todo_module, "TodoistBackend", lambda world_of: TodoistBackend(world_of, client))
        yield TodoEnv(backend="live"), todoist


def test_experts_solve_tasks_on_the_live_service(live_env: tuple[TodoEnv, Todoist]) -> None:
    env, todoist = live_env
    for task in range(20):
        info = _solve(env, task, "test")
        assert info["success"], env.task.goal
        assert info["faults"] == 0
    assert {request.headers["authorization"] for request in todoist.requests} == {"Bearer secret"}
    posts = [request.headers["x-request-id"] for request in todoist.requests if request.method == "POST"]
    assert len(set(posts)) == len(posts)


def test_live_failures_are_observations_and_counted_faults(live_env: tuple[TodoEnv, Todoist]) -> None:
    env, todoist = live_env
    env.reset(options={"task": 0})
    for replies, said in (
        ([Reply({"error": "Forbidden"}, 401)], rf"Todoist refuses access (401): Forbidden; check {KEY}"),
        ([Reply({"error": "Limit"}, 429, {"Retry-After": "60"})], "Todoist answers 429: Limit; try again in 60 s"),
        ([Reply("x", 500, {"Retry-After": "0"})] * 3, "Todoist answers 500; try again later"),
        ([Reply("{", 200)], "sent an answer that cannot be read"),
        ([Reply({"results": [{"id": 1}]}, 200)], "sent an answer that cannot be read"),
        ([Reply([1], 200)], "sent an answer that cannot be read"),
    ):
        faults = env.snapshot().inner[2]
        todoist.failures = list(replies)
        observation, reward, terminated, _, info = env.step(format_call("get_projects", {}))
        assert said in observation
        assert (reward, terminated, info["faults"]) == (0, False, faults + 1)
    todoist.failures = [Reply({"error": "Limit"}, 429, {"Retry-After": "0"})]
    observation, *_, info = env.step(format_call("get_projects", {}))
    assert ("is_favorite" in observation, info["faults"]) == (True, 6)
    observation, *_, info = env.step(format_call("delete_task", {"task_id": "nosuch"}))
    assert ("answers 404: Task not found" in observation, info["faults"]) == (True, 6)
    for tool, name in (("delete_task", "task_id"), ("get_tasks", "project_id")):
        observation, *_, info = env.step(format_call(tool, {name: "../projects/6X0002"}))
        assert ("is no id" in observation, info["faults"]) == (True, 6)
    todoist.failures = [Reply("down", 501)]
    observation, _, terminated, _, info = env.step(format_call("finish", {"answer": env.task.answer.value}))
    assert ("answers 501" in observation, terminated, info["faults"]) == (True, False, 7), "no zero score"


def test_a_change_is_tried_again_under_one_request_id(live_env: tuple[TodoEnv, Todoist]) -> None:
    env, todoist = live_env
    env.reset(options={"task": 0})
    todoist.failures = [Reply("x", 503, {"Retry-After": "0"})]
    project = next(project for project in todoist.projects.values() if not project["inbox_project"])
    assert "'is_favorite': True" in _call(env, "update_project", project_id=project["id"], is_favorite="True")
    assert len({request.headers["x-request-id"] for request in todoist.requests[-2:]}) == 1


def test_timeouts_and_lost_connections(live_env: tuple[TodoEnv, Todoist], monkeypatch: pytest.MonkeyPatch) -> None:
    env, todoist = live_env
    env.reset(options={"task": 0})
    monkeypatch.setattr(todoist_requests, "TIMEOUT", 0.05)
    monkeypatch.setattr(todoist, "_list", lambda request, table: time.sleep(0.3))
    observation, *_, info = env.step(format_call("get_projects", {}))
    assert ("did not answer in time" in observation, info["faults"]) == (True, 1)


def test_an_account_in_use_is_left_alone(live_env: tuple[TodoEnv, Todoist]) -> None:
    env, todoist = live_env
    todoist.add_project({"name": "My life"})
    with pytest.raises(EnvironmentError, match="holds the project 'My life'"):
        env.reset(options={"task": 0})
    assert [request.method for request in todoist.requests] == ["GET", "GET"][: len(todoist.requests)]
    assert "My life" in {project["name"] for project in todoist.projects.values()}


def test_the_live_backend_needs_its_key_and_has_no_snapshots(
    live_env: tuple[TodoEnv, Todoist], monkeypatch: pytest.MonkeyPatch
) -> None:
    env, _ = live_env
    env.reset(options={"task": 0})
    with pytest.raises(EnvironmentError, match="cannot be put back"):
        env.restore(env.snapshot())
    monkeypatch.delenv(KEY)
    with pytest.raises(ConfigError, match=KEY):
        TodoistBackend(lambda task: todo_module._generated_world(task))
    with pytest.raises(ConfigError, match="backend is 'cloud'"):
        TodoEnv(backend="cloud")
