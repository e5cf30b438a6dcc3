"""Ray Serve LLM's engine for CPUs, in two processes instead of four.

vLLM starts a process per worker so that it can bind threads to cores, which is switched off here (`vllm_environment`).
Ray starts one more to fetch the model, which is a local directory here. Each of these processes imports vLLM; on two
cores that took half of the start-up time. On GPUs, Ray's own engine class is used.
"""

from __future__ import annotations

from typing import Any

from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine  # has no public name


class CpuEngine(VLLMEngine):  # type: ignore[misc]
    """Ray's vLLM engine without the processes that a CPU does not need."""

    async def start(self) -> None:
        """Start the engine without fetching the model."""
        self.llm_config.get_or_create_callback().ctx.run_init_node = False
        await super().start()

    def _prepare_engine_config(self, callback_ctx: Any) -> tuple[Any, Any, Any]:
        arguments, frontend, config = super()._prepare_engine_config(callback_ctx)
        arguments.distributed_executor_backend = config.parallel_config.distributed_executor_backend = "uni"
        return arguments, frontend, config
