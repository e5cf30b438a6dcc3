"""Ray Serve's own way to deploy: a config file that names our function, as KubeRay's RayService does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import yaml
from ray import serve

from tests.conftest import ROOT


def test_serve_run_deploys_what_a_config_file_names(ray_cluster, tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "run" / "checkpoints" / "llm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = {
        "config": str(ROOT / "tests" / "tiny.yaml"), "run_dir": str(tmp_path / "run"), "model": tiny_model,
        "serve.model": "checkpoints/llm", "serve.base": False,
    }  # fmt: skip
    application = {
        "name": "atlas", "route_prefix": "/", "import_path": "atlas_ray.pipeline.serve:service", "args": arguments,
        "runtime_env": {"env_vars": {"PYTHONPATH": str(ROOT), "ATLAS_API_KEY": "sesame"}},
    }  # fmt: skip
    file = tmp_path / "serve.yaml"
    file.write_text(
        yaml.safe_dump({"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]})
    )
    command = [
        str(Path(sys.executable).with_name("serve")),
        "run",
        "--non-blocking",
        "--address",
        ray_cluster,
        str(file),
    ]
    said = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    try:
        assert said.returncode == 0, said.stdout + said.stderr
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as http:
            key, deadline = {"Authorization": "Bearer sesame"}, time.monotonic() + 240
            while not answers(http, key):
                assert time.monotonic() < deadline, serve.status()
                time.sleep(0.5)
            assert http.get("/v1/models").status_code == 401
            http.headers.update(key)
            assert [card["id"] for card in http.get("/v1/models").json()["data"]] == ["llm"]
            opened = http.post("/v1/agent/sessions", json={"environment": "textcraft"})
            assert opened.status_code == 201, opened.text
            assert http.post(f"/v1/agent/sessions/{opened.json()['id']}/act").status_code == 200
    finally:
        serve.shutdown()


def answers(http, key):
    try:
        return http.get("/v1/models", headers=key).status_code == 200
    except httpx.TransportError:
        return False
