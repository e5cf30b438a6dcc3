"""The served agent over HTTP: OpenAI's own client, sessions, a killed server, strangers' requests, a clean end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest

from atlas_ray.config_files import load
from atlas_ray.environments import registry
from atlas_ray.errors import ConfigError
from atlas_ray.serving import app
from tests.conftest import ROOT
from tests.processes import environment_servers, workers
from tests.serving.conftest import events, until


def expert_actions(task):
    env = registry.make("textcraft", depths=[1], distractors=2, max_rounds=3)
    observation, _ = env.reset(options={"task": task, "split": "test"})
    expert = env.expert()
    while env.running:
        _, action = expert.next_action(observation)
        yield action
        observation = env.step(action)[0]


def test_openais_client_is_at_home(served):
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == ["llm", "base", "one", "two"]
    question = [{"role": "user", "content": "craft paper"}]
    whole = client.chat.completions.create(model="llm", messages=question, max_tokens=12, temperature=0)
    assert whole.usage.completion_tokens == 12
    stream = client.chat.completions.create(model="llm", messages=question, max_tokens=12, temperature=0, stream=True)
    pieces = [choice.delta.content or "" for chunk in stream for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert client.completions.create(model="base", prompt="craft", max_tokens=3).choices[0].text is not None
    with pytest.raises(openai.NotFoundError, match="no 'gpt-4o'; there are base, llm, one, two"):
        client.chat.completions.create(model="gpt-4o", messages=question)
    with pytest.raises(openai.UnprocessableEntityError):
        client.chat.completions.create(model="llm", messages=[])
    with pytest.raises(openai.BadRequestError, match="context"):
        client.chat.completions.create(model="llm", messages=[{"role": "user", "content": "paper " * 3000}])


def test_a_person_wins_undoes_and_wins_again(served):
    view = served.open(task=1)
    assert view["model"] == "llm"
    assert view["valid_actions"]
    for _ in range(2):
        played = 0
        for action in expert_actions(1):
            view = served.call(view["id"], "POST", "/step", json={"action": action}).json()
            played += 1
        assert view["success"]
        assert view["over"]
        assert served.call(view["id"], "POST", "/act").status_code == 409
        for _ in range(played):
            view = served.call(view["id"], "POST", "/undo").json()
        assert view["rounds"] == []
    assert served.call(view["id"], "DELETE").status_code == 204
    gone = served.call(view["id"], "GET")
    assert gone.status_code == 404
    assert gone.json()["error"]["type"] == "not_found_error"


def test_the_agent_acts_and_runs_to_the_end_in_events(served):
    view = served.open(model="base")
    acted = served.call(view["id"], "POST", "/act").json()
    assert [item["by"] for item in acted["rounds"]] == ["agent"]
    with served.http.stream("POST", f"/v1/agent/sessions/{view['id']}/run") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        seen = list(events(answer.iter_lines()))
    names = [name for name, _ in seen]
    assert names[-1] == "end"
    assert names.count("step") == acted["max_rounds"] - 1
    spoken = "".join(data["text"] for name, data in seen if name == "token")
    assert spoken.strip().startswith(seen[-1][1]["rounds"][1]["text"][:20])
    assert seen[-1][1]["over"]


def test_a_killed_environment_server_ends_its_sessions_and_not_the_service(served):
    view = served.open()
    servers = environment_servers()
    assert servers
    for pid in servers:
        os.kill(pid, signal.SIGKILL)
    lost = served.call(view["id"], "POST", "/step", json={"action": "inventory"})
    assert lost.status_code == 410
    assert "its environment server died" in lost.json()["error"]["message"]
    assert served.call(view["id"], "GET").status_code == 410
    assert served.open()["rounds"] == []


def test_limits_and_bad_requests_are_said(served):
    opened = []
    while (answer := served.http.post("/v1/agent/sessions", json={"environment": "wordle"})).status_code == 201:
        opened.append(answer.json()["id"])
        assert len(opened) <= 20
    assert answer.status_code == 429
    for session in opened:
        served.call(session, "DELETE")
    for body, says in (
        ({"environment": "chess"}, "no environment 'chess'"),
        ({"environment": "maze", "task": 10**9}, "has no task"),
        ({"environment": "maze", "model": "gpt"}, "there are base, llm, one, two"),
        ({"environment": "maze", "tusk": 1}, "tusk"),
    ):
        answer = served.http.post("/v1/agent/sessions", json=body)
        assert answer.status_code == 422
        assert says in answer.json()["error"]["message"]
    assert served.http.post("/v1/chat/completions", content=b"x" * 1_000_001).status_code == 413
    assert served.http.get("/v1/models", headers={"host": "evil.example"}).status_code == 403


def test_no_request_that_the_document_allows_breaks_the_server(served, tmp_path):
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"), "run", f"{served.url}/openapi.json",
            "--checks", "not_a_server_error", "--max-examples", "12", "--seed", "1", "--request-timeout", "60",
            "--phases", "examples,coverage,fuzzing",
        ],
        capture_output=True, text=True, timeout=300, cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.serving.hooks", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


def test_an_address_that_is_taken_or_open_to_others_is_refused(served, monkeypatch):
    port = served.url.rpartition(":")[2]
    with pytest.raises(ConfigError, match=f"serve.port={port}: Address already in use; choose another"):
        app.start(load(None, {"serve.port": int(port)}), {})
    monkeypatch.delenv("ATLAS_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="other machines could use this server; set ATLAS_API_KEY"):
        app.start(load(None, {"serve.host": "0.0.0.0"}), {})


@pytest.mark.parametrize(("front", "after"), [("ProxyActor", 200), ("ServeReplica:atlas:AgentIngress", 410)])
def test_a_killed_front_comes_back_and_the_service_goes_on(served, front, after):
    session = served.open()["id"]
    [killed] = workers(front)
    killed.kill()
    until(lambda: answers(served) and killed not in workers(front))
    assert served.call(session, "GET").status_code == after
    anew = served.open()["id"]
    assert served.call(anew, "POST", "/act").json()["rounds"]
    until(lambda: len(environment_servers()) == 1)  # that of a killed ingress ends with it


def answers(served) -> bool:
    try:
        return served.http.get("/health").status_code == 200
    except httpx.TransportError:
        return False
