"""A whole pipeline with an environment and a selection method that another package brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import yaml

from atlas_ray.store import Store
from tests.conftest import PYTHONPATH, ROOT

CONFIG = {
    "engine": {"max_model_len": 1024, "cpu_kv_cache_gib": 1, "dtype": "float32"},
    "environments": {"counting": {"start": 4, "max_rounds": 6}},
    "collect": {"trajectories": {"counting": 6}},
    "select": {
        "ratio": 0.5,
        "every_other": {"first": 1},
        "selections": {
            "odd": {"method": "every_other"},
            "even": {"method": "every_other", "first": 0, "ratio": 0.4},
            "rest": {"method": "non_critical", "complement_of": "odd"},
        },
    },
    "train": {"selections": ["odd"], "seeds": [0, 1], "epochs": 1, "learning_rate": 1e-3, "batch_size": 4},
    "evaluate": {"models": ["random", "odd"], "environments": ["counting"], "tasks": 2, "max_new_tokens": 8},
}


def job(name: str, *options: str, address: str) -> subprocess.CompletedProcess[str]:
    """A job as `ray job submit --runtime-env-json` starts it: Ray's workers find the other package too."""
    workers = {"runtime_env": {"env_vars": {"PYTHONPATH": PYTHONPATH}}}
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *options],
        env=os.environ | {
            "RAY_ADDRESS": address, "PYTHONPATH": PYTHONPATH, "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(workers)
        },
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip


def test_a_method_and_an_environment_from_outside_go_through_the_pipeline(ray_cluster, tiny_model, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(CONFIG | {"run_dir": str(tmp_path / "run"), "model": tiny_model}))
    done = job("pipeline", "--config", str(file), address=ray_cluster)
    assert done.returncode == 0, done.stderr
    assert "Progress bars" not in done.stdout + done.stderr  # Ray Data's own lines, beside ours
    store = Store(str(tmp_path / "run"))
    odd, even, rest = (store.read_selections(name) for name in ("odd", "even", "rest"))
    assert {row.method for row in odd + even} == {"every_other"}
    for one, other, left in zip(odd, even, rest, strict=True):
        assert one.steps == tuple(range(1, 2 * len(one.steps), 2))
        assert one.weights == tuple(1 / (1 + step) for step in one.steps)
        assert other.steps[0] == 0
        assert not set(left.steps) & set(one.steps)
    assert store.exists("checkpoints", "odd", "config.json")
    assert store.exists("checkpoints", "odd.s1", "config.json")
    results = {name: store.read_json("evaluation", name, "results.json") for name in store.names("evaluation")}
    assert {name: (found["kind"], found["selection"], found["seed"]) for name, found in results.items()} == {
        "random": ("policy", None, None), "odd": ("tuned", "odd", 0), "odd.s1": ("tuned", "odd", 1),
    }  # fmt: skip
    report = store.read_text("report.md")
    assert "odd" in report
    assert "every_other" in report
    plan = job("pipeline", "--config", str(file), "--plan", address=ray_cluster)
    units = [(line[:14].strip(), line[14:46].strip(), line[46:]) for line in plan.stdout.splitlines()]
    assert {(stage, unit): state for stage, unit, state in units} == dict.fromkeys(
        [("collect", "trajectories"), ("select", "odd"), ("select", "even"), ("select", "rest"), ("train", "odd"),
         ("train", "odd.s1"), ("evaluate", "random"), ("evaluate", "odd"), ("evaluate", "odd.s1")],
        "current",
    )  # fmt: skip
    helped = job("select", "--help", "all", address=ray_cluster)
    assert "--select.every_other.first" in helped.stdout
    assert "every other step, as far as the budget allows" in helped.stdout
