"""Run a selection method over the stored trajectories with Ray Data: the driver's part.

Only row numbers go out and selections come in; they are written as they come, in the order of the trajectories' ids, so
the driver's memory does not grow with the number of trajectories, and the bytes are the same whatever the parallelism.
What differs from run to run (time, retries, answers from the journal) goes to `metrics/select.jsonl`. The stages
themselves are in `graph.py`, `scorer.py` and `selector.py`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from math import ceil
from typing import Any

import pyarrow as pa
import ray
import ray.data

from atlas_ray import models, ray_metrics
from atlas_ray.config import LlmSelectorConfig, PipelineConfig
from atlas_ray.errors import AtlasError, BudgetError, EndpointError, EngineError, ModelError, SelectionError
from atlas_ray.inference.cost import price_of
from atlas_ray.inference.endpoint import SERVED_NAME, LocalEndpoint
from atlas_ray.inference.engine import engine_environment, engine_resources
from atlas_ray.inference.resolve import resolve
from atlas_ray.inference.transport import Endpoint
from atlas_ray.progress import Progress, say
from atlas_ray.selection import graph
from atlas_ray.selection.journal import Journal
from atlas_ray.selection.limits import Limits
from atlas_ray.selection.source import Plan, plan, read
from atlas_ray.selection.summary import Calls, Tally, line, share_of_tokens, step_tokens
from atlas_ray.store import GROUP_ROWS, Store
from atlas_ray.trajectory import SELECTION_SCHEMA, selection_from_row

SCORING_ROWS = 32
"""Trajectories that a scoring engine gets at a time; fixed, because their company moves the last digits of scores."""
SLOTS_PER_ACTOR = 256
"""Requests that one process of the `llm` method keeps under way, at a thousand or more answers a second."""
_RULE_ROWS = 1024
_AHEAD = 8
"""Trajectories for each slot that a process of the `llm` method holds: those that pause before another try, and those
that wait for them to be written in order, must not leave slots empty."""
_STAND_IN_CONCURRENCY = 8
_STAND_IN_TIMEOUT_S = 600.0


def select(
    config: PipelineConfig,
    store: Store,
    method: str,
    ids: Collection[str] | None = None,
    *,
    scorer_model: str | None = None,
) -> dict[str, Any]:
    """Run one method over stored trajectories and write `selections/<method>/`, one row a trajectory, sorted by id.

    Args:
        config: of the run; `select`, `seed` and `engine` count here.
        store: the run directory. `non_critical` and `hybrid` read the selections they are made of from it.
        method: `llm`, `perplexity`, `random`, `non_critical`, `all` or `hybrid`.
        ids: the trajectories to judge; None: all of them.
        scorer_model: whose perplexity counts, as `models.resolve` takes it; None: `config.model`.

    Returns:
        How many `trajectories` and how many `error_rows` among them.

    Raises:
        SelectionError: the method is unknown, or a selection that it needs is missing.
        EndpointError: the selector endpoint refused for good; every answer so far is kept.
        BudgetError: the budget is spent; every answer is kept.
        EngineError: a scoring engine or the local endpoint did not start.
        ModelError: the scoring model cannot be used.
    """
    start = time.monotonic()
    if method not in _GRAPHS:
        raise SelectionError(f"unknown selection method {method!r}; choose one of {', '.join(_GRAPHS)}")
    tally = Tally(method)
    with ExitStack() as stack:
        write = stack.enter_context(store.table_writer(SELECTION_SCHEMA, "selections", method, "part-0.parquet"))
        rows = {"llm": _llm_rows(config), "perplexity": SCORING_ROWS}.get(method, _RULE_ROWS)
        work = plan(store, ids, rows)
        if work.chunks:
            dataset = _GRAPHS[method](config, store, work, scorer_model or config.model, stack)
            dataset.set_name(f"select {method}")  # in Ray's dashboard
            _collect(dataset, tally, work.n_trajectories, write)
    shares = _share_of_tokens(config, store, method, work)
    summary = tally.summary(shares, time.monotonic() - start)
    store.append([summary], "metrics", "select.jsonl")
    say(f"  select {method}: {line(summary)}")
    return {"trajectories": tally.rows, "error_rows": tally.error_rows}


def _rule(stage: Any, **options: Any) -> Callable[..., ray.data.Dataset]:
    """The graph of a method that asks nobody; an option that is a function is called with the config."""

    def build(config: PipelineConfig, store: Store, work: Plan, scorer: str, stack: ExitStack) -> ray.data.Dataset:
        del scorer, stack
        given = {name: value(config) for name, value in options.items()}
        _must_exist(store, given.get("weights") or [name for name in (given.get("complement_of"),) if name])
        common = {"run_dir": store.url, "ratio": config.select.ratio, "seed": config.seed}
        per_task = max(1, min(_RULE_ROWS // 64, ceil(len(work.chunks) / _cpus())))
        return _dataset(work, per_task).map_batches(
            stage, batch_format="pyarrow", batch_size=None, fn_kwargs=common | given, num_cpus=1
        )

    return build


def _must_exist(store: Store, methods: Collection[str]) -> None:
    for name in methods:
        if not any(file.endswith(".parquet") for file in store.names("selections", name)):
            raise SelectionError(f"the selection {name!r} has not been made; run it over the same trajectories first")


def _perplexity(config: PipelineConfig, store: Store, work: Plan, scorer: str, stack: ExitStack) -> ray.data.Dataset:
    del stack
    dataset = _scored(config, store, work, _dataset(work, 1), scorer)
    reference = config.select.perplexity.reference_model
    if reference is not None:  # one model after the other, so that both need not fit beside each other
        dataset = _scored(config, store, work, dataset.materialize(), reference)
    options = {"run_dir": store.url, "ratio": config.select.ratio, "seed": config.seed}
    return dataset.map_batches(
        graph.select_perplexity, batch_format="pyarrow", batch_size=None, fn_kwargs=options, num_cpus=0.5
    )


def _scored(
    config: PipelineConfig, store: Store, work: Plan, dataset: ray.data.Dataset, model: str
) -> ray.data.Dataset:
    from atlas_ray.selection.scorer import Scorer

    path = models.resolve(model, trust_remote_code=config.trust_remote_code)
    models.load_tokenizer(path)  # a model that cannot be used fails here, with one line
    engine = config.engine
    name = model.removeprefix(store.root + "/")  # the same in a run directory that was moved
    return dataset.map_batches(
        Scorer,
        fn_constructor_args=(model, name, engine, store.url, config.trust_remote_code),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(engine.replicas, len(work.chunks))),
        runtime_env={"env_vars": engine_environment(engine)},
        **engine_resources(engine),
    )


def _llm(config: PipelineConfig, store: Store, work: Plan, scorer: str, stack: ExitStack) -> ray.data.Dataset:
    from atlas_ray.selection.selector import LlmSelector

    del scorer
    selector, price = config.select.llm, (0.0, 0.0)
    endpoint = resolve(selector, os.environ)
    stand_in = endpoint is None
    if endpoint is None:
        endpoint, identity, selector = _stand_in(config, stack)
    else:
        identity = endpoint.model
        price = price_for(selector, identity)
    say(f"  select llm: asking {identity} at {endpoint.base_url}" + (", a stand-in not to be trusted" * stand_in))
    limits = None
    if selector.requests_per_minute or selector.tokens_per_minute or selector.budget_usd:
        spent = Journal(store).spent_usd() if selector.budget_usd else 0.0
        limits = (
            ray.remote(num_cpus=0)(Limits)
            .options(name=ray_metrics.actor_name("selector limits"))
            .remote(selector.requests_per_minute, selector.tokens_per_minute, selector.budget_usd, spent)
        )
    actors = max(1, min(ceil(selector.concurrency / SLOTS_PER_ACTOR), _cpus()))
    slots, rows = max(1, selector.concurrency // actors), _llm_rows(config)
    chunks = 2 if rows == GROUP_ROWS else 1  # where there are many slots, all wait for what a task costs beside calls
    tasks = ceil(_AHEAD * slots / rows / chunks)
    return _dataset(work, chunks).map_batches(
        LlmSelector,
        fn_constructor_args=(
            endpoint, identity, selector, price, stand_in, slots, config.select.ratio, config.seed, store.url, limits
        ),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors, max_concurrent_calls_per_actor=tasks),
        num_cpus=0.5,
    )  # fmt: skip


def _llm_rows(config: PipelineConfig) -> int:
    """Trajectories that a process of the `llm` method gets at a time: few, so that progress shows, and not too few."""
    return min(GROUP_ROWS, max(16, config.select.llm.concurrency // 2))


def price_for(selector: LlmSelectorConfig, model: str) -> tuple[float, float]:
    """The price of the selector's model; (0, 0) for one that is not in the table, which is said.

    Raises:
        SelectionError: it is not in the table, but there is a budget to keep.
    """
    price = price_of(selector.prices, model)
    if price is None:
        if selector.budget_usd is not None:
            raise SelectionError(
                f"select.llm.budget_usd needs the price of {model!r}; add it to select.llm.prices: "
                f"{{{model}: [USD per million prompt tokens, USD per million completion tokens]}}"
            )
        say(f"  select llm: no price for {model!r} in select.llm.prices; its cost counts as 0")
    return price or (0.0, 0.0)


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
        "budget_usd": None,
    }
    return Endpoint(base_url=url, model=SERVED_NAME), identity, selector.model_copy(update=slower)


_GRAPHS: Mapping[str, Callable[[PipelineConfig, Store, Plan, str, ExitStack], ray.data.Dataset]] = {
    "llm": _llm,
    "perplexity": _perplexity,
    "random": _rule(graph.select_random),
    "non_critical": _rule(graph.select_non_critical, complement_of=lambda config: config.select.complement_of),
    "all": _rule(graph.select_all),
    "hybrid": _rule(graph.select_hybrid, weights=lambda config: dict(config.select.hybrid.weights)),
}


def _dataset(work: Plan, chunks_per_task: int) -> ray.data.Dataset:
    """The chunks in blocks of so many, in order: Ray Data would make one block of a small input."""
    table = graph.chunk_table(work.chunks)
    blocks = [table.slice(start, chunks_per_task) for start in range(0, table.num_rows, chunks_per_task)]
    dataset = ray.data.from_arrow(blocks)
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False  # `Progress` prints lines, which read better in a job's log
    dataset.context.print_on_execution_start = False
    return dataset


def _collect(dataset: ray.data.Dataset, tally: Tally, total: int, write: Callable[[pa.Table], None]) -> None:
    progress = Progress(f"select {tally.method}", total, "trajectories")
    spent: AtlasError | None = None
    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            error = graph.stopped(batch)
            if isinstance(error, BudgetError):
                spent = error  # questions under way are paid for: their answers are waited for
            elif error is not None:
                raise error
            if spent is not None:
                continue
            rows = batch.drop_columns(list(graph.EXTRA))
            taken = zip(batch["n_steps"].to_pylist(), batch["calls"].to_pylist(), strict=True)
            for row, (n_steps, calls) in zip(rows.to_pylist(), taken, strict=True):
                tally.add(selection_from_row(row), n_steps, Calls(**json.loads(calls)))
            write(rows.select(SELECTION_SCHEMA.names).cast(SELECTION_SCHEMA))
            progress.add(batch.num_rows, lambda: f"{tally.error_rows} error rows")
    except ray.exceptions.RayActorError as error:
        raise EngineError(f"a worker of `select {tally.method}` died: {' '.join(str(error).split())[:400]}") from error
    if spent is not None:
        raise spent


def _share_of_tokens(config: PipelineConfig, store: Store, method: str, work: Plan) -> float | None:
    """Mean share of the steps' tokens that was selected; reads the trajectories once more, chunk by chunk."""
    try:
        count = models.token_counter(models.resolve(config.model, trust_remote_code=config.trust_remote_code))
    except ModelError as error:
        say(f"  share of tokens is unknown: {error}")
        return None
    total, n = 0.0, 0
    selections = iter(store.iter_selections(method))
    for chunk in work.chunks:
        trajectories = read(store, chunk)
        tokens = step_tokens(trajectories, count)
        for trajectory in trajectories:
            selection = next(selections)
            if selection.error is None and trajectory.n_steps:
                total += share_of_tokens(selection.steps, tokens[trajectory.trajectory_id])
                n += 1
    return round(total / n, 6) if n else None


def _cpus() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
