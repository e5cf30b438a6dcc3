"""Method `perplexity`: the steps that a model finds hardest to generate (paper Appendix B.2, equation 5).

Scores come from one pass over the whole trajectory. A trajectory longer than the model's context is scored in
overlapping windows. With a reference model the score is the difference between two models. The engines compute the
log-probabilities (`inference/engine.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from math import exp, fsum, isfinite, log
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from atlas_ray import models
from atlas_ray.chat import Encoded, encode_all
from atlas_ray.errors import AtlasError, DataError
from atlas_ray.section import Section
from atlas_ray.selection.batches import chunks_of, dataset, error_from, output_table, stop_table, tables
from atlas_ray.selection.budget import highest
from atlas_ray.selection.chunks import Chunk, read
from atlas_ray.selection.method import Method, SelectionContext
from atlas_ray.store import Store
from atlas_ray.trajectory import Trajectory

if TYPE_CHECKING:
    import ray.data

    from atlas_ray.config import EngineConfig
    from atlas_ray.selection.chunks import Plan


LOWEST_LOGPROB = -700.0
"""Natural logarithm; what is below is no probability that a model gave, but a mark such as -inf or vLLM's -9999."""
_ROUNDING = 1e-3
"""What arithmetic in 16 bits may add to the logarithm of a probability of 1."""


class ScoreError(ValueError):
    """A model's log-probability that is no number, or none that a model can give."""


class PerplexityOptions(Section):
    """Method `perplexity` (paper Appendix B.2)."""

    reference_model: str | None = None
    """None: the score is the perplexity under the model that tuning starts from. A model, as `model` takes it (a tuned
    checkpoint's directory): the score is the mean negative log-likelihood under the former less that under this one."""


class PerplexitySteps(Method):
    """The budget's number of steps with the highest score; of equal steps the earlier."""

    summary = "steps that the model finds hardest to write, or writes much more easily once it is tuned"
    source = "paper B.2"
    needs = "one prefill per trajectory; two with a reference model"
    color = ("#c2410c", "#ff9a5c")
    Options = PerplexityOptions
    rows_per_chunk = 32  # fixed, because the other sequences of a batch move the last digits of a score

    def depends_on(self, context: SelectionContext) -> Any:
        """The scoring models, and the engine's context and data type."""
        config, reference = context.config, self.options.reference_model
        return [
            context.roster.start().player_key(config.engine),
            reference and models.identity(reference, trust_remote_code=config.trust_remote_code),
        ]

    def tables(self, context: SelectionContext, plan: Plan, stack: ExitStack) -> Iterator[pa.Table]:
        """Score on the engines, then choose; see `Method.tables`.

        Raises:
            ModelError: a model cannot be used.
        """
        del stack
        start, reference = context.roster.start(), self.options.reference_model
        model = context.config.model if start.kind == "base" else str(start.directory)
        scored = _scored(context, plan, dataset(plan, 1, self.spec.name), model)
        if reference is not None:  # one model after the other, so that both need not fit beside each other
            scored = _scored(context, plan, scored.materialize(), reference)
        options = {"method": self, "run_dir": context.store.url}
        return tables(
            scored.map_batches(choose, batch_format="pyarrow", batch_size=None, fn_kwargs=options, num_cpus=0.5)
        )


def _scored(context: SelectionContext, plan: Plan, data: ray.data.Dataset, model: str) -> ray.data.Dataset:
    import ray.data

    from atlas_ray.inference.engine import engine_environment, engine_resources

    config, store = context.config, context.store
    path = models.resolve(model, trust_remote_code=config.trust_remote_code)
    models.load_tokenizer(path)  # a model that cannot be used fails here, with one line
    engine = config.engine
    name = model.removeprefix(store.root + "/")  # the same in a run directory that was moved
    return data.map_batches(
        Scorer,
        fn_constructor_args=(model, name, engine, store.url, config.trust_remote_code),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(engine.replicas, len(plan.chunks))),
        runtime_env={"env_vars": engine_environment(engine)},
        **engine_resources(engine),
    )


