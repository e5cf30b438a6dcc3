"""One served application for all tests of serving: jobs/serve.py on the shared cluster, two tiny models."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT


class Served:
    """The running job."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log
        self.http = httpx.Client(base_url=url, timeout=120)

    def open(self, **body):
        answer = self.http.post("/v1/agent/sessions", json={"environment": "textcraft", **body})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def call(self, session, method, path="", **request):
        return self.http.request(method, f"/v1/agent/sessions/{session}{path}", **request)


@pytest.fixture(scope="package")
def served(ray_cluster, tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    shutil.copytree(tiny_model, folder / "run" / "checkpoints" / "llm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "serve.log"
    command = [
        sys.executable, str(ROOT / "jobs" / "serve.py"), "--config", str(ROOT / "tests" / "tiny.yaml"),
        "--run_dir", str(folder / "run"), "--model", tiny_model, "--serve.model", "checkpoints/llm",
        "--serve.port", str(port), "--serve.max_sessions", "20", "--evaluate.max_new_tokens", "48",
    ]  # fmt: skip
    environment = os.environ | {"RAY_ADDRESS": ray_cluster, "PYTHONPATH": str(ROOT)}
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, text=True, stdout=output, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 360
    while "serving at" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)
    yield Served(process, f"http://127.0.0.1:{port}", log)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)
