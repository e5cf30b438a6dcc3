"""Requests as an attacker sends them, byte by byte, to the served agent: refused, and nobody else notices."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import httpx
import pytest

from tests.network import neighbour

BODY = '{"environment": "textcraft"}'
SMUGGLED = "GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def answer(served, head: str, body: str = "") -> bytes:
    """All that comes back on one connection until the server closes it."""
    with served.connect() as wire:
        wire.sendall(f"{head}\r\nConnection: close\r\n\r\n{body}".encode("latin-1"))
        wire.shutdown(socket.SHUT_WR)
        parts = []
        while part := wire.recv(65536):
            parts.append(part)
    return b"".join(parts)


def post(*headers: str) -> str:
    return "\r\n".join(
        ["POST /v1/agent/sessions HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    )


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (post(f"Content-Length: {len(BODY)}", f"Content-Length: {len(BODY) + len(SMUGGLED)}"), BODY + SMUGGLED),
        (post(f"Content-Length: +{len(BODY)}"), BODY),
        (post("Content-Length: 0x10"), BODY),
        (post("Content-Length: -1"), BODY),
        (post("Transfer-Encoding: xchunked"), f"0\r\n\r\n{SMUGGLED}"),
        (post("Transfer-Encoding: chunked"), f"zz\r\n{BODY}\r\n0\r\n\r\n"),
        (post("Transfer-Encoding : chunked"), f"0\r\n\r\n{SMUGGLED}"),
        (post(f"Content-Length: {len(BODY)}", "X-Bare: a\rb\x00c"), BODY),
        (post(f"Content-Length: {len(BODY)}", " folded: yes", "no colon"), BODY),
        ("POST /v1/agent/sessions HTTP/9.9\r\nHost: 127.0.0.1", ""),
        ("GET http://evil.example/v1/models HTTP/1.1\r\nHost: evil.example", ""),
        ("GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + "x" * 1_000_000, ""),
        ("GET /" + "x" * 1_000_000 + " HTTP/1.1\r\nHost: 127.0.0.1", ""),
    ],
)
def test_a_malformed_request_is_refused_once_and_smuggles_nothing(served, head, body):
    said = answer(served, head, body)
    statuses = [line.split()[1] for line in said.split(b"\r\n") if line.startswith(b"HTTP/1.")]
    assert len(statuses) <= 1, said[:500]
    assert all(400 <= int(status) < 600 for status in statuses), said[:500]
    assert b'"object":"list"' not in said.replace(b" ", b"")
    assert served.http.get("/health").status_code == 200


def test_connections_that_never_end_their_request_keep_nobody_out(served):
    with ExitStack() as stack:
        for number in range(300):
            wire = stack.enter_context(served.connect())
            wire.sendall(b"POST /v1/agent/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-Slow: 1\r\n" * (number % 3))
        for _ in range(20):
            wire = stack.enter_context(served.connect())
            wire.sendall(f"{post('Content-Length: 1000')}\r\n\r\n{{".encode())
        session = served.open()["id"]
        assert served.call(session, "POST", "/step", json={"action": "inventory"}).status_code == 200
        assert served.call(session, "DELETE").status_code == 204


def test_a_session_is_only_for_who_knows_its_name(served):
    session = served.open()["id"]
    assert len(session) >= 16
    assert served.http.get("/v1/agent/sessions").status_code in (404, 405)
    for guess in ("0", "1", session[:-1], session + "x", session.swapcase(), "..", "%2e%2e", "*", "'", "\\"):
        for method, path in (("GET", ""), ("POST", "/undo"), ("DELETE", "")):
            assert served.call(guess, method, path).status_code in (404, 405, 422), (guess, method)
    assert served.call(session, "GET").json()["id"] == session
    served.call(session, "DELETE")


def test_other_machines_cannot_connect(served):
    with neighbour() as reach, socket.create_server(("", 0)) as open_to_all:
        port = open_to_all.getsockname()[1]
        assert reach([port, httpx.URL(served.url).port]) == [port]
