"""A vLLM engine in this process: token ids in, token ids out, continuous batching over all requests.

One thread owns the engine and steps it; any thread or event loop may submit requests. vLLM's own AsyncLLM starts one or
two more processes, which triples the start-up time on CPUs and gains nothing where the engine computes on the same
cores. `EngineActor` runs the engine on the cluster. Tokenising is in `chat/`, HTTP in `endpoint.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import ray

from atlas_ray.config import EngineConfig
from atlas_ray.errors import EngineError
from atlas_ray.gpus import usable_gpus
from atlas_ray.inference.scoring import POSITIONS, score_chosen_positions_alone
from atlas_ray.inference.types import Generation

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

CPU_BLOCK_SIZE = 32
"""Tokens of a cache block on CPUs; vLLM's default of 128 would keep most agent turns out of the prefix cache."""


def vllm_environment(*, cuda: bool, kv_cache_gib: int) -> dict[str, str]:
    """Environment variables that vLLM must see before it is imported."""
    values = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if not cuda:
        values |= {
            "TORCHDYNAMO_DISABLE": "1",  # nothing is compiled in eager mode but a 8 s helper of prompt_logprobs
            "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # engines on one host would all bind to the same cores
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
    return values


def engine_arguments(model: str, config: EngineConfig, *, cuda: bool, max_len: int) -> dict[str, Any]:
    """vLLM's engine arguments for a model, as keyword arguments."""
    arguments: dict[str, Any] = {
        "model": model,
        "max_model_len": min(config.max_model_len, max_len),
        "max_num_seqs": config.max_num_seqs,
        "enable_prefix_caching": True,
    }
    if cuda:
        return arguments | {
            "dtype": config.dtype,
            "tensor_parallel_size": config.tensor_parallel,
            "gpu_memory_utilization": config.gpu_memory_utilization,
        }
    return arguments | {
        "dtype": "float32" if config.dtype == "auto" else config.dtype,
        "enforce_eager": True,
        "block_size": CPU_BLOCK_SIZE,
        # a seeded request whose prompt vLLM cuts in two kills the engine: it winds back a generator, which CPUs' cannot
        "enable_chunked_prefill": False,
    }


def context_length(model: str) -> int:
    """The longest sequence in tokens that a model directory's config allows."""
    from transformers import AutoConfig

    return int(getattr(AutoConfig.from_pretrained(model), "max_position_embeddings", 1 << 30))


class Engine:
    """vLLM in this process.

    Args:
        model: a local model directory.
        config: engine settings.

    Raises:
        EngineError: vLLM could not be started; the text has its reason.
    """

    def __init__(self, model: str, config: EngineConfig) -> None:
        import torch

        cuda = torch.cuda.is_available()
        os.environ.update(vllm_environment(cuda=cuda, kv_cache_gib=config.cpu_kv_cache_gib))
        try:
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine

            arguments = engine_arguments(model, config, cuda=cuda, max_len=context_length(model))
            if not cuda:
                arguments["distributed_executor_backend"] = "uni"
            self.max_len = int(arguments["max_model_len"])
            self._engine: Any = LLMEngine.from_engine_args(EngineArgs(disable_log_stats=True, **arguments))
            if not cuda:
                self._engine.collective_rpc(score_chosen_positions_alone)
        except Exception as error:  # vLLM raises many kinds of errors; all mean that there is no engine
            raise EngineError(f"vLLM could not load {model}: {type(error).__name__}: {error}") from error
        self._requests: queue.SimpleQueue[list[tuple[list[int], SamplingParams, Future[Any]]] | None]
        self._requests = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)
        self._thread.start()

    def submit(self, ids: list[int], params: SamplingParams) -> Future[RequestOutput]:
        """Queue a request; the future holds vLLM's RequestOutput, or an EngineError."""
        return self._submit([(ids, params)])[0]

    def _submit(self, requests: list[tuple[list[int], SamplingParams]]) -> list[Future[Any]]:
        """Queue requests that enter the engine together, so that it batches them the same way every time."""
        futures: list[Future[Any]] = [Future() for _ in requests]
        if not self._thread.is_alive():
            for future in futures:
                future.set_exception(EngineError("the engine has stopped"))
        else:
            self._requests.put([(*request, future) for request, future in zip(requests, futures, strict=True)])
        return futures

    async def generate(
        self, ids: list[int], *, max_tokens: int, temperature: float = 0.0, seed: int | None = None,
        stop: list[str] | None = None,
    ) -> Generation:  # fmt: skip
        """Continue token ids until the end of the turn.

        Args:
            ids: the prompt.
            max_tokens: generated tokens at most; lowered to what the context leaves.
            temperature: 0 is greedy.
            seed: of the sampling.
            stop: texts that end the answer too; they are left out of its text, not of its ids.

        Raises:
            EngineError: the prompt fills the context, or the engine died.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        room = self.max_len - len(ids)
        if room <= 0:
            raise EngineError(f"the prompt of {len(ids)} tokens fills the context of {self.max_len}")
        params = SamplingParams(
            max_tokens=min(max_tokens, room), temperature=temperature, seed=seed, stop=stop,
            output_kind=RequestOutputKind.FINAL_ONLY, skip_special_tokens=True,
        )  # fmt: skip
        output = await asyncio.wrap_future(self.submit(ids, params))
        answer = output.outputs[0]
        return Generation(
            ids=list(answer.token_ids),
            text=answer.text,
            finished=answer.finish_reason == "stop",
            prompt_tokens=len(ids),
            cached_tokens=output.num_cached_tokens or 0,
        )

    def score(
        self, sequences: list[list[int]], spans: Sequence[Sequence[tuple[int, int]]] | None = None
    ) -> list[list[float]]:
        """Log-probability of tokens, given all before them; one prefill per sequence.

        Args:
            sequences: token ids, each shorter than the context.
            spans: for each sequence the half-open spans of the tokens that count, ascending; None: all tokens.

        Returns:
            For each sequence of n tokens, n - 1 natural logarithms, from the second token on; those of tokens outside
            the spans may be NaN.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        def params(index: int) -> SamplingParams:
            wanted = [token for start, end in spans[index] for token in range(max(start, 1), end)] if spans else None
            return SamplingParams(
                max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY, extra_args=None if wanted is None else {POSITIONS: wanted},
            )  # fmt: skip

        longest_first = sorted(range(len(sequences)), key=lambda index: -len(sequences[index]))
        futures = self._submit([(sequences[index], params(index)) for index in longest_first])
        scores: list[list[float]] = [[] for _ in sequences]
        for index, future in zip(longest_first, futures, strict=True):
            positions = (future.result().prompt_logprobs or [])[1:]
            ids = sequences[index][1:]
            scores[index] = [float(at[token].logprob) for at, token in zip(positions, ids, strict=True)]
        return scores

    @property
    def is_alive(self) -> bool:
        """False once the engine died or was closed."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop the engine; requests under way fail with EngineError."""
        self._requests.put(None)
        self._thread.join(timeout=60)

    def _run(self) -> None:
        waiting: dict[str, Future[Any]] = {}
        try:
            while True:
                while not waiting or not self._requests.empty():
                    together = self._requests.get()
                    if together is None:
                        return
                    for ids, params, future in together:
                        if not future.set_running_or_notify_cancel():
                            continue
                        name = str(next(self._numbers))
                        try:
                            self._engine.add_request(name, {"prompt_token_ids": ids}, params)
                            waiting[name] = future
                        except ValueError as error:  # a bad request fails alone
                            future.set_exception(EngineError(str(error)))
                for output in self._engine.step():
                    if output.finished:
                        waiting.pop(output.request_id).set_result(output)
        except Exception as error:  # the engine is lost, and all waiting requests with it
            for future in waiting.values():
                if not future.done():
                    future.set_exception(EngineError(f"the engine died: {type(error).__name__}: {error}"))
            raise
        finally:
            for future in waiting.values():
                if not future.done():
                    future.set_exception(EngineError("the engine was closed"))


