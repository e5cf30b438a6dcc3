"""How environment servers reach a model: its engines on the cluster, an endpoint, or a reference policy.

`playing` starts a model's engines and gives its `ModelSpec`, which travels to the servers; in a server, a
`PolicyFactory` makes a policy from it for every episode. When an engine dies, calls go to another engine or wait until
Ray has restarted it; one that is frozen is killed (`watch.py`). An engine that dies again and again is given up, and
the episodes that need it become errors. What an engine does with a call is in `inference/engine.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import ray
from pydantic import SecretStr
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from atlas_ray import ray_metrics
from atlas_ray.config import EndpointConfig, EngineConfig
from atlas_ray.environments.contract import TextEnv
from atlas_ray.errors import AtlasError, EngineError
from atlas_ray.inference.engine import EngineActor, engine_environment, engine_resources, shape
from atlas_ray.inference.types import Generation, Reply
from atlas_ray.models import load_tokenizer
from atlas_ray.progress import say
from atlas_ray.rollout.policy import EndpointPolicy, ModelPolicy, Policy, reference_policy
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.rollout.watch import Watch
from atlas_ray.roster import RosterEntry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from atlas_ray.inference.client import Client

MAX_DEATHS = 3
"""An engine that dies so many times without an answer in between is given up."""
_MAX_RESTARTS = 20
_MOST_CALLS = 1 << 16
"""At a time in one engine, so that a health check never waits for other calls."""
_RESTART_S = 600.0
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ModelSpec:
    """A model as environment servers reach it: by engines, else by an endpoint, else as a reference policy."""

    policy: str = "random"
    """Name of the reference policy that plays where there are neither engines nor an endpoint."""
    directory: str | None = None
    """Of the model whose tokenizer is used."""
    engines: tuple[Any, ...] = ()
    """Handles of `EngineActor`."""
    max_len: int = 0
    """The engines' context in tokens."""
    endpoint: EndpointConfig | None = None
    secret: SecretStr | None = None
    """The endpoint's key; never shown."""


class Engines:
    """Engine actors that play one model after the other; Ray restarts those that die.

    A model of the same shape as the one before (`inference.engine.shape`) gets the engines by having its weights read
    into them, which takes seconds where a start takes half a minute. Any other model gets new ones.

    Args:
        config: of the engines.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._shape: str | None = None
        self._handles: list[Any] = []
        self._watch: Watch | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def of(self, model: str, directory: str) -> ModelSpec:
        """The engines with a model's weights; what was played by them before must have ended.

        Args:
            model: its name, for messages.
            directory: of the model.

        Raises:
            EngineError: an engine did not start, or cannot read the weights.
            ModelError: the model has no tokenizer.
        """
        load_tokenizer(directory)  # refuse a model without tokenizer before an engine starts
        wanted = shape(directory)
        try:
            if self._handles and wanted == self._shape:
                say(f"  {model}: its weights go into the {self._config.replicas} vLLM engine(s) of the model before")
                with suppress(RayActorError):  # an engine died meanwhile
                    return self._ready(directory)
            self._release()
            say(f"  {model}: starting {self._config.replicas} vLLM engine(s)")
            self._start(model, directory)
            self._shape = wanted
            return self._ready(directory)
        except RayError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[-1]
            raise EngineError(f"the engine for {model} ({directory}) did not start: {reason}") from error

    def _ready(self, directory: str) -> ModelSpec:
        lengths = ray.get([handle.ready.remote(directory) for handle in self._handles])
        return ModelSpec(directory=directory, engines=tuple(self._handles), max_len=min(lengths))

    def _start(self, model: str, directory: str) -> None:
        config = self._config
        self._handles = [
            EngineActor.options(  # type: ignore[attr-defined]
                name=ray_metrics.actor_name(f"engine {model}"), max_restarts=_MAX_RESTARTS, max_task_retries=0,
                max_concurrency=_MOST_CALLS, runtime_env={"env_vars": engine_environment(config)},
                **engine_resources(config),
            ).remote(directory, config)
            for _ in range(config.replicas)
        ]  # fmt: skip
        self._watch = Watch(self._handles)

    def _release(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        for handle in self._handles:
            ray.kill(handle)
        self._handles.clear()


@contextmanager
def engines(config: EngineConfig, model: str, directory: str) -> Iterator[ModelSpec]:
    """Engines of one model, until the block ends; see `Engines.of`."""
    with Engines(config) as kept:
        yield kept.of(model, directory)


@contextmanager
def playing(entry: RosterEntry, engine: EngineConfig, kept: Engines | None = None) -> Iterator[ModelSpec]:
    """A model of the run, ready to play; its engines, where it needs any, live until the block ends.

    Args:
        entry: the model.
        engine: settings of the engines.
        kept: engines to use, which live on; None: its own.

    Raises:
        EngineError: an engine did not start.
        ModelError: the model has no tokenizer.
    """
    if entry.endpoint is not None:
        yield endpoint_model(entry.endpoint, os.environ.get(entry.endpoint.api_key_env, "").strip())
    elif entry.directory is None:
        yield ModelSpec(policy=entry.name)
    elif kept is not None:
        yield kept.of(entry.name, entry.directory)
    else:
        with engines(engine, entry.name, entry.directory) as model:
            yield model


def endpoint_model(config: EndpointConfig, key: str) -> ModelSpec:
    """A model behind an endpoint; `key` is the endpoint's key, empty where it needs none."""
    return ModelSpec(endpoint=config, secret=SecretStr(key or "none"))


