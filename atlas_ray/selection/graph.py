"""What runs on the cluster: the Ray Data stages, one per method, and the cluster-wide token bucket.

Every stage takes a table of trajectories (`TRAJECTORY_SCHEMA`, and for `non_critical` the other selection) and gives a
table of selections (`SELECTION_SCHEMA`, and what their calls took). An error that ends the run travels in that table
too: Ray Data would wrap it in its own. The stages' names are the operators' names in Ray's dashboard. The rules
themselves are in the files of their methods; the driver's part is in `run.py`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from atlas_ray import errors
from atlas_ray.chat import Encoded, encode
from atlas_ray.config import EngineConfig, LlmSelectorConfig
from atlas_ray.errors import AtlasError
from atlas_ray.inference.client import Client, Endpoint
from atlas_ray.models import load_tokenizer, resolve
from atlas_ray.selection import all as every
from atlas_ray.selection import llm, non_critical, perplexity, random
from atlas_ray.selection.journal import Journal, JournaledClient
from atlas_ray.selection.prompt import ANSWER_SCHEMA
from atlas_ray.selection.summary import Calls
from atlas_ray.store import Store
from atlas_ray.trajectory import (
    TRAJECTORY_SCHEMA,
    Selection,
    Trajectory,
    selection_from_row,
    selections_to_table,
    to_row,
    trajectories_to_table,
    trajectory_from_row,
)


def input_table(trajectories: Sequence[Trajectory], critical: dict[str, Selection] | None = None) -> pa.Table:
    """Trajectories as a stage takes them, each beside its selection in `critical`, if that is given."""
    table = trajectories_to_table(trajectories)
    if critical is None:
        return table
    beside = [json.dumps(to_row(critical[trajectory.trajectory_id])) for trajectory in trajectories]
    return table.append_column("critical", pa.array(beside, pa.string()))


def read_output(table: pa.Table) -> tuple[list[Selection], Calls]:
    """Selections and calls from the table that a stage gave.

    Raises:
        AtlasError: the stage ended the run.
    """
    total = Calls()
    for row in table.column("calls").to_pylist():
        calls = json.loads(row)
        if "stop" in calls:
            kind, text = calls["stop"]
            raise getattr(errors, kind)(text)
        total.add(Calls(**calls))
    return [selection_from_row(row) for row in table.drop_columns(["calls"]).to_pylist()], total


def _trajectories(table: pa.Table) -> list[Trajectory]:
    return [trajectory_from_row(row) for row in table.select(TRAJECTORY_SCHEMA.names).to_pylist()]


def _output_table(selections: Sequence[Selection], calls: Sequence[Calls] | None = None) -> pa.Table:
    taken = [json.dumps(asdict(row)) for row in calls or [Calls()] * len(selections)]
    return selections_to_table(selections).append_column("calls", pa.array(taken, pa.string()))


def _stop_table(error: AtlasError) -> pa.Table:
    """What a stage gives when no row will get a selection any more."""
    row = Selection(trajectory_id="", method="", ratio=1.0, error=str(error))
    stop = json.dumps({"stop": [type(error).__name__, str(error)]})
    return selections_to_table([row]).append_column("calls", pa.array([stop], pa.string()))


def select_all(batch: pa.Table, *, ratio: float, seed: int) -> pa.Table:
    """Stage of method `all`."""
    return _output_table([every.select(trajectory, ratio, seed) for trajectory in _trajectories(batch)])


def select_random(batch: pa.Table, *, ratio: float, seed: int) -> pa.Table:
    """Stage of method `random`."""
    return _output_table([random.select(trajectory, ratio, seed) for trajectory in _trajectories(batch)])


def select_non_critical(batch: pa.Table, *, ratio: float, seed: int) -> pa.Table:
    """Stage of method `non_critical`."""
    critical = [selection_from_row(json.loads(row)) for row in batch.column("critical").to_pylist()]
    pairs = zip(_trajectories(batch), critical, strict=True)
    return _output_table([non_critical.select(trajectory, ratio, seed, other) for trajectory, other in pairs])


class PerplexityScorer:
    """Stage of method `perplexity`: an engine that scores a batch of trajectories, one prefill each.

    Args:
        model: as `models.resolve` takes it.
        name: recorded as the model.
        engine: settings of the engine.
        ratio: share of the steps.
        seed: of the run.
        trust_remote_code: see `models.resolve`.
    """

    def __init__(
        self, model: str, name: str, engine: EngineConfig, ratio: float, seed: int, trust_remote_code: bool
    ) -> None:
        from atlas_ray.inference.engine import Engine

        self._name, self._ratio, self._seed = name, ratio, seed
        self._broken: AtlasError | None = None
        try:
            path = resolve(model, trust_remote_code=trust_remote_code)
            self._tokenizer = load_tokenizer(path)
            self._engine = Engine(path, engine)
        except AtlasError as error:
            self._broken = error

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Select in every trajectory of the batch."""
        if self._broken is not None:
            return _stop_table(self._broken)
        try:
            return _output_table(self._select(_trajectories(batch)))
        except AtlasError as error:
            return _stop_table(error)

    def _select(self, trajectories: Sequence[Trajectory]) -> list[Selection]:
        encoded = [encode(each, self._tokenizer) if each.n_steps else Encoded([], []) for each in trajectories]
        width = self._engine.max_len - 1
        pieces = [perplexity.windows(len(each.ids), width) if each.ids else [] for each in encoded]
        flat = [each.ids[start:end] for each, spans in zip(encoded, pieces, strict=True) for start, end in spans]
        scored = iter(self._engine.score(flat))
        selections = []
        for trajectory, each, spans in zip(trajectories, encoded, pieces, strict=True):
            logprobs = perplexity.stitch(spans, [next(scored) for _ in spans])
            provenance: dict[str, Any] = {"model": self._name}
            if len(spans) > 1:
                provenance["windows"] = {"count": len(spans), "tokens": width}
            scores = perplexity.perplexities(logprobs, each.spans)
            selections.append(perplexity.select(trajectory, self._ratio, self._seed, scores, provenance))
        return selections


