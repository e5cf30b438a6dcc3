"""Ray's Prometheus endpoint shows what episodes, selections, training and sessions count."""

from __future__ import annotations

import json
import re
import time

import httpx
import numpy as np
import pytest
import ray

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

pytestmark = pytest.mark.timeout(120)


def test_names_are_ours_and_once():
    every = [metric.name for metric in ray_metrics.every()]
    assert len(every) == len(set(every)) >= 20
    assert all(re.fullmatch(r"atlas_[a-z_]+", name) and not name.endswith("_total") for name in every)


def test_the_metrics_endpoint_shows_a_run(ray_cluster, tmp_path):
    specs = [
        EpisodeSpec(model="metrics-test", model_key="k", env="textcraft", task=task, split="train", seed=0, options={})
        for task in range(3)
    ]  # fmt: skip
    config = RolloutConfig(memory_gib=0.5, slots=2)
    assert len(list(run_episodes(specs, ModelSpec(), config))) == 3
    worker = Worker.remote()
    ray.get(worker.work.remote(str(tmp_path)))
    server = EnvironmentActor.options(num_cpus=0).remote(ModelSpec(), config, 4, 60.0)
    view = ray.get(server.session.remote("open", "wordle", 0, "test", None, "llm", {}))
    ray.get(server.session.remote("step", view["id"], "c r a n e"))
    expected = {
        f'{ray_metrics.EPISODES.exported} model="metrics-test" env="textcraft"': 3,
        f'{ray_metrics.SELECTIONS.exported} method="metrics-test" outcome="error"': 1,
        f'{ray_metrics.TRAIN_GAUGES["loss"].exported} checkpoint="metrics-test"': 0.5,
        f'{ray_metrics.TRAIN_COUNTERS["labelled_tokens"].exported} checkpoint="metrics-test"': 3,
        f'{ray_metrics.SESSION_STEPS.exported} env="wordle" by="person"': 1,
        ray_metrics.SESSIONS.exported: 1,
    }
    deadline = time.monotonic() + 100
    while (found := {key: total(scraped(), *key.split()) for key in expected}) != expected:
        assert time.monotonic() < deadline, (found, expected)
        time.sleep(0.5)
    ray.kill(server)


@ray.remote(num_cpus=0)
class Worker:
    """An actor, because it lives until its metrics were seen: what a process has not reported is lost with it."""

    def work(self, folder):
        """What a selection's driver and the first training rank do."""
        Tally("metrics-test").add(Selection(trajectory_id="t", method="llm", ratio=0.3, error="invalid: x"), Calls())
        example = Example("t", np.arange(5, dtype=np.int32), np.array([0, 0, 1, 1, 1], dtype=np.float32), 8)
        speed = Speed(seconds=1.0, flops=1e9, peak=1e10, memory_gib=0.5, skipped={})
        TrainingLog(Store(folder), "metrics-test").log(1, 0, [example], 0.5, 1.5, 1e-4, speed)


def scraped():
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    return httpx.get(url, timeout=10).text.splitlines()


def total(lines, name, *labels):
    found = [line for line in lines if line.startswith(f"{name}{{") and all(label in line for label in labels)]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def test_the_grafana_dashboard_asks_for_what_is_counted():
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "atlas.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked = {name for query in queries for name in re.findall(r"ray_\w+", query)}
    assert asked == {metric.exported for metric in ray_metrics.every()}
    known = {metric.exported: set(metric.tags) for metric in ray_metrics.every()}
    for query in queries:
        names = re.findall(r"ray_\w+", query)
        tags = {
            tag for group in re.findall(r"by \(([^)]*)\)|\{(\w+)", query) for tag in ", ".join(group).split(", ") if tag
        }
        assert tags <= set.intersection(*(known[name] for name in names)), query
