"""The guard before every request, as ASGI: keys, foreign pages, sizes, rates."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from pydantic import SecretStr

from atlas_ray.serving.guard import Guard


async def echo(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def ask(guard, method="GET", path="/v1/models", **request):
    async def once():
        transport = httpx.ASGITransport(app=guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await client.request(method, path, **request)

    return asyncio.run(once())


def guard(**options):
    return Guard(echo, **{"key": None, "requests_per_minute": 600, "max_body_bytes": 1000, **options})


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic sécret", "Bearer sécret2", "sécret"])
def test_a_wrong_key_is_401_in_openais_shape(authorization):
    answer = ask(guard(key=SecretStr("sécret")), headers={"authorization": authorization.encode()})
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
    assert "sécret" not in answer.text


def test_the_right_key_and_the_page_itself_pass():
    guarded = guard(key=SecretStr("secret"))
    assert ask(guarded, headers={"authorization": "Bearer secret", "host": "example.org"}).status_code == 200
    assert ask(guarded, path="/").status_code == 200
    assert ask(guarded, path="/page.js").status_code == 200
    assert ask(guarded, path="/page.js/../v1/models").status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8000"}, 200),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"host": "evil.example:8000"}, 403),  # DNS rebinding
        ({"host": ""}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_without_a_key_only_this_machines_own_pages_may_ask(headers, status):
    assert ask(guard(), headers=headers).status_code == status


def test_bodies_pass_whole_or_not_at_all():
    assert ask(guard(), "POST", content=b"x" * 1000).content == b"x" * 1000
    assert ask(guard(), "POST", content=b"x" * 1001).status_code == 413

    async def pieces():
        for _ in range(3):
            yield b"x" * 400

    assert ask(guard(), "POST", content=pieces()).status_code == 413  # no Content-Length


def test_a_client_that_asks_too_often_waits_its_turn():
    now = [0.0]
    guarded = guard(requests_per_minute=60, clock=lambda: now[0])
    statuses = [ask(guarded).status_code for _ in range(62)]
    assert statuses == [200] * 60 + [429] * 2
    now[0] = 1.0
    again = [ask(guarded) for _ in range(2)]
    assert [answer.status_code for answer in again] == [200, 429]
    assert again[1].headers["retry-after"] == "1"
