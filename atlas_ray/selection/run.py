"""Run a selection method over trajectories with Ray Data: the driver's part.

Results are written once, sorted, and are the same bytes whatever the parallelism; what differs from run to run (time,
retries, answers from the journal) goes to `metrics/select.jsonl`. The stages themselves are in `graph.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from math import ceil
from typing import Any

import pyarrow as pa
import ray
import ray.data

from atlas_ray import models
from atlas_ray.config import LlmSelectorConfig, PipelineConfig
from atlas_ray.errors import EndpointError, EngineError, ModelError, SelectionError, StoreError
from atlas_ray.inference.client import Endpoint, resolve
from atlas_ray.inference.endpoint import SERVED_NAME, LocalEndpoint
from atlas_ray.inference.engine import engine_environment, engine_resources
from atlas_ray.progress import Progress, say
from atlas_ray.selection import graph
from atlas_ray.selection.summary import Calls, line, step_tokens, summarise
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection, Trajectory

SCORING_BATCH = 16
"""Trajectories per call of a scoring engine; fixed, because a batch's company moves the last digits of its scores."""
SLOTS_PER_ACTOR = 64
"""Requests that one process of the `llm` method keeps under way."""
_RULE_BATCH = 1024
_STAND_IN_CONCURRENCY = 8
_STAND_IN_TIMEOUT_S = 600.0


def select(
    config: PipelineConfig,
    store: Store,
    method: str,
    trajectories: list[Trajectory],
    *,
    scorer_model: str | None = None,
) -> list[Selection]:
    """Run one method over the trajectories and write `selections/<method>/`.

    Args:
        config: of the run; `select`, `seed` and `engine` count here.
        store: the run directory. `non_critical` reads the selection it complements from it.
        method: `llm`, `perplexity`, `random`, `non_critical` or `all`.
        trajectories: what to judge; their ids must be distinct.
        scorer_model: whose perplexity counts, as `models.resolve` takes it; None: `config.model`.

    Returns:
        One selection a trajectory, sorted by trajectory id.

    Raises:
        SelectionError: the method is unknown, ids repeat, or the complemented selection is missing.
        EndpointError: the selector endpoint refused for good; every answer so far is kept.
        EngineError: a scoring engine or the local endpoint did not start.
        ModelError: the scoring model cannot be used.
    """
    start = time.monotonic()
    if len({trajectory.trajectory_id for trajectory in trajectories}) < len(trajectories):
        raise SelectionError("two trajectories have the same trajectory_id; give each its own")
    selections: list[Selection] = []
    calls = Calls()
    if trajectories:
        with ExitStack() as stack:
            dataset = _graph(config, store, method, trajectories, scorer_model or config.model, stack)
            selections, calls = _collect(dataset, f"select {method}", len(trajectories))
    selections.sort(key=lambda selection: selection.trajectory_id)
    store.write_selections(method, selections)
    tokens = _tokens(config, trajectories)
    summary = summarise(method, trajectories, selections, calls, tokens, time.monotonic() - start)
    store.append([summary], "metrics", "select.jsonl")
    say(f"  select {method}: {line(summary)}")
    return selections


def _graph(
    config: PipelineConfig, store: Store, method: str, trajectories: list[Trajectory], scorer: str, stack: ExitStack
) -> ray.data.Dataset:
    options = {"ratio": config.select.ratio, "seed": config.seed}
    if method == "all":
        return _rule(graph.select_all, graph.input_table(trajectories), options)
    if method == "random":
        return _rule(graph.select_random, graph.input_table(trajectories), options)
    if method == "non_critical":
        critical = _complemented(config.select.complement_of, store, trajectories)
        return _rule(graph.select_non_critical, graph.input_table(trajectories, critical), options)
    if method == "perplexity":
        return _perplexity(config, store, trajectories, scorer)
    if method == "llm":
        return _llm(config, store, trajectories, stack)
    raise SelectionError(f"unknown selection method {method!r}; choose llm, perplexity, random, non_critical or all")


def _rule(stage: Any, table: pa.Table, options: dict[str, Any]) -> ray.data.Dataset:
    rows = min(_RULE_BATCH, ceil(table.num_rows / _cpus()))
    return _dataset(table, rows).map_batches(stage, batch_format="pyarrow", fn_kwargs=options, num_cpus=1)


def _perplexity(config: PipelineConfig, store: Store, trajectories: list[Trajectory], scorer: str) -> ray.data.Dataset:
    path = models.resolve(scorer, trust_remote_code=config.trust_remote_code)
    models.load_tokenizer(path)  # a model that cannot be used fails here, with one line
    by_length = sorted(
        trajectories, key=lambda t: (-sum(len(message.content) for message in t.messages), t.trajectory_id)
    )
    engine, resources = config.engine, engine_resources(config.engine)
    name = scorer.removeprefix(store.root + "/")  # the same in a run directory that was moved
    return _dataset(graph.input_table(by_length), SCORING_BATCH).map_batches(
        graph.PerplexityScorer,
        fn_constructor_args=(scorer, name, engine, config.select.ratio, config.seed, config.trust_remote_code),
        batch_size=SCORING_BATCH,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(engine.replicas, ceil(len(trajectories) / SCORING_BATCH))),
        runtime_env={"env_vars": engine_environment(engine)},
        **resources,
    )


