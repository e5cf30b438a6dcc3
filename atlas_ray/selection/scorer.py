"""The engines of method `perplexity` on the cluster: one prefill a trajectory, one score a step.

A `Scorer` adds the scores of one model to its chunks; two in a row give the difference of two models. What is chosen by
the scores is decided in `perplexity.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from atlas_ray.chat import Encoded, encode
from atlas_ray.config import EngineConfig
from atlas_ray.errors import AtlasError
from atlas_ray.models import load_tokenizer, resolve
from atlas_ray.selection import perplexity
from atlas_ray.selection.graph import chunks_of
from atlas_ray.selection.source import read
from atlas_ray.store import Store
from atlas_ray.trajectory import Trajectory


class Scorer:
    """Stage that scores every trajectory of its chunks with one model.

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
            path = resolve(model, trust_remote_code=trust_remote_code)
            self._tokenizer = load_tokenizer(path)
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
        encoded = [encode(each, self._tokenizer) if each.n_steps else Encoded([], []) for each in trajectories]
        width = self._engine.max_len - 1
        pieces = [perplexity.windows(len(each.ids), width) if each.ids else [] for each in encoded]
        flat = [(each, *span) for each, spans in zip(encoded, pieces, strict=True) for span in spans]
        steps = [_within(each.spans, start, end) for each, start, end in flat]
        scored = iter(self._engine.score([each.ids[start:end] for each, start, end in flat], steps))
        results = []
        for each, spans in zip(encoded, pieces, strict=True):
            logprobs = perplexity.stitch(spans, [next(scored) for _ in spans])
            provenance: dict[str, Any] = {"model": self._name}
            if len(spans) > 1:
                provenance["windows"] = {"count": len(spans), "tokens": width}
            results.append({"scores": perplexity.perplexities(logprobs, each.spans), "provenance": provenance})
        return results


def _within(spans: Sequence[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """What of the spans lies in a window, counted from its start."""
    return [(max(a, start) - start, min(b, end) - start) for a, b in spans if a < end and b > start]


def _difference(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for base, reference in zip(first, second, strict=True):
        provenance = base["provenance"] | {"reference_model": reference["provenance"]["model"]}
        if "windows" in reference["provenance"]:
            provenance["reference_windows"] = reference["provenance"]["windows"]
        rows.append({"scores": perplexity.differences(base["scores"], reference["scores"]), "provenance": provenance})
    return rows