@ray.remote(max_concurrency=1024)
class EngineActor:
    """An `Engine` on the cluster."""

    def __init__(self, model: str, config: EngineConfig) -> None:
        self._engine = Engine(model, config)

    async def generate(
        self, ids: list[int], *, max_tokens: int, temperature: float = 0.0, seed: int | None = None,
        stop: list[str] | None = None,
    ) -> Generation:  # fmt: skip
        """See `Engine.generate`; an engine that died takes this process with it, so that Ray starts another one."""
        try:
            return await self._engine.generate(
                ids, max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop
            )
        except EngineError:
            if not self._engine.is_alive:
                os._exit(1)
            raise

    async def score(
        self, sequences: list[list[int]], spans: Sequence[Sequence[tuple[int, int]]] | None = None
    ) -> list[list[float]]:
        """See `Engine.score`."""
        return await asyncio.to_thread(self._engine.score, sequences, spans)

    async def ready(self) -> int:
        """The context in tokens, once the engine answers."""
        return self._engine.max_len


def engine_resources(config: EngineConfig) -> dict[str, Any]:
    """Ray resources of one engine: its GPUs where the cluster has any, else one CPU."""
    if usable_gpus() >= config.tensor_parallel:
        return {"num_gpus": config.tensor_parallel, "num_cpus": 1}
    return {"num_cpus": 1}


def engine_environment(config: EngineConfig) -> dict[str, str]:
    """Environment variables of an engine's actor: on CPUs its share of the node's cores, where Ray would allow one."""
    if usable_gpus() >= config.tensor_parallel:
        return {}
    cores = min(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
    return {"OMP_NUM_THREADS": str(max(1, min(cores, os.cpu_count() or 1) // config.replicas))}
