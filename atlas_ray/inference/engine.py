"""A vLLM engine in this process: token ids in, token ids out, continuous batching over all requests.

One thread owns the engine and steps it; any thread or event loop may submit requests. vLLM's own AsyncLLM starts one or
two more processes, which triples the start-up time on CPUs and gains nothing where the engine computes on the same
cores. With `tensor_parallel` above 1 vLLM spawns a worker for each GPU. An engine can take the weights of another model
of the same shape, which is much faster than a start (`Engine.load`). `EngineActor` runs the engine on the cluster.
Tokenising is in `chat/`, HTTP in `endpoint.py`.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.util import find_spec
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from atlas_ray.cache import fetched
from atlas_ray.config import EngineConfig
from atlas_ray.errors import ClusterError, EngineError
from atlas_ray.gpus import flaw, gpus_by_node, installation, lack, usable_gpus
from atlas_ray.hashing import content_hash
from atlas_ray.inference.call_parser import parser_of
from atlas_ray.inference.fits import demand_of, processor_dtype, processor_flags
from atlas_ray.inference.scoring import ENTROPY, POSITIONS
from atlas_ray.inference.types import Generation, TokenScores
from atlas_ray.inference.worker import WorkerExtension
from atlas_ray.trajectory import ToolCall

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

_GROUP = "group"
"""Key of `SamplingParams.extra_args`: see `Engine.measure`."""
CPU_BLOCK_SIZE = 32
"""Tokens of a cache block on CPUs; vLLM's default of 128 would keep most agent turns out of the prefix cache."""