def _llm(config: PipelineConfig, store: Store, trajectories: list[Trajectory], stack: ExitStack) -> ray.data.Dataset:
    selector = config.select.llm
    endpoint = resolve(selector, os.environ)
    stand_in = endpoint is None
    if endpoint is None:
        endpoint, identity, selector = _stand_in(config, stack)
    else:
        identity = endpoint.model
    say(f"  select llm: asking {identity} at {endpoint.base_url}" + (", a stand-in not to be trusted" * stand_in))
    bucket = None
    if selector.requests_per_minute is not None:
        bucket = ray.remote(num_cpus=0)(graph.TokenBucket).remote(selector.requests_per_minute)
    actors = max(1, min(ceil(selector.concurrency / SLOTS_PER_ACTOR), _cpus()))
    slots = max(1, selector.concurrency // actors)
    rows = max(1, min(16, ceil(len(trajectories) / (8 * actors))))
    return _dataset(graph.input_table(trajectories), rows).map_batches(
        graph.LlmSelector,
        fn_constructor_args=(
            endpoint, identity, selector, stand_in, slots, config.select.ratio, config.seed, store.url, bucket
        ),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors, max_concurrent_calls_per_actor=ceil(2 * slots / rows)),
        num_cpus=0.5,
    )  # fmt: skip


def _stand_in(config: PipelineConfig, stack: ExitStack) -> tuple[Endpoint, str, LlmSelectorConfig]:
    """The run's own base model (in the quickstart the one on board), served locally until `stack` closes."""
    selector = config.select.llm
    if selector.model is not None:
        raise EndpointError(
            f"select.llm.model is {selector.model!r}, but no endpoint is named; set {selector.api_key_env}, "
            "OPENAI_BASE_URL or select.llm.base_url"
        )
    identity = os.path.basename(config.model.rstrip("/"))
    say(f"  select llm: no endpoint is configured; starting a local one where {identity} stands in")
    path = models.resolve(config.model, trust_remote_code=config.trust_remote_code)
    url = stack.enter_context(LocalEndpoint(path, config.engine))
    slower = {
        "concurrency": min(selector.concurrency, _STAND_IN_CONCURRENCY),
        "timeout_s": max(selector.timeout_s, _STAND_IN_TIMEOUT_S),
    }
    return Endpoint(base_url=url, model=SERVED_NAME), identity, selector.model_copy(update=slower)


def _complemented(method: str, store: Store, trajectories: Sequence[Trajectory]) -> dict[str, Selection]:
    try:
        critical = {selection.trajectory_id: selection for selection in store.read_selections(method)}
    except StoreError as error:
        raise SelectionError(f"non_critical needs the selection {method!r}: {error}") from error
    missing = [t.trajectory_id for t in trajectories if t.trajectory_id not in critical]
    if missing:
        raise SelectionError(
            f"the selection {method!r} has no row for {len(missing)} trajectories (the first is {missing[0]!r}); "
            f"run {method} over the same trajectories first"
        )
    return critical


def _dataset(table: pa.Table, rows_per_block: int) -> ray.data.Dataset:
    """The table in blocks of so many rows, in order: Ray Data would make one block of a small input."""
    blocks = [table.slice(start, rows_per_block) for start in range(0, table.num_rows, rows_per_block)]
    dataset = ray.data.from_arrow(blocks)
    dataset.context.enable_progress_bars = False  # `Progress` prints lines, which read better in a job's log
    dataset.context.print_on_execution_start = False
    return dataset


def _collect(dataset: ray.data.Dataset, label: str, total: int) -> tuple[list[Selection], Calls]:
    selections: list[Selection] = []
    calls = Calls()
    progress = Progress(label, total, "trajectories")

    def error_rows() -> str:
        return f"{sum(row.error is not None for row in selections)} error rows"

    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            rows, taken = graph.read_output(batch)
            selections += rows
            calls.add(taken)
            progress.add(len(rows), error_rows)
    except ray.exceptions.RayActorError as error:
        raise EngineError(f"a worker of `{label}` died: {' '.join(str(error).split())[:400]}") from error
    return selections, calls


def _tokens(config: PipelineConfig, trajectories: Sequence[Trajectory]) -> dict[str, list[int]] | None:
    try:
        path = models.resolve(config.model, trust_remote_code=config.trust_remote_code)
        return step_tokens(trajectories, models.load_tokenizer(path))
    except ModelError as error:
        say(f"  share of tokens is unknown: {error}")
        return None


def _cpus() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
