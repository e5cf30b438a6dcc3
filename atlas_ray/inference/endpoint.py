"""A model served by vLLM's own OpenAI server on 127.0.0.1, until a `with` block ends.

It stands in where no selector endpoint is configured. Serving agents to users is in `serving/`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

import httpx

from atlas_ray.config import EngineConfig
from atlas_ray.errors import EngineError
from atlas_ray.gpus import flaw, installation
from atlas_ray.inference.engine import context_length, engine_arguments, vllm_environment
from atlas_ray.ports import free_ports

SERVED_NAME = "on-board"
"""The model name that the endpoint lists."""
_START_TIMEOUT_S = 600.0


class LocalEndpoint:
    """`with LocalEndpoint(model, config) as url:` serves `model` as "on-board" at `url` (`http://127.0.0.1:PORT/v1`).

    Args:
        model: a local model directory.
        config: engine settings.

    Raises:
        EngineError: the server ended or did not answer in time; the text has the end of its log.
    """

    def __init__(self, model: str, config: EngineConfig) -> None:
        self._model = model
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._log = Path(tempfile.mkstemp(prefix="atlas-endpoint-", suffix=".log")[1])

    def __enter__(self) -> str:
        found = installation()
        if (reason := flaw(found)) is not None:
            raise EngineError(reason)
        cuda = found.gpus > 0
        [port] = free_ports(1)
        arguments = engine_arguments(self._model, self._config, cuda=cuda, max_len=context_length(self._model))
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"]
        command += ["--port", str(port), "--served-model-name", SERVED_NAME, "--disable-log-stats"]
        for name, value in arguments.items():
            flag = "--" + name.replace("_", "-")
            command += [flag] if value is True else [flag, str(value)]
        environment = os.environ | vllm_environment(cuda=cuda, kv_cache_gib=self._config.cpu_kv_cache_gib)
        environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)  # the server needs its engine in a process of its own
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        self.url = f"http://127.0.0.1:{port}/v1"
        self._wait()
        return self.url

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._log.unlink(missing_ok=True)

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        health = self.url.removesuffix("/v1") + "/health"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise EngineError(
                    f"the local endpoint for {self._model} ended with code {self._process.returncode}: {self._tail()}"
                )
            try:
                if httpx.get(health, timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.5)  # not listening yet
        self.__exit__(None, None, None)
        raise EngineError(
            f"the local endpoint for {self._model} did not answer within {_START_TIMEOUT_S:.0f} s: {self._tail()}"
        )

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return " | ".join(lines[-3:])
