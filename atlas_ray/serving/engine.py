"""The engine of a served model on CPUs: Ray Serve LLM's, in two processes instead of four.

vLLM's workers have a process each so that they can bind threads to cores, which is off here (`vllm_environment`), and
Ray fetches the model in one more, where it is a directory that is there already. Each of them imports vLLM: on two
cores that was half of the start. GPUs keep Ray's own.
"""

from __future__ import annotations

from typing import Any

from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine  # has no public name


class CpuEngine(VLLMEngine):  # type: ignore[misc]
    """See the module."""

    async def start(self) -> None:
        """Start the engine, without a look for the model on other nodes."""
        self.llm_config.get_or_create_callback().ctx.run_init_node = False
        await super().start()

    def _prepare_engine_config(self, callback_ctx: Any) -> tuple[Any, Any, Any]:
        arguments, frontend, config = super()._prepare_engine_config(callback_ctx)
        arguments.distributed_executor_backend = config.parallel_config.distributed_executor_backend = "uni"
        return arguments, frontend, config