def vllm_environment(*, cuda: bool, kv_cache_gib: int) -> dict[str, str]:
    """Environment variables that vLLM must see before it is imported."""
    values = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine's core is in this process, which then must not fork
    }
    if cuda:
        values["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"  # a fork cannot use CUDA once this process has
        if find_spec("flashinfer") is None:
            values["VLLM_USE_FLASHINFER_SAMPLER"] = "0"
        return values
    return values | {
        "TORCHDYNAMO_DISABLE": "1",  # nothing is compiled in eager mode but a 8 s helper of prompt_logprobs
        "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # engines on one host would all bind to the same cores
    }


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
            "enforce_eager": config.enforce_eager,
        }
    return arguments | {
        "dtype": processor_dtype(processor_flags()) if config.dtype == "auto" else config.dtype,
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
        model: a model directory: a path, or the URL of a checkpoint in a run directory on object storage.
        config: engine settings.

    Raises:
        EngineError: vLLM could not be started; the text has its reason.
    """

    def __init__(self, model: str, config: EngineConfig) -> None:
        found = installation()
        if (reason := flaw(found)) is not None:
            raise EngineError(reason)
        cuda = found.gpus > 0
        os.environ.update(vllm_environment(cuda=cuda, kv_cache_gib=config.cpu_kv_cache_gib))
        try:
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine

            directory = fetched(model)
            arguments = engine_arguments(directory, config, cuda=cuda, max_len=context_length(directory))
            self.model, self.max_len = model, int(arguments["max_model_len"])
            self._tool_parser = config.tool_parser
            if cuda:
                _check_card(directory, config, self.max_len)
            arguments["distributed_executor_backend"] = "mp" if cuda and config.tensor_parallel > 1 else "uni"
            arguments["worker_extension_cls"] = f"{WorkerExtension.__module__}.{WorkerExtension.__name__}"
            self._engine: Any = LLMEngine.from_engine_args(EngineArgs(disable_log_stats=True, **arguments))
            self._engine.collective_rpc(WorkerExtension.score_chosen_positions_alone.__name__)
        except EngineError:
            raise
        except Exception as error:  # vLLM raises many kinds of errors; all mean that there is no engine
            raise EngineError(f"vLLM could not load {model}: {type(error).__name__}: {error}") from error
        self._requests: queue.SimpleQueue[list[tuple[list[int], SamplingParams, Future[Any]]] | _Load | None]
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
        stop: list[str] | None = None, tools: list[dict[str, Any]] | None = None,
    ) -> Generation:  # fmt: skip
        """Continue token ids until the end of the turn.

        Args:
            ids: the prompt.
            max_tokens: generated tokens at most; lowered to what the context leaves.
            temperature: 0 is greedy.
            seed: of the sampling.
            stop: texts that end the answer too; they are left out of its text, not of its ids.
            tools: the functions on offer, whose calls are read from the answer; None: nothing is read.

        Raises:
            EngineError: the prompt fills the context, or the engine died.
            ModelError: the model's tool calls cannot be read.
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
        text, calls = answer.text, tuple[ToolCall, ...]()
        if tools is not None:
            written = list(answer.token_ids[: -1 if answer.finish_reason == "stop" else None])
            text, calls = parser_of(self.model, self._tool_parser).read_ids(written, tools)
        return Generation(
            ids=list(answer.token_ids),
            text=text,
            finished=answer.finish_reason == "stop",
            prompt_tokens=len(ids),
            cached_tokens=output.num_cached_tokens or 0,
            tool_calls=calls,
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
        return [found.logprobs for found in self.measure(sequences, spans)]

    def measure(
        self, sequences: list[list[int]], spans: Sequence[Sequence[tuple[int, int]]] | None = None,
        groups: Sequence[str] | None = None,
    ) -> list[TokenScores]:  # fmt: skip
        """Log-probabilities of tokens as `score` gives them, and beside each the entropy of the distribution that the
        token is from; one prefill per sequence for both.

        Args:
            sequences: see `score`.
            spans: see `score`.
            groups: of each sequence; sequences of one group begin alike, and what they share is computed once, up to
                whole blocks of the prefix cache. None: nothing is shared.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        wanted = [
            [token for start, end in spans[index] for token in range(max(start, 1), end)]
            if spans else list(range(1, len(ids))) for index, ids in enumerate(sequences)
        ]  # fmt: skip

        def params(index: int) -> SamplingParams:
            return SamplingParams(
                max_tokens=1, temperature=0.0, prompt_logprobs=1, detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY, skip_reading_prefix_cache=groups is None,
                extra_args={POSITIONS: wanted[index]} | ({_GROUP: groups[index]} if groups else {}),
            )  # fmt: skip

        longest_first = sorted(range(len(sequences)), key=lambda index: -len(sequences[index]))
        futures = self._submit([(sequences[index], params(index)) for index in longest_first])
        scores = [TokenScores([], []) for _ in sequences]
        for index, future in zip(longest_first, futures, strict=True):
            positions = (future.result().prompt_logprobs or [])[1:]
            for at, token in zip(positions, sequences[index][1:], strict=True):
                scores[index].logprobs.append(float(at[token].logprob))
                scores[index].entropies.append(float(at[ENTROPY].logprob))
        if groups is not None and (held := [n for n, found in enumerate(scores) if _lacks(found, wanted[n])]):
            # The cache held wanted tokens too, of an equal or longer sequence, and what is held is not computed.
            again = self.measure([sequences[n] for n in held], [spans[n] for n in held] if spans else None)
            for index, found in zip(held, again, strict=True):
                scores[index] = found
        return scores

    @property
    def is_alive(self) -> bool:
        """False once the engine died or was closed."""
        return self._thread.is_alive()

    def load(self, model: str) -> None:
        """Take the weights of another model, of the same `shape`; requests that came before are answered first.

        Raises:
            EngineError: the weights cannot be read, or the engine has stopped.
        """
        done: Future[None] = Future()
        if not self._thread.is_alive():
            raise EngineError("the engine has stopped")
        self._requests.put(_Load(model, done))
        done.result()

    def close(self) -> None:
        """Stop the engine and give its memory back; requests under way fail with EngineError."""
        self._requests.put(None)
        self._thread.join(timeout=60)
        if self._engine is not None:
            from vllm.distributed import cleanup_dist_env_and_memory

            self._engine.engine_core.shutdown()
            self._engine = None
            gc.collect()
            cleanup_dist_env_and_memory()

    def _load(self, load: _Load) -> None:
        try:
            self._engine.collective_rpc(WorkerExtension.take_weights.__name__, args=(fetched(load.model),))
            if not self._engine.reset_prefix_cache():
                raise RuntimeError("the prefix cache of the model before it is in use")
        except Exception as error:  # as when vLLM starts; whatever weights are there now, they are no model's
            load.done.set_exception(EngineError(f"vLLM could not load {load.model}: {type(error).__name__}: {error}"))
            raise
        self.model = load.model
        load.done.set_result(None)

    def _run(self) -> None:
        waiting: dict[str, Future[Any]] = {}
        try:
            while True:
                while not waiting or not self._requests.empty():
                    together = self._requests.get()
                    if together is None:
                        return
                    if isinstance(together, _Load):
                        while waiting:
                            self._step(waiting)
                        self._load(together)
                        continue
                    for ids, params, future in together:
                        if not future.set_running_or_notify_cancel():
                            continue
                        name = str(next(self._numbers))
                        try:
                            self._engine.add_request(name, _prompt(ids, params), params)
                            waiting[name] = future
                        except ValueError as error:  # a bad request fails alone
                            future.set_exception(EngineError(str(error)))
                self._step(waiting)
        except Exception as error:  # the engine is lost, and all waiting requests with it
            for future in waiting.values():
                if not future.done():
                    future.set_exception(EngineError(f"the engine died: {type(error).__name__}: {error}"))
            raise
        finally:
            for future in waiting.values():
                if not future.done():
                    future.set_exception(EngineError("the engine was closed"))

    def _step(self, waiting: dict[str, Future[Any]]) -> None:
        for output in self._engine.step():
            if output.finished:
                waiting.pop(output.request_id).set_result(output)


@dataclass(frozen=True)
class _Load:
    """Asks the engine's thread for the weights of another model."""

    model: str
    done: Future[None]


def _check_card(model: str, config: EngineConfig, context: int) -> None:
    """Refuse a model that is too large for the card.

    Raises:
        EngineError: it lacks memory.
    """
    from vllm.platforms import current_platform

    card = int(current_platform.get_device_total_memory())
    missing = demand_of(model).shortage(model, context, config.tensor_parallel, card, config.gpu_memory_utilization)
    if missing is not None:
        raise EngineError(missing)


def shape(model: str) -> str:
    """Hash of what must be equal for an engine to take another model's weights: all of a directory but the weights."""
    from transformers import AutoConfig

    from atlas_ray.models import load_tokenizer

    model = fetched(model)
    tokenizer = load_tokenizer(model)
    file = Path(model, "generation_config.json")
    generation = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    facts = [AutoConfig.from_pretrained(model).to_dict(), generation]
    kept = [{name: value for name, value in fact.items() if name not in _ORIGIN} for fact in facts]
    return content_hash([*kept, tokenizer.backend_tokenizer.to_str(), tokenizer.eos_token_id])


_ORIGIN = {"_name_or_path", "name_or_path", "transformers_version"}
"""Entries of a model's settings that say where it comes from, and nothing of what it computes."""


@ray.remote(max_concurrency=1024)
class EngineActor:
    """An `Engine` on the cluster."""

    def __init__(self, model: str, config: EngineConfig) -> None:
        self._engine = Engine(model, config)
        self._loading = asyncio.Lock()

    async def generate(
        self, ids: list[int], *, max_tokens: int, temperature: float = 0.0, seed: int | None = None,
        stop: list[str] | None = None, tools: list[dict[str, Any]] | None = None, model: str | None = None,
    ) -> Generation:  # fmt: skip
        """See `Engine.generate`; an engine that died takes this process with it, so that Ray starts another one.

        `model` is the directory of the model that is to answer; None: of whatever weights are there. An engine that Ray
        has started anew has those that it was made with, so callers that change weights name the model in every call.
        """
        try:
            await self._take(model)
            return await self._engine.generate(
                ids, max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop, tools=tools
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

    async def measure(
        self, sequences: list[list[int]], spans: Sequence[Sequence[tuple[int, int]]] | None = None,
        groups: Sequence[str] | None = None,
    ) -> list[TokenScores]:  # fmt: skip
        """See `Engine.measure`."""
        return await asyncio.to_thread(self._engine.measure, sequences, spans, groups)

    async def ready(self, model: str | None = None) -> int:
        """The context in tokens, once the engine answers as this model; see `generate`."""
        await self._take(model)
        return self._engine.max_len

    async def _take(self, model: str | None) -> None:
        if model is not None and model != self._engine.model:
            async with self._loading:
                if model != self._engine.model:
                    await asyncio.to_thread(self._engine.load, model)


def _prompt(ids: list[int], params: SamplingParams) -> dict[str, Any]:
    """A prompt as vLLM takes it; one of a group shares the prefix cache with its group alone."""
    group = (params.extra_args or {}).get(_GROUP)
    return {"prompt_token_ids": ids} | ({} if group is None else {"cache_salt": group})


def _lacks(found: TokenScores, wanted: Sequence[int]) -> bool:
    """Whether a wanted token has no log-probability."""
    return any(isnan(found.logprobs[token - 1]) for token in wanted)


def engine_resources(config: EngineConfig) -> dict[str, Any]:
    """Ray resources of one engine: its GPUs where the cluster has any, else one CPU.

    Raises:
        ClusterError: the cluster has GPUs, but not enough of them for all engines.
    """
    nodes = gpus_by_node()
    if not sum(nodes):
        return {"num_cpus": 1}
    options = f"engine.replicas={config.replicas} with engine.tensor_parallel={config.tensor_parallel}"
    if (reason := lack(config.replicas, config.tensor_parallel, nodes, options)) is not None:
        raise ClusterError(reason)
    return {"num_gpus": config.tensor_parallel, "num_cpus": 1}


def engine_environment(config: EngineConfig) -> dict[str, str]:
    """Environment variables of an engine's actor: on CPUs its share of the node's cores, where Ray would allow one."""
    if usable_gpus():
        return {}
    cores = min(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
    return {"OMP_NUM_THREADS": str(max(1, min(cores, os.cpu_count() or 1) // config.replicas))}
