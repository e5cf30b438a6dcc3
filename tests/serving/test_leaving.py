"""Clients that break off: nothing of theirs stays held, at whatever moment they go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import psutil
import pytest

from tests.processes import environment_servers
from tests.serving.conftest import events, until

TASKS = count(100)
"""Tasks of `faulty`, a new one for every session: its files are named after it."""


@contextmanager
def asked(served, path: str, body: object = None) -> Iterator[None]:
    """A request under way for as long as the block lasts; then its client breaks off."""
    content = json.dumps(body) if body else ""
    with served.connect() as wire:
        head = f"POST /v1/agent/sessions{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json"
        wire.sendall(f"{head}\r\nContent-Length: {len(content)}\r\n\r\n{content}".encode())
        yield
    for _ in range(3):  # by the time that others are answered it is known that this client has gone
        assert served.http.get("/health").status_code == 200


@contextmanager
def holding(file) -> Iterator[None]:
    """The environment waits as long as there is this file."""
    file.touch()
    try:
        yield
    finally:
        file.unlink()


def arrival() -> Callable[[], None]:
    """Waits until one call more than now is at the environment server, where each has a thread."""
    [server] = environment_servers()
    before = psutil.Process(server).num_threads()
    return lambda: until(lambda: psutil.Process(server).num_threads() > before)


@pytest.fixture
def opened(served) -> Iterator[Callable[[], tuple[str, int]]]:
    """Opens a session whose second step can be held, and returns it and its task; all are closed at the end."""
    sessions: list[str] = []

    def one() -> tuple[str, int]:
        task = next(TASKS)
        sessions.append(served.open(environment="faulty", task=task)["id"])
        assert act_as_a_person(served, sessions[-1])
        return sessions[-1], task

    yield one
    for session in sessions:
        assert served.call(session, "DELETE").status_code == 204


def act_as_a_person(served, session: str) -> bool:
    """Play a step; whether nobody else has reserved the session."""
    answer = served.call(session, "POST", "/step", json={"action": "add 1"})
    assert answer.status_code in (200, 409), answer.text
    return answer.status_code == 200


def room(served) -> int:
    """How many more sessions the service takes."""
    more = []
    while (answer := served.http.post("/v1/agent/sessions", json={"environment": "wordle"})).status_code == 201:
        more.append(answer.json()["id"])
    for session in more:
        served.call(session, "DELETE")
    return len(more)


def test_a_reservation_that_is_made_after_its_client_has_gone_is_ended(served, opened):
    session, task = opened()
    with holding(served.faults / f"hang-{task}"), asked(served, f"/{session}/step", {"action": "add 1"}):
        until(lambda: any(served.faults.glob(f"trace-{task}-1-*")))
        arrived = arrival()
        with asked(served, f"/{session}/act"):
            arrived()
    until(lambda: act_as_a_person(served, session))


def test_a_session_that_is_opened_after_its_client_has_gone_is_closed(served):
    before, task = room(served), next(TASKS)
    with holding(served.faults / f"late-{task}"):
        arrived = arrival()
        with asked(served, "", {"environment": "faulty", "task": task}):
            arrived()
        assert room(served) == before - 1
    until(lambda: room(served) == before)


def test_a_step_whose_client_has_gone_is_played(served, opened):
    session, task = opened()
    with holding(served.faults / f"hang-{task}"), asked(served, f"/{session}/step", {"action": "add 1"}):
        until(lambda: any(served.faults.glob(f"trace-{task}-1-*")))
    until(lambda: len(served.call(session, "GET").json()["rounds"]) == 2)
    assert act_as_a_person(served, session)


@pytest.mark.parametrize("last", ["token", "step"])
def test_a_run_that_nobody_reads_any_more_leaves_the_session_to_others(served, opened, last):
    session, _ = opened()
    with served.http.stream("POST", f"/v1/agent/sessions/{session}/run") as answer:
        assert last in (name for name, _ in events(answer.iter_lines()))
    until(lambda: act_as_a_person(served, session))


@pytest.mark.parametrize("later", range(8))
def test_an_act_that_is_broken_off_sooner_or_later_leaves_the_session_to_others(served, opened, later):
    session, _ = opened()
    with asked(served, f"/{session}/act"):
        for _ in range(later):
            assert served.http.get("/health").status_code == 200
    until(lambda: act_as_a_person(served, session))
