"""Ray's Prometheus endpoint shows what episodes, selections, training and sessions count, and a Prometheus reads it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import ray
import yaml

from atlas_ray import ray_metrics
from atlas_ray.config import RolloutConfig
from atlas_ray.rollout.driver import run_episodes
from atlas_ray.rollout.player import ModelSpec
from atlas_ray.rollout.server import EnvironmentActor
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.selection.summary import Calls, Tally
from atlas_ray.store import Store
from atlas_ray.training.examples import Example
from atlas_ray.training.log import Speed, TrainingLog
from atlas_ray.trajectory import Selection
from tests.conftest import ROOT

PROMETHEUS = shutil.which("prometheus", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
DASHBOARD = ROOT / "deploy" / "grafana" / "atlas.json"


def test_names_are_ours_and_once():
    every = [metric.name for metric in ray_metrics.every()]
    assert len(every) == len(set(every)) >= 20
    assert all(re.fullmatch(r"atlas_[a-z_]+", name) and not name.endswith("_total") for name in every)


@pytest.fixture(scope="module")
def counted(ray_cluster, tmp_path_factory):
    """Some of everything that is counted, by processes that live until tests have seen it; yields what to expect."""
    specs = [
        EpisodeSpec(model="metrics-test", model_key="k", env="textcraft", task=task, split="train", seed=0, options={})
        for task in range(3)
    ]  # fmt: skip
    config = RolloutConfig(memory_gib=0.5, slots=2)
    assert len(list(run_episodes(specs, ModelSpec(), config))) == 3
    worker = Worker.remote()
    ray.get(worker.work.remote(str(tmp_path_factory.mktemp("counted"))))
    server = EnvironmentActor.options(num_cpus=0).remote(ModelSpec(), config, 4, 60.0)
    view = ray.get(server.session.remote("open", "wordle", 0, "test", None, "llm", {}))
    ray.get(server.session.remote("step", view["id"], "c r a n e"))
    yield {
        f'{ray_metrics.EPISODES.exported} model="metrics-test" env="textcraft"': 3,
        f'{ray_metrics.SELECTIONS.exported} method="metrics-test" outcome="error"': 1,
        f'{ray_metrics.TRAIN_GAUGES["loss"].exported} checkpoint="metrics-test"': 0.5,
        f'{ray_metrics.TRAIN_COUNTERS["labelled_tokens"].exported} checkpoint="metrics-test"': 3,
        f'{ray_metrics.SESSION_STEPS.exported} env="wordle" by="person"': 1,
        ray_metrics.SESSIONS.exported: 1,
    }
    ray.kill(server)


def test_the_metrics_endpoint_shows_a_run(counted):
    deadline = time.monotonic() + 100
    while (found := {key: total(scraped(), *key.split()) for key in counted}) != counted:
        assert time.monotonic() < deadline, (found, counted)
        time.sleep(0.5)


@pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus on PATH or in .venv; `make prometheus` gets Debian's")
def test_prometheus_answers_the_queries_of_the_dashboard(counted, tmp_path):
    names = {key.split()[0] for key in counted}
    with prometheus(tmp_path, metrics_address()) as ask:
        deadline = time.monotonic() + 60
        while empty := [
            query for query in queries() if names & set(asked(query)) and "{" not in query and not ask(query)
        ]:
            assert time.monotonic() < deadline, empty
            time.sleep(0.3)
        assert ask(f'sum({ray_metrics.SELECTIONS.exported}{{method="metrics-test"}})')[0]["value"][1] == "1"
        for query in queries():
            ask(query)


@contextmanager
def prometheus(folder, target) -> Iterator:
    """A Prometheus that scrapes a target; yields a function that gives a query's answer, and raises on a wrong one."""
    config = {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s"},
        "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        [PROMETHEUS, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
         f"--web.listen-address={address}", "--log.level=warn"],
        env=os.environ | {"GOMAXPROCS": "1"},
    )  # fmt: skip

    def ask(query):
        answer = httpx.get(f"http://{address}/api/v1/query", params={"query": query}, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["result"]

    try:
        while not is_ready(f"http://{address}/-/ready"):
            assert process.poll() is None, "prometheus ended"
            time.sleep(0.1)
        yield ask
    finally:
        process.terminate()
        process.wait(timeout=30)


def is_ready(url):
    try:
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.ConnectError:
        return False


@ray.remote(num_cpus=0)
class Worker:
    """An actor, because it lives until its metrics were seen: what a process has not reported is lost with it."""

    def work(self, folder):
        """What a selection's driver and the first training rank do."""
        Tally("metrics-test").add(Selection(trajectory_id="t", method="llm", ratio=0.3, error="invalid: x"), Calls())
        example = Example("t", np.arange(5, dtype=np.int32), np.array([0, 0, 1, 1, 1], dtype=np.float32), 8)
        speed = Speed(seconds=1.0, flops=1e9, peak=1e10, memory_gib=0.5, skipped={})
        TrainingLog(Store(folder), "metrics-test").log(1, 0, [example], 0.5, 1.5, 1e-4, speed)


def metrics_address():
    node = ray.nodes()[0]
    return f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"


def scraped():
    return httpx.get(f"http://{metrics_address()}/metrics", timeout=10).text.splitlines()


def total(lines, name, *labels):
    found = [line for line in lines if line.startswith(f"{name}{{") and all(label in line for label in labels)]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def queries():
    """Of the dashboard, with a minute in the place of Grafana's interval."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [query.replace("$__rate_interval", "1m") for query in found]


def asked(query):
    return re.findall(r"ray_\w+", query)


def test_the_grafana_dashboard_asks_for_what_is_counted():
    assert {name for query in queries() for name in asked(query)} == {metric.exported for metric in ray_metrics.every()}
    known = {metric.exported: set(metric.tags) for metric in ray_metrics.every()}
    for query in queries():
        names = asked(query)
        tags = {
            tag for group in re.findall(r"by \(([^)]*)\)|\{(\w+)", query) for tag in ", ".join(group).split(", ") if tag
        }
        assert tags <= set.intersection(*(known[name] for name in names)), query
