"""The Ray Serve application: one LLM deployment per model behind one ingress, at one HTTP address.

Ray Serve LLM provides the engines (vLLM), their autoscaling and their health checks. The engines' arguments are those
of `inference/engine.py`. Requests are answered in `ingress.py`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from fastapi import FastAPI
from pydantic import SecretStr
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.llm import LLMConfig, build_llm_deployment
from ray.serve.llm.ingress import make_fastapi_ingress

from atlas_ray.config import EngineConfig, PipelineConfig, ServeConfig
from atlas_ray.errors import ClusterError, ConfigError, EngineError, ModelError
from atlas_ray.gpus import gpus_by_node, lack, usable_gpus
from atlas_ray.inference.call_parser import parser_of
from atlas_ray.inference.engine import context_length, engine_arguments, engine_environment, vllm_environment
from atlas_ray.progress import say
from atlas_ray.roster import BASE
from atlas_ray.serving.guard import LOOPBACK
from atlas_ray.serving.ingress import ROUTES, AgentIngress, Settings, api

NAME = "atlas"
"""Name of the Serve application."""
_DRAIN_S = 45.0
"""Seconds that running requests have to finish when the service ends."""
_PATIENCE = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120"}
"""Ray Serve gives its proxy five seconds to start and then kills it, and the start fails with it: on a busy machine
they are too few."""


def start(config: PipelineConfig, models: Mapping[str, str], adapters: Mapping[str, str] = MappingProxyType({})) -> str:
    """Deploy the models and wait until they answer.

    Args:
        config: of the run; used are `serve`, `engine`, `environments`, `rollout` and `evaluate.max_new_tokens`.
        models: local model directory by name; the first is the tuned one.
        adapters: local directory of each adapter of the model `base`, by name.

    Returns:
        The URL.

    Raises:
        ConfigError: the address needs a key, or is in use.
        EngineError: a model could not be served.
    """
    options = config.serve
    key = key_of(options, needed=options.host not in LOOPBACK)
    _check_port(options)
    for name, directory in {**models, **adapters}.items():
        say(f"  serve {name}: {directory}")
    quiet = {"log_level": "WARNING"}
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # `quiet` is for the actors, this for our process
    serve.start(
        http_options={"host": options.host, "port": options.port}, logging_config=quiet,
        controller_options={"runtime_env": {"env_vars": _PATIENCE}},
    )  # fmt: skip
    try:
        serve.run(build(config, models, key, adapters), name=NAME, route_prefix="/", logging_config=quiet)
    except RuntimeError as error:
        serve.shutdown()
        raise EngineError(f"Ray Serve could not start the models: {' '.join(str(error).split())[:500]}") from error
    return f"http://{options.host}:{options.port}"


def stop() -> None:
    """Refuse new requests, let running ones finish, and shut Ray Serve down."""
    if NAME in serve.status().applications:
        with contextlib.suppress(TimeoutError, RayServeException):  # an application that is not up has no requests
            serve.get_app_handle(NAME).drain.remote(_DRAIN_S).result(timeout_s=_DRAIN_S + 5)
        serve.delete(NAME, _blocking=False)
        deadline = time.monotonic() + _DRAIN_S
        while NAME in serve.status().applications and time.monotonic() < deadline:
            time.sleep(0.2)
    serve.shutdown()


def build(
    config: PipelineConfig, models: Mapping[str, str], key: SecretStr | None,
    adapters: Mapping[str, str] = MappingProxyType({}),
) -> Any:  # fmt: skip
    """The application, not yet deployed; arguments as in `start`, and the key that clients must send, if any."""
    options = config.serve
    settings = Settings(
        agent=next(iter(models)), adapters=dict.fromkeys(adapters, BASE), options=config.environments,
        max_new_tokens=config.evaluate.max_new_tokens,
        rollout=config.rollout, servers=options.servers, max_sessions=options.max_sessions,
        session_idle_s=options.session_idle_s, requests_per_minute=options.requests_per_minute,
        max_body_bytes=options.max_body_bytes, key=key,
    )  # fmt: skip
    _check_gpus(config, len(models))
    configs = [
        _llm(config.engine, config.serve, name, directory, adapters if name == BASE else {})
        for name, directory in models.items()
    ]
    routes = {method: _route(*route) for method, route in ROUTES.items()}
    ingress = make_fastapi_ingress(AgentIngress, endpoint_map=routes, app=api(settings))
    front = serve.deployment(
        ingress, name="AgentIngress", num_replicas=1, max_ongoing_requests=1024,
        ray_actor_options={"num_cpus": 0}, graceful_shutdown_timeout_s=5, graceful_shutdown_wait_loop_s=0.5,
    )  # fmt: skip
    return front.bind(
        llm_deployments={each.model_id: build_llm_deployment(each) for each in configs},
        model_cards={each.model_id: _card(each) for each in configs},
        settings=settings,
    )


def _check_gpus(config: PipelineConfig, models: int) -> None:
    """Refuse more GPUs than there are, for which the service would wait for ever.

    Raises:
        ClusterError: the cluster has GPUs, but not enough of them.
    """
    nodes, each = gpus_by_node(), config.engine.tensor_parallel
    options = f"{models} model(s) with serve.min_replicas={config.serve.min_replicas}, engine.tensor_parallel={each}"
    if sum(nodes) and (reason := lack(models * config.serve.min_replicas, each, nodes, options)) is not None:
        raise ClusterError(reason)


def _route(method: str, path: str, options: dict[str, Any]) -> Any:
    def add(app: FastAPI) -> Any:
        return app.api_route(path, methods=[method], **options)

    return add


def _card(config: LLMConfig) -> Any:
    from ray.llm._internal.serve.core.configs.openai_api_models import to_model_metadata  # has no public name

    return to_model_metadata(config.model_id, config)


def _llm(
    engine: EngineConfig, options: ServeConfig, name: str, directory: str, adapters: Mapping[str, str]
) -> LLMConfig:
    cuda = usable_gpus() > 0
    arguments = engine_arguments(directory, engine, cuda=cuda, max_len=context_length(directory))
    arguments |= _adapted(adapters) | _calling(directory, engine)
    del arguments["model"]
    environment = vllm_environment(cuda=cuda, kv_cache_gib=engine.cpu_kv_cache_gib) | engine_environment(engine)
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)  # an AsyncLLM has a process of its own
    placement: dict[str, Any] = {}
    if not cuda:
        environment["RAYLLM_VLLM_ENGINE_CLS"] = "atlas_ray.serving.engine.CpuEngine"
        placement = {"accelerator_config": {"kind": "cpu"}, "placement_group_config": {"bundles": [{"CPU": 1}]}}
    scale = {"min_replicas": options.min_replicas, "max_replicas": options.max_replicas, "target_ongoing_requests": 16}
    return LLMConfig(
        model_loading_config={"model_id": name, "model_source": directory},
        engine_kwargs=arguments,
        deployment_config={
            "autoscaling_config": scale, "max_ongoing_requests": 256, "graceful_shutdown_timeout_s": 10,
            "graceful_shutdown_wait_loop_s": 0.5,
            "ray_actor_options": {"num_cpus": 0},  # the placement group reserves the engine's
        },
        runtime_env={"env_vars": environment},
        log_engine_metrics=False,
        **placement,
    )  # fmt: skip


def _adapted(adapters: Mapping[str, str]) -> dict[str, Any]:
    """vLLM's arguments for adapters beside a model."""
    from vllm.config.lora import MaxLoRARanks
    from vllm.entrypoints.openai.models.protocol import LoRAModulePath

    if not adapters:
        return {}
    widest = max(int(json.loads(Path(each, "adapter_config.json").read_text())["r"]) for each in adapters.values())
    rank = next((rank for rank in get_args(MaxLoRARanks) if rank >= widest), widest)
    return {
        "enable_lora": True, "max_loras": len(adapters), "max_lora_rank": rank,
        "lora_modules": [LoRAModulePath(name=name, path=directory) for name, directory in adapters.items()],
    }  # fmt: skip


def _calling(directory: str, engine: EngineConfig) -> dict[str, Any]:
    """vLLM's arguments for tool calls that a model decides on; none where nothing reads its calls."""
    try:
        parser = parser_of(directory, engine.tool_parser)
    except ModelError:
        if engine.tool_parser is not None:
            raise
        return {}
    return {"enable_auto_tool_choice": True, "tool_call_parser": parser.name}


def key_of(options: ServeConfig, *, needed: bool) -> SecretStr | None:
    """The key that clients must send, from the environment.

    Raises:
        ConfigError: a key is needed, because other machines can reach the server, and there is none.
    """
    key = os.environ.get(options.api_key_env)
    if needed and not key:
        raise ConfigError(
            f"serve: other machines could use this server; set {options.api_key_env} to a key that clients must send, "
            "or run atlas-ray serve with serve.host=127.0.0.1"
        )
    return SecretStr(key) if key else None


def _check_port(options: ServeConfig) -> None:
    with socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host, options.port))
        except OSError as error:
            raise ConfigError(
                f"serve.host={options.host}, serve.port={options.port}: {error.strerror}; choose another --serve.port"
            ) from error