class LlmSelector:
    """Stage of method `llm`: questions to the selector, many at a time, each answer kept before it is used.

    Args:
        endpoint: where the questions go.
        identity: what names the model's content, whatever the endpoint calls it.
        config: settings of the selector.
        stand_in: the on-board model serves.
        slots: questions of this actor under way at a time.
        ratio: share of the steps.
        seed: of the run.
        run_dir: URL of the run directory, for the journal.
        bucket: the `TokenBucket` actor; None when nothing limits the rate.
    """

    def __init__(
        self, endpoint: Endpoint, identity: str, config: LlmSelectorConfig, stand_in: bool, slots: int, ratio: float,
        seed: int, run_dir: str, bucket: Any,
    ) -> None:  # fmt: skip
        client = Client(
            endpoint, timeout_s=config.timeout_s, max_retries=config.max_retries, concurrency=slots,
            pace=_pace(bucket) if bucket is not None else None,
        )  # fmt: skip
        sampling = {"temperature": config.temperature, "max_tokens": config.max_tokens}
        self._client = JournaledClient(client, Journal(Store(run_dir)), identity, sampling, ANSWER_SCHEMA)
        self._identity, self._config, self._stand_in = identity, config, stand_in
        self._ratio, self._seed = ratio, seed

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        """Select in every trajectory of the batch, all of them at once as far as there are slots."""
        calls = [Calls() for _ in range(batch.num_rows)]
        pairs = zip(_trajectories(batch), calls, strict=True)
        results = await asyncio.gather(*(self._select(*pair) for pair in pairs), return_exceptions=True)
        selections = []
        for result in results:
            if isinstance(result, AtlasError):
                yield _stop_table(result)
                return
            if isinstance(result, BaseException):
                raise result
            selections.append(result)
        yield _output_table(selections, calls)

    async def _select(self, trajectory: Trajectory, calls: Calls) -> Selection:
        return await llm.select(
            trajectory, self._ratio, self._seed, self._client.asker(calls), model=self._identity,
            max_prompt_chars=self._config.max_prompt_chars, stand_in=self._stand_in,
            price_per_million=(0.0, 0.0) if self._stand_in else self._config.price_per_million,
        )  # fmt: skip


class TokenBucket:
    """A rate limit for the whole cluster, as an actor: even spacing, with a burst of at most one second's worth.

    Args:
        per_minute: requests per minute.
        clock: seconds, for tests.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval, self._clock = 60 / per_minute, clock
        self._next = clock()

    def reserve(self) -> float:
        """Take the next place; returns the seconds to wait for it."""
        now = self._clock()
        place = max(self._next, now - 1 + self._interval)
        self._next = place + self._interval
        return max(0.0, place - now)


def _pace(bucket: Any) -> Callable[[], Awaitable[None]]:
    async def pace() -> None:
        await asyncio.sleep(await bucket.reserve.remote())

    return pace