# --- the rule --------------------------------------------------------------------------------------------------------
def windows(n_tokens: int, width: int) -> list[tuple[int, int]]:
    """Half-open windows of at most `width` tokens that cover a sequence, each overlapping half of the one before.

    Raises:
        ValueError: `width` is below 2, which leaves nothing to score.
    """
    if width < 2:
        raise ValueError(f"a window needs two tokens or more, found {width}")
    if n_tokens <= width:
        return [(0, n_tokens)]
    starts = range(0, n_tokens - width + width // 2, width // 2)
    return [(min(start, n_tokens - width), min(start, n_tokens - width) + width) for start in starts]


def stitch(spans: Sequence[tuple[int, int]], scores: Sequence[Sequence[float]]) -> list[float]:
    """Log-probabilities of tokens 1.. of a whole sequence from those of its `windows`.

    Where windows overlap, the earlier one counts, which has seen more of what comes before.

    Args:
        spans: the windows, in order.
        scores: for a window of w tokens, its w - 1 log-probabilities.
    """
    whole: list[float] = []
    for (start, _), part in zip(spans, scores, strict=True):
        whole.extend(part[len(whole) - start :])
    return whole


def perplexities(logprobs: Sequence[float], spans: Sequence[tuple[int, int]]) -> tuple[float, ...]:
    """exp(mean negative log-likelihood) of each step.

    Args:
        logprobs: log-probability of token i + 1 given tokens 0 .. i, at index i.
        spans: half-open token span of each step (`chat.Encoded.spans`), none of which starts at token 0.

    Raises:
        ScoreError: a number among them is no log-probability.
    """
    for step, (start, end) in enumerate(spans):
        for token in range(start, end):
            if not LOWEST_LOGPROB <= logprobs[token - 1] <= _ROUNDING:
                raise ScoreError(f"the log-probability of token {token} (step {step}) is {logprobs[token - 1]}")
    return tuple(exp(-fsum(logprobs[start - 1 : end - 1]) / (end - start)) for start, end in spans)


def differences(base: Sequence[float], reference: Sequence[float]) -> tuple[float, ...]:
    """Mean negative log-likelihood of each step under a base model minus that under a reference (tuned) model.

    High where the reference model has learnt what the base model could not foresee.

    Args:
        base: perplexities under the base model.
        reference: perplexities under the reference model, step by step.
    """
    return tuple(log(one) - log(other) for one, other in zip(base, reference, strict=True))


# --- the stages ------------------------------------------------------------------------------------------------------
class Scorer:
    """Stage that scores every trajectory of its chunks with one model: one prefill a trajectory, one score a step.

    The output has, beside `chunk`, `scores` (JSON: for each trajectory its scores and provenance) and `stop` (JSON:
    kind and text of the error that ends the run, or null). An input that has scores already is turned into the
    differences of the mean negative log-likelihoods, first model minus this one.

    Args:
        model: as `models.resolve` takes it.
        name: recorded as the model.
        engine: settings of the engine.
        run_dir: URL of the run directory.
        trust_remote_code: see `models.resolve`.
    """

    def __init__(self, model: str, name: str, engine: EngineConfig, run_dir: str, trust_remote_code: bool) -> None:
        from atlas_ray.inference.engine import Engine

        self._name, self._store = name, Store(run_dir)
        self._broken: AtlasError | None = None
        try:
            path = models.resolve(model, trust_remote_code=trust_remote_code)
            self._tokenizer = models.load_tokenizer(path)
            self._engine = Engine(path, engine)
        except AtlasError as error:
            self._broken = error

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Score the trajectories of every chunk."""
        before = batch.column("scores").to_pylist() if "scores" in batch.column_names else [None] * batch.num_rows
        scores: list[str | None] = []
        stop = self._broken
        for chunk, earlier in zip(chunks_of(batch), before, strict=True):
            if stop is None:
                try:
                    scored = self._score(read(self._store, chunk))
                    scores.append(json.dumps(scored if earlier is None else _difference(json.loads(earlier), scored)))
                    continue
                except AtlasError as error:
                    stop = error
            scores.append(None)
        stops = [None if stop is None else json.dumps([type(stop).__name__, str(stop)])] * batch.num_rows
        return pa.table(
            {
                "chunk": batch.column("chunk"),
                "scores": pa.array(scores, pa.string()),
                "stop": pa.array(stops, pa.string()),
            }
        )

    def _score(self, trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
        """Scores and provenance of each trajectory; the error of one that cannot be tokenised."""
        tokenised = iter(encode_all([each for each in trajectories if each.n_steps], self._tokenizer))
        encoded = [next(tokenised) if each.n_steps else Encoded([], []) for each in trajectories]
        width = self._engine.max_len - 1
        parts: list[tuple[Encoded, tuple[int, int]]] = []
        for each in encoded:
            if not isinstance(each, DataError):
                parts += [(each, (row + a, row + b)) for row, end in each.rows for a, b in windows(end - row, width)]
        steps = [_within(each.spans, start, end) for each, (start, end) in parts]
        scored = iter(self._engine.score([each.ids[start:end] for each, (start, end) in parts], steps))
        results: list[dict[str, Any]] = []
        for each in encoded:
            if isinstance(each, DataError):
                results.append({"error": f"template: {each}"})
                continue
            logprobs: list[float] = []
            count = 0
            for row, end in each.rows:
                spans = windows(end - row, width)
                count += len(spans)
                # Nothing predicts the first token of a row; no step has it.
                logprobs += [0.0] * (row > 0) + stitch(spans, [next(scored) for _ in spans])
            provenance: dict[str, Any] = {"model": self._name}
            if count > len(each.rows):
                provenance["windows"] = {"count": count, "tokens": width}
            try:
                results.append({"scores": perplexities(logprobs, each.spans), "provenance": provenance})
            except ScoreError as error:
                results.append({"error": f"score: {error}", "provenance": provenance})
        return results


def _within(spans: Sequence[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """The parts of the spans that lie in a window, counted from its start."""
    return [(max(a, start) - start, min(b, end) - start) for a, b in spans if a < end and b > start]


def _difference(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for base, reference in zip(first, second, strict=True):
        if "error" in base or "error" in reference:
            rows.append(base if "error" in base else reference)
            continue
        provenance = base["provenance"] | {"reference_model": reference["provenance"]["model"]}
        if "windows" in reference["provenance"]:
            provenance["reference_windows"] = reference["provenance"]["windows"]
        rows.append({"scores": differences(base["scores"], reference["scores"]), "provenance": provenance})
    return rows


def choose(batch: pa.Table, *, method: PerplexitySteps, run_dir: str) -> pa.Table:
    """Last stage: from the scores of the trajectories to their selections."""
    store, selections = Store(run_dir), []
    for row in batch.to_pylist():
        if row["stop"] is not None:
            return stop_table(error_from(*json.loads(row["stop"])))
        chunk = read(store, Chunk.from_json(row["chunk"]))
        for each, found in zip(chunk, json.loads(row["scores"]), strict=True):
            if "error" not in found:
                wrong = [step for step, score in enumerate(found["scores"]) if not isfinite(score)]
                if wrong:
                    found = {"error": f"score: that of step {wrong[0]} is no number"}
            fields = found if "error" in found else {"steps": highest(found["scores"], method.spec.ratio), **found}
            selections.append(method.row(each, **fields))
    return output_table(selections)
