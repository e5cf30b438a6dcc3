"""AgentGym's HTTP API from both sides: bodies and replies of its own clients, and our client against our gateway."""

from __future__ import annotations

import re
import threading
from types import SimpleNamespace

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from atlas_ray.environments import http, registry
from atlas_ray.errors import ConfigError, EnvironmentError
from atlas_ray.react import format_reply


@pytest.fixture(scope="module")
def serve():
    """Start a gateway in a thread; yields `serve(name, **options) -> url`."""
    running = []

    def start(name, **options):
        server = uvicorn.Server(uvicorn.Config(http.make_app(name, **options), port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.02)
        running.append((server, thread))
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(10)


def test_babyai_as_agentgyms_client_plays_it():
    client = TestClient(http.make_app("babyai"))
    assert client.get("/").json() == "ok"
    session = client.post("/create").json()["id"]
    first = client.post("/reset", json={"id": session, "data_idx": 3}).json()
    assert set(first) >= {"observation", "reward", "score", "done"}
    env = registry.make("babyai")
    split, task = http.locate(env, 3)
    assert first["observation"] == env.reset(options={"task": task, "split": split})[0]
    expert, done, reply = env.expert(), False, {}
    observation = first["observation"]
    while not done:
        _, action = expert.next_action(observation)
        observation = env.step(action)[0]
        sent = re.sub(r"[^A-Za-z0-9, ]+", "", action)  # the client's own cleaning
        reply = client.post("/step", json={"id": session, "action": sent}).json()
        assert reply["observation"] == observation
        assert client.get("/observation", params={"id": session}).json()["observation"] == observation
        done = reply["done"]
    assert reply["score"] > 0
    assert client.post("/close", json={"id": session}).json() is True
    assert client.post("/step", json={"id": session, "action": "x"}).status_code == 404


@pytest.mark.parametrize("name", sorted(http.registry.names()))
def test_every_environment_is_served_in_its_dialect(name):
    speech = http.dialect(name)
    client = TestClient(http.make_app(name))
    made = client.post(f"{speech.prefix}/create", json={"id": 0}).json()
    session = made if speech.create == "number" else made["id"]
    answer = client.post(f"{speech.prefix}/reset", json={speech.session: session, speech.task: 0}).json()
    assert isinstance(answer, {"object": dict, "text": str, "pair": list}[speech.reset])
    step = client.post(f"{speech.prefix}/step", json={speech.session: session, "action": "Thought: x\nAction: look"})
    assert set(step.json()) >= {speech.observation, "reward", "done"}
    assert client.post(f"{speech.prefix}/close", json={speech.session: session}).json() is True


@pytest.mark.parametrize(
    ("call", "body", "status"),
    [
        ("reset", {"id": 99, "data_idx": 0}, 404),
        ("reset", {"id": 0, "data_idx": 10**9}, 400),
        ("reset", {"id": 0, "data_idx": "0"}, 422),
        ("reset", {"data_idx": 0}, 422),
        ("reset", [1], 422),
        ("step", {"id": 0, "action": 7}, 422),
        ("step", {"id": True, "action": "x"}, 422),
    ],
)
def test_bad_calls_are_answered_in_one_line(call, body, status):
    client = TestClient(http.make_app("textcraft"))
    assert client.post("/create").json()["id"] == 0
    answer = client.post(f"/{call}", json=body)
    assert answer.status_code == status
    assert "\n" not in answer.json()["detail"]


def test_forgotten_sessions_are_closed_and_their_number_is_limited(monkeypatch):
    now = [0.0]
    gateway = http.Gateway("maze", {}, clock=lambda: now[0])
    monkeypatch.setattr(http, "MAX_SESSIONS", 2)
    first = gateway.create()
    gateway.create()
    with pytest.raises(http.HTTPException, match="429"):
        gateway.create()
    now[0] = http.IDLE_S + 1
    gateway.create()
    assert first not in gateway.numbers()


def test_sessions_with_a_process_of_their_own_take_half_of_the_memory(monkeypatch):
    card = http.registry.card("maze").model_copy(update={"process_mib": 500})
    for gib, most in ((24, 24), (0.5, 1), (10_000, http.MAX_SESSIONS)):
        monkeypatch.setattr(http.psutil, "virtual_memory", lambda gib=gib: SimpleNamespace(total=int(gib * 2**30)))
        assert http.most_sessions(card) == most


@pytest.mark.parametrize("name", ["alfworld", "babyai", "maze", "textcraft", "wordle", "weather", "webshop"])
def test_a_remote_environment_plays_as_the_local_one(serve, name):
    if name not in registry.names():
        pytest.skip(f"{name} is not here")
    remote = registry.make(f"remote:{name}", url=serve(name))
    local = registry.make(name)
    split, task = http.locate(local, 1)
    observation = local.reset(options={"task": task, "split": split})[0]
    assert remote.reset(options={"task": 1, "split": "train"})[0] == observation
    expert, states = local.expert(), []
    while local.running:
        _, action = expert.next_action(observation)
        states.append((remote.snapshot(), action))
        observation, reward, *ending, info = local.step(action)
        assert remote.step(action)[:4] == (observation, pytest.approx(reward), *ending)
    assert info["success"] == remote.snapshot().success
    state, action = states[len(states) // 2]
    remote.restore(state)
    assert remote.running
    assert remote.step(action)[4]["rounds"] == state.rounds + 1
    remote.close()


def test_a_server_that_is_gone_or_is_another_is_one_line(serve):
    with pytest.raises(ConfigError, match="url is ''"):
        registry.make("remote:babyai")
    gone = registry.make("remote:babyai", url="http://127.0.0.1:1")
    with pytest.raises(EnvironmentError, match="remote:babyai: http://127.0.0.1:1 /create"):
        gone.reset()
    other = registry.make("remote:webshop", url=serve("textcraft"))
    with pytest.raises(EnvironmentError, match="answered|/reset: Client error '422"):
        other.reset()


def test_a_remote_environment_locates_items_by_number(serve):
    url = serve("maze")
    env = registry.make("remote:webshop", url=url, n_items=6910)
    assert (env.card.n_train, env.card.n_test) == (3000, 3910)
    assert env.locate("webshop_17") == ("train", 17)
    assert env.locate("webshop_6909") == ("test", 3909)
    for item in ("webshop_6910", "webshop_x", "9" * 5000):
        with pytest.raises(EnvironmentError, match="remote:webshop: "):
            env.locate(item)
    whole = registry.make("remote:maze", url=url, first_test=0, n_items=26)
    assert whole.locate("lmrlgym_maze_25") == ("test", 25)
    assert (
        "at position 8, 6. Your current position is at position 8, 6."
        in (whole.reset(options={"task": 25, "split": "test"})[0])
    )
    whole.close()


def test_an_error_that_a_server_answers_with_status_200_is_told(monkeypatch, serve):
    env = registry.make("remote:maze", url=serve("maze"))
    env.reset(options={"task": 1, "split": "test"})
    told = {"error": "The task with environment 0 has finished."}  # as AgentGym's servers, with status 200
    answer = httpx.Response(200, json=told, request=httpx.Request("POST", "http://x"))
    monkeypatch.setattr(httpx.Client, "request", lambda *_, **__: answer)
    with pytest.raises(EnvironmentError, match="/step: The task with environment 0 has finished"):
        env.step("move up")


def test_whole_replies_are_parsed_as_their_environment_says():
    client = TestClient(http.make_app("maze"))
    client.post("/maze/create")
    client.post("/maze/reset", json={"id": 0, "game": 0})
    plain = client.post("/maze/step", json={"id": 0, "action": "move down"}).json()
    client.post("/maze/reset", json={"id": 0, "game": 0})
    assert client.post("/maze/step", json={"id": 0, "action": format_reply("south", "move down")}).json() == plain
    assert client.get("/").status_code == httpx.codes.OK


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1:36001", 200), ("localhost", 200), ("evil.example", 400)])
def test_pages_of_other_sites_are_refused(host, status):
    client = TestClient(http.only_here(http.make_app("textcraft")), base_url=f"http://{host}")
    assert client.post("/create").status_code == status
