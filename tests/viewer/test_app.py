"""The server's answers: pages of rows, what may be asked again, and who may ask."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from atlas_ray.errors import ConfigError
from atlas_ray.viewer.app import View, application, bound
from tests.report.synthetic import HOSTILE
from tests.viewer.conftest import finished


@pytest.fixture(scope="module")
def client(view: View) -> TestClient:
    return TestClient(application(view), base_url="http://127.0.0.1:8765")


def rows_of(client: TestClient, path: str, **asked: object) -> list[dict[str, object]]:
    """All rows, page by page."""
    found: list[dict[str, object]] = []
    while True:
        page = client.get(path, params={**asked, "offset": len(found), "limit": 7}).json()
        found += page["rows"]
        if len(found) >= page["matched"]:
            return found


def test_pages_of_both_runs_are_one_list(client):
    rows = rows_of(client, "/api/trajectories", env="textcraft")
    wanted = [(run, f"textcraft_{i:02d}") for run in ("one", "two") for i in range(10)]
    assert [(row["run"], row["trajectory_id"]) for row in rows] == wanted
    rows = rows_of(client, "/api/episodes", run="two", model="llm", outcome="solved", order="rounds")
    assert len(rows) == 37
    assert {row["run"] for row in rows} == {"two"}
    assert [row["rounds"] for row in rows] == sorted((row["rounds"] for row in rows), reverse=True)


@pytest.mark.parametrize(
    ("path", "asked", "count"),
    [
        ("trajectories", {}, 40), ("trajectories", {"q": "textcraft_00 ALERT(1)"}, 2),
        ("trajectories", {"selection": "llm", "env": "babyai", "run": "one"}, 10),
        ("trajectories", {"method": "perplexity", "outcome": "failed"}, 0),
        ("trajectories", {"selection": "of another run"}, 0), ("episodes", {"outcome": "error"}, 8),
        ("episodes", {"env": "babyai", "split": "test", "task": "3", "seed": "0"}, 8), ("episodes", {"q": "engine"}, 8),
    ],
)  # fmt: skip
def test_filters(client, path, asked, count):
    answer = client.get(f"/api/{path}", params=asked).json()
    assert answer["matched"] == count
    whole = 40 if path == "trajectories" else 384
    assert answer["total"] == (whole / 2 if "run" in asked else whole)


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("trajectories?run=on", 400, "no run 'on'"), ("trajectories?limit=-1", 400, "limit is '-1'"),
        ("trajectories?order=textt", 400, "no filter or order 'textt'"), ("episodes?offset=1e3", 400, "offset"),
        ("trajectory?run=one&id=nobody", 404, "no trajectory 'nobody'"), ("episode?run=one&key=x", 404, "no episode"),
        ("trajectory?run=two&id=textcraft_01&tokens=1", 404, "no checkpoint yet"), ("sections/none", 404, "no such"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(client, path, status, says):
    answer = client.get(f"/api/{path}")
    assert answer.status_code == status
    assert says in answer.json()["error"]


def test_what_has_not_changed_is_not_sent_again(client):
    for path in ("/api/state", "/api/sections/results", "/colors.css", "/", "/view.js"):
        first = client.get(path)
        assert first.status_code == 200
        again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    state = client.get("/api/state").json()
    assert [run["name"] for run in state["runs"]] == ["one", "two"]
    assert state["runs"][0]["trajectories"]["selection"] == ["llm", "perplexity", "random"]


def test_every_answer_has_a_strict_policy_and_asks_no_other_host(client):
    for path in ("/", "/view.js", "/drawings.js", "/view.css", "/report.css", "/colors.css", "/api/state"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        hosts = {host for host in re.findall(r"https?://[^\s\"'`/)]+", answer.text)}
        assert hosts <= {"http://www.w3.org"}  # the name of SVG's namespace
    page = client.get("/").text
    assert "<style" not in page
    assert not re.search(r"<script(?! src=)", page)


def test_other_hosts_origins_and_bodies_are_refused(client):
    assert client.get("/api/state", headers={"Host": "evil.example"}).status_code == 403
    assert client.get("/api/state", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post("/api/state", content=b"x").status_code == 413
    assert client.post("/api/state").status_code == 405


def test_hostile_texts_stay_texts(tmp_path):
    store = finished(str(tmp_path / "<img src=x onerror=alert(1)>"))
    view = View([store.url])
    view.refresh()
    client = TestClient(application(view), base_url="http://127.0.0.1:8765")
    for anchor in ("runs", "results", "selections"):
        html = client.get(f"/api/sections/{anchor}").text
        assert "<img" not in html
        assert "<script" not in html
    name = client.get("/api/state").json()["runs"][0]["name"]
    shown = client.get("/api/trajectory", params={"run": name, "id": "textcraft_00"})
    assert shown.headers["content-type"] == "application/json"
    assert HOSTILE in shown.json()["opening"]


def test_runs_of_the_same_name_are_told_apart_and_a_taken_port_is_said(tmp_path):
    view = View([str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run")])
    assert [run.name for run in view.runs] == ["a/run", "b/run"]
    with pytest.raises(ConfigError, match="named twice"):
        View(["runs/x", "runs/x/"])
    with bound(0) as listening:
        host, port = listening.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(ConfigError, match="choose another"):
            bound(port)
