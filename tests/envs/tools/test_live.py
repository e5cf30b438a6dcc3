"""The client of live services against a local server that fails in every documented way."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from atlas_ray.errors import ConfigError
from envs.tools import live
from envs.tools.backend import Fault, Refused
from envs.tools.live import Service
from tests.envs.tools.server import Reply, serve


@contextmanager
def _service(*replies: Reply, timeout_s: float = 5.0) -> Iterator[tuple[Callable[[], object], list[str]]]:
    queue = list(replies)
    with serve(lambda path, query, headers: queue.pop(0)) as (url, seen):
        service = Service("Service", timeout_s=timeout_s)
        yield (lambda: service.get(f"{url}/x", {"q": "a b"})), seen


def test_an_answer_is_parsed() -> None:
    with _service(Reply({"a": [1]})) as (get, seen):
        assert get() == {"a": [1]}
        assert seen == ["/x?q=a+b"]


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        (
            Reply({"reason": "Latitude must be in range"}, 400),
            Refused,
            "Service answers 400: Latitude must be in range",
        ),
        (Reply({"status_message": "Not found."}, 404), Refused, "Service answers 404: Not found."),
        (Reply({"status_message": "Invalid API key"}, 401), Fault, r"refuses access \(401\): Invalid API key"),
        (Reply("<html>", 403), Fault, r"refuses access \(403\)"),
        (Reply("[1, 2", 200), Fault, "no JSON"),
        (Reply("x", 429, {"retry-after": "3600"}), Fault, "answers 429; try again in 3600 s"),
        (Reply("x", 501), Fault, "answers 501"),
    ],
)
def test_what_is_not_worth_another_try(reply: Reply, kind: type[Exception], said: str) -> None:
    with _service(reply) as (get, seen):
        with pytest.raises(kind, match=said):
            get()
        assert len(seen) == 1


def test_passing_failures_are_tried_again_after_the_time_the_service_asks_for() -> None:
    with _service(Reply("", 429, {"retry-after": "1"}), Reply("", 503, {"retry-after": "0"}), Reply(7)) as (get, seen):
        start = time.monotonic()
        assert get() == 7
        assert len(seen) == 3
        assert time.monotonic() - start >= 1


def test_a_lasting_failure_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.time, "sleep", lambda seconds: None)
    with _service(*[Reply("oops", 500)] * 3) as (get, seen):
        with pytest.raises(Fault, match="answers 500; try again later"):
            get()
        assert len(seen) == live.TRIES


def test_a_silent_or_absent_service_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.time, "sleep", lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(Fault, match="did not answer in time"):
            Service("Service", timeout_s=0.1).get(f"http://127.0.0.1:{port}/")
    garbled = Reply("no gzip", 200, {"content-encoding": "gzip"})
    with _service(*[garbled] * 3) as (get, _), pytest.raises(Fault, match=r"cannot be reached \(DecodingError\)"):
        get()
    with pytest.raises(Fault, match=r"cannot be reached \(ConnectError\)"):
        Service("Service").get(f"http://127.0.0.1:{port}/")


def test_the_key_comes_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    with serve(lambda path, query, headers: Reply({"auth": headers["authorization"]})) as (url, _):
        assert Service("Service", key_variable="SOME_KEY").get(url) == {"auth": "Bearer s3cret"}
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(ConfigError, match="set the environment variable SOME_KEY"):
        Service("Service", key_variable="SOME_KEY")
