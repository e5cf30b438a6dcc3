"""Sheet's live backend against a local server that plays Google's APIs, and fails as they are known to fail."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atlas_ray.errors import ConfigError, EnvironmentError
from envs.sheet import env as sheet_module
from envs.sheet import live as sheet_live
from envs.sheet.env import SheetEnv
from envs.sheet.live import KEY_FILE, GoogleSheets
from envs.tools import live
from envs.tools.grammar import format_call
from tests.envs.tools.google import Google, drive
from tests.envs.tools.server import Reply
from tests.reference import reference


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    monkeypatch.setattr(live, "LONGEST_WAIT_S", 0.2)
    with drive() as (google, client):
        monkeypatch.setattr(sheet_module, "GoogleSheets", lambda workbook_of: GoogleSheets(workbook_of, client))
        yield google


def _play(env: SheetEnv, twin: SheetEnv, task: int, split: str) -> dict[str, Any]:
    """The expert's episode; the live backend answers as the offline one does."""
    observation, _ = env.reset(options={"task": task, "split": split})
    twin.reset(options={"task": task, "split": split})
    expert = env.expert()
    info: dict[str, Any] = {}
    while env.running:
        _, action = expert.next_action(observation)
        observation, *_, info = env.step(action)
        offline = twin.step(action)[0]
        if not action.startswith("open_sheet"):
            assert observation == offline, action
    return info


def test_experts_solve_tasks_on_the_live_service(account: Google) -> None:
    env, twin = SheetEnv(backend="live"), SheetEnv()
    for task in range(15):
        info = _play(env, twin, task, "test")
        assert (info["success"], info["faults"]) == (True, 0), env.task.goal
        assert len(account.files) == 1, "the spreadsheet of the episode before is deleted"


@reference("tools/sheet.jsonl")
def test_references_of_upstream_on_the_live_service(path: str, account: Google) -> None:
    env, twin = SheetEnv(data=path, backend="live"), SheetEnv(data=path)
    for task in (3, 8, 14):
        assert _play(env, twin, task, "test")["score"] == 1.0


def test_live_failures_are_observations_and_counted_faults(account: Google) -> None:
    env = SheetEnv(backend="live")
    env.reset(options={"task": 0})
    name = env.task.parameters["sheet"]
    table = env.step(format_call("open_sheet", {"name": name}))[0] and env.step(format_call("get_all_values", {}))[0]
    limit = {"error": {"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED"}}
    for replies, said in (
        (
            [Reply({"error": {"code": 401, "message": "No key"}}, 401)],
            f"refuses access (401): No key; check {KEY_FILE}",
        ),
        ([Reply(limit, 429, {"Retry-After": "60"})], "answers 429: Quota exceeded; try again in 60 s"),
        ([Reply("oops", 500)], "answers 500; the change may have been made, read the sheet"),
        ([Reply("{", 200)], "gave no answer that can be used"),
    ):
        faults = env.snapshot().inner[2]
        account.failures = list(replies)
        action = format_call("update_cell", {"position": "A1", "value": "x"})
        observation, reward, terminated, _, info = env.step(action)
        assert said in observation
        assert (reward, terminated, info["faults"]) == (0, False, faults + 1)
    account.failures = [Reply(limit, 429, {"Retry-After": "0"})]
    changed = env.step(format_call("update_cell", {"position": "A1", "value": "x"}))[0]
    assert changed == table.replace(env._store.table()[0][0], "x", 1) or "'x'" in changed  # type: ignore[index]
    # A change that was made, and then the sheet cannot be read.
    account.failures = []
    values = account._values
    account._values = lambda request, sheets, address: (  # type: ignore[method-assign]
        {"values": 3} if request.method == "GET" else values(request, sheets, address)
    )
    observation, *_, info = env.step(format_call("update_cell", {"position": "A1", "value": "y"}))
    assert ("Changes up to here were made" in observation, info["faults"]) == (True, 5)
    observation, _, terminated, _, info = env.step(format_call("finish", {}))
    assert (terminated, info["faults"]) == (False, 6), "no zero score"
    account._values = values  # type: ignore[method-assign]
    assert "'y'" in env.step(format_call("get_all_values", {}))[0]
    observation, *_, info = env.step(format_call("update_cell", {"position": "Z9999", "value": "y"}))
    assert ("exceeds grid limits" in observation, info["faults"]) == (True, 6)
    account.files.clear()
    observation, *_, info = env.step(format_call("update_note", {"position": "A1", "content": "n"}))
    assert ("answers 404: Requested entity was not found" in observation, info["faults"]) == (True, 6)


def test_reads_are_tried_again(account: Google) -> None:
    env = SheetEnv(backend="live")
    env.reset(options={"task": 0})
    account.failures = [Reply("x", 500, {"Retry-After": "0"}), Reply("x", 503, {"Retry-After": "0"})]
    name = env.task.parameters["sheet"]
    observation, *_, info = env.step(format_call("open_sheet", {"name": name}))
    assert (f"<Worksheet '{name}'" in observation, info["faults"]) == (True, 0)


def test_timeouts(account: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet_live, "TIMEOUT_S", 1.0)
    env = SheetEnv(backend="live")
    env.reset(options={"task": 0})
    monkeypatch.setattr(account, "_values", lambda *_: time.sleep(1.5) or {})
    observation, *_, info = env.step(format_call("open_sheet", {"name": env.task.parameters["sheet"]}))
    assert ("did not answer in time" in observation, info["faults"]) == (True, 1)
    assert "Please open a sheet" in env.step(format_call("get_all_values", {}))[0]


def test_the_key_file_comes_from_the_environment_and_there_are_no_snapshots(
    account: Google, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env = SheetEnv(backend="live")
    env.reset(options={"task": 0})
    with pytest.raises(EnvironmentError, match="cannot be put back"):
        env.restore(env.snapshot())
    monkeypatch.undo()
    monkeypatch.delenv(KEY_FILE, raising=False)
    with pytest.raises(ConfigError, match=KEY_FILE):
        SheetEnv(backend="live")
    (tmp_path / "key.json").write_text("{}")
    monkeypatch.setenv(KEY_FILE, str(tmp_path / "key.json"))
    with pytest.raises(ConfigError, match="is no key file of a service account"):
        SheetEnv(backend="live")