class PolicyFactory:
    """Makes the policies of a server's episodes: slots are threads, calls to models run on the server's event loop.

    Args:
        model: what plays.
        loop: the server's.
    """

    def __init__(self, model: ModelSpec, loop: asyncio.AbstractEventLoop) -> None:
        self._model, self._loop = model, loop
        self._engines = _Handles(model.engines, model.directory)
        self._client: Client | None = None

    def policy(self, env: TextEnv, spec: EpisodeSpec) -> Policy:
        """The policy of one episode."""
        if self._model.endpoint is not None:
            return EndpointPolicy(self._complete, spec)
        if not self._model.engines:
            return reference_policy(self._model.policy, env, spec)
        # episodes of one task share a prefix, so they go to the same engine, whose cache has it
        preferred = spec.task % len(self._model.engines)

        def generate(ids: list[int], *, timeout_s: float, **sampling: Any) -> Generation:
            return self._wait(self._engines.generate(preferred, ids, **sampling), timeout_s)

        return ModelPolicy(tokenizer(str(self._model.directory)), generate, max_len=self._model.max_len, spec=spec)

    def _complete(self, messages: list[dict[str, str]], *, timeout_s: float, **sampling: Any) -> Reply:
        return self._wait(self._ask(messages, sampling), timeout_s)

    async def _ask(self, messages: list[dict[str, str]], sampling: dict[str, Any]) -> Reply:
        if self._client is None:
            from atlas_ray.inference.client import Client
            from atlas_ray.inference.transport import Endpoint

            config = self._model.endpoint
            assert config is not None
            assert self._model.secret is not None
            self._client = Client(
                Endpoint(base_url=config.base_url, model=config.model, key=self._model.secret),
                timeout_s=config.timeout_s, max_retries=config.max_retries, concurrency=config.concurrency,
            )  # fmt: skip
        return await self._client.complete(messages, **sampling)

    def _wait(self, call: Coroutine[Any, Any, _Result], timeout_s: float) -> _Result:
        """The result of a coroutine that runs on the server's loop."""
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise


class _Handles:
    """Engines that may die: a call goes to its preferred engine while that is up, else to the next one."""

    def __init__(self, handles: tuple[Any, ...], directory: str | None) -> None:
        self._handles, self._directory = handles, directory
        self._lives = [0] * len(handles)
        """Deaths seen: one death breaks many calls, and must be counted once."""
        self._deaths = [0] * len(handles)
        """Deaths without an answer in between."""
        self._restarts: dict[int, asyncio.Task[None]] = {}

    async def generate(self, preferred: int, ids: list[int], **sampling: Any) -> Generation:
        """See `Engine.generate`.

        Raises:
            EngineError: the request was refused, or every engine was given up.
        """
        while True:
            index = await self._engine(preferred)
            life = self._lives[index]
            try:
                call = self._handles[index].generate.remote(ids, model=self._directory, **sampling)
                answer: Generation = await call
            except RayActorError as error:
                self._died(index, life, error)
            except RayTaskError as error:
                raise error.cause if isinstance(error.cause, AtlasError) else EngineError(str(error.cause)) from None
            else:
                self._deaths[index] = 0
                return answer

    async def _engine(self, preferred: int) -> int:
        """The first engine that is up, from the preferred one on; where none is up, the first that is restarted."""
        order = [(preferred + i) % len(self._handles) for i in range(len(self._handles))]
        while True:
            alive = [i for i in order if self._deaths[i] < MAX_DEATHS]
            if not alive:
                raise EngineError(f"every engine died {MAX_DEATHS} times without an answer in between; see Ray's logs")
            for index in alive:
                if index not in self._restarts:
                    return index
            await asyncio.wait([self._restarts[i] for i in alive], return_when=asyncio.FIRST_COMPLETED)

    def _died(self, index: int, life: int, error: RayActorError) -> None:
        if life != self._lives[index]:
            return  # another call has seen this death
        self._lives[index] += 1
        self._deaths[index] += 1
        task = asyncio.get_running_loop().create_task(self._restart(index))
        self._restarts[index] = task
        task.add_done_callback(lambda _: self._restarts.pop(index, None))

    async def _restart(self, index: int) -> None:
        """Wait until Ray has restarted the engine; give it up where it does not."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _RESTART_S
        while self._deaths[index] < MAX_DEATHS and loop.time() < end:
            try:
                await self._handles[index].ready.remote()
                return
            except ActorDiedError:
                self._deaths[index] += 1
            except RayError:  # it is being restarted
                pass
            await asyncio.sleep(0.5)
        self._deaths[index] = MAX_DEATHS


@cache
def tokenizer(directory: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model directory, loaded once a process."""
    return load_tokenizer(directory)
