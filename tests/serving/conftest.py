"""One served application for all tests of serving: jobs/serve.py on the shared cluster, tiny models, adapters."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import peft
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from atlas_ray.ports import free_ports
from tests.conftest import PYTHONPATH, ROOT


class Served:
    """The running job."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log
        self.adapters: dict[str, Path] = {}
        self.faults = log.parent / "faults"
        """The folder of the environment `faulty`."""
        self.http = httpx.Client(base_url=url, timeout=120)

    def open(self, **body):
        answer = self.http.post("/v1/agent/sessions", json={"environment": "textcraft", **body})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def call(self, session, method, path="", **request):
        return self.http.request(method, f"/v1/agent/sessions/{session}{path}", **request)

    def connect(self) -> socket.socket:
        """A connection to the service, for requests byte by byte."""
        url = httpx.URL(self.url)
        return socket.create_connection((url.host, url.port), timeout=60)


@pytest.fixture(scope="package")
def served(ray_cluster, tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    (folder / "faults").mkdir()
    config = yaml.safe_load((ROOT / "tests" / "tiny.yaml").read_text())
    config["environments"]["faulty"] = {"folder": str(folder / "faults")}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.copytree(tiny_model, folder / "run" / "checkpoints" / "llm")
    for number, place in enumerate((folder / "run" / "checkpoints" / "llm" / "adapter", folder / "other")):
        write_adapter(tiny_model, place, number)
    [port] = free_ports(1)
    log = folder / "serve.log"
    command = [
        sys.executable, str(ROOT / "jobs" / "serve.py"), "--config", str(folder / "config.yaml"),
        "--run_dir", str(folder / "run"), "--model", tiny_model, "--serve.model", "checkpoints/llm",
        "--serve.port", str(port), "--serve.max_sessions", "20", "--evaluate.max_new_tokens", "48",
        "--serve.adapters", f"{{one: checkpoints/llm, two: {folder / 'other'}}}", "--engine.tool_parser", "hermes",
    ]  # fmt: skip
    workers = {"runtime_env": {"env_vars": {"PYTHONPATH": PYTHONPATH}}}
    environment = os.environ | {
        "RAY_ADDRESS": ray_cluster, "PYTHONPATH": PYTHONPATH, "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(workers)
    }  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, text=True, stdout=output, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 360
    while "serving at" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)
    service = Served(process, f"http://127.0.0.1:{port}", log)
    service.adapters = {"one": folder / "run" / "checkpoints" / "llm" / "adapter", "two": folder / "other"}
    yield service
    if process.poll() is None:
        _ends_cleanly(service)


def write_adapter(base: str, folder: Path, seed: int) -> None:
    """An adapter with random weights, as peft writes it."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    for name, weight in adapted.named_parameters():
        if ".lora_B." in name:  # which are zero at first
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(str(folder))


def _ends_cleanly(served: Served) -> None:
    """A stop lets the stream under way finish and closes the port. It is no test: it can only come last."""
    session, seen = served.open()["id"], []
    with served.http.stream("POST", f"/v1/agent/sessions/{session}/run") as answer:
        for name, _ in events(answer.iter_lines()):
            if not seen:
                served.process.send_signal(signal.SIGTERM)
            seen.append(name)
    assert seen[-1] == "end"
    assert served.process.wait(timeout=240) == 0, served.log.read_text()
    address, deadline = ("127.0.0.1", httpx.URL(served.url).port), time.monotonic() + 60
    with socket.socket() as probe:
        while probe.connect_ex(address) == 0:
            assert time.monotonic() < deadline, "the port is still open"


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.05)


def events(lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Name and data of server-sent events."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
