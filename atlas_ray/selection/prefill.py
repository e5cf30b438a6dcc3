"""Stages that let a model read trajectories and say something of their steps: one class for each thing it can say.

A stage takes chunks of trajectories. What it finds of a chunk is one file, `select/scored/<key>.parquet`, written
before it is used; the key holds the stage, the model, the engine and the trajectories. So all selections that need the
same numbers share one pass, and a killed run goes on with the next chunk. A chunk is read as a whole or not at all,
because the other sequences of a batch move the last digits of a number. An engine starts with the first chunk that no
file holds. What follows from the numbers is in `scored.py`; how they are computed is in `inference/`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from atlas_ray import models
from atlas_ray.chat import Encoded, encode_all
from atlas_ray.errors import AtlasError, DataError, StoreError
from atlas_ray.hashing import content_hash
from atlas_ray.selection.batches import chunks_of
from atlas_ray.selection.chunks import read
from atlas_ray.store import Store
from atlas_ray.trajectory import Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from atlas_ray.config import EngineConfig
    from atlas_ray.inference.engine import Engine

FOLDER = ("select", "scored")
LOWEST_LOGPROB = -700.0
"""Natural logarithm; what is below is no probability that a model gave, but a mark such as -inf or vLLM's -9999."""
_ROUNDING = 1e-3
"""What arithmetic in 16 bits may add to the logarithm of a probability of 1."""

Found = Mapping[str, Any]
"""What a stage found of one trajectory: a row of its `SCHEMA`."""


@dataclass(frozen=True)
class ScoringModel:
    """A model that reads trajectories."""

    model: str
    """As `models.resolve` takes it."""
    name: str
    """Recorded; the same in a run directory that was moved."""
    key: str
    """Hash of its weights, and of the engine's context and data type."""
    engine: EngineConfig
    trust_remote_code: bool
    thinks: bool | None = None
    """See `chat.template.Template`."""


class Prefill(ABC):
    """A stage, as Ray Data runs it; see the module.

    Its output has, beside `chunk`, `scored` (JSON: for each model so far, in order, the `file` with what it found and
    the name of the `model`) and `stop` (JSON: kind and text of the error that ends the run, or null).

    Args:
        scoring: the model.
        run_dir: URL of the run directory.
    """

    finds: ClassVar[str]
    """What it finds, in a word: part of its files' key. (The class's name is not its own in Ray Data, which derives a
    class from it.)"""
    SCHEMA: ClassVar[pa.Schema]
    """Of its files, one row a trajectory: `error` (text or null), `tokens` (that the model read), and what it found."""
    version: ClassVar[int] = 1
    """Raised when the same model finds other numbers in the same trajectories than before."""

    def __init__(self, scoring: ScoringModel, run_dir: str) -> None:
        self._scoring, self._store = scoring, Store(run_dir)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Find or read what is known of every chunk."""
        earlier = batch["scored"].to_pylist() if "scored" in batch.column_names else [None] * batch.num_rows
        ended = batch["stop"].to_pylist() if "stop" in batch.column_names else [None] * batch.num_rows
        scored: list[str] = []
        stops: list[str | None] = []
        for chunk, before, stop in zip(chunks_of(batch), earlier, ended, strict=True):
            found: list[dict[str, str]] = [] if before is None else json.loads(before)
            if stop is None:
                try:
                    file = self._file(read(self._store, chunk))
                    found.append({"file": file, "model": self._scoring.name})
                except AtlasError as error:
                    stop = json.dumps([type(error).__name__, str(error)])
            scored.append(json.dumps(found))
            stops.append(stop)
        columns = {"chunk": batch["chunk"], "scored": pa.array(scored), "stop": pa.array(stops, pa.string())}
        return pa.table(columns)

    @abstractmethod
    def measure(self, trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
        """A row for each trajectory; a missing field of the schema is null.

        Raises:
            AtlasError: the model or the engine cannot be used.
        """

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Of the model."""
        scoring = self._scoring
        return models.load_tokenizer(models.resolve(scoring.model, trust_remote_code=scoring.trust_remote_code))

    @cached_property
    def engine(self) -> Engine:
        """Started when it is needed."""
        from atlas_ray.inference.engine import Engine

        scoring = self._scoring
        return Engine(models.resolve(scoring.model, trust_remote_code=scoring.trust_remote_code), scoring.engine)

    def _file(self, trajectories: Sequence[Trajectory]) -> str:
        """The name of the file with what the model says of these trajectories, which is there then."""
        said = [each.model_dump(include={"trajectory_id", "messages"}) for each in trajectories]
        key = content_hash([self.finds, self.version, self._scoring.key, self._scoring.thinks, said])
        name = f"{key}.parquet"
        if not self._store.exists(*FOLDER, name):
            table = pa.Table.from_pylist(self.measure(trajectories), self.SCHEMA)
            buffer = pa.BufferOutputStream()
            pq.write_table(table, buffer)
            self._store.write_bytes(buffer.getvalue().to_pybytes(), *FOLDER, name)
        return name


def read_found(store: Store, file: str) -> list[Found]:
    """The rows of a file that a stage wrote.

    Raises:
        StoreError: it cannot be read.
    """
    path = store.path(*FOLDER, file)
    try:
        with store.fs.open(path, "rb") as opened:
            rows: list[Found] = pq.read_table(opened).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        said = " ".join(str(error).split())
        raise StoreError(f"{path} cannot be read ({said[:200]}); delete it and run the select stage again") from error
    return rows


class TokenScorer(Prefill):
    """Log-probability and entropy of every token of the steps, from one prefill per trajectory.

    A trajectory longer than the model's context is read in overlapping windows. `windows` counts them where a row took
    more than one, of `width` tokens each.
    """

    finds = "tokens"
    SCHEMA = pa.schema(
        [
            ("error", pa.string()),
            ("tokens", pa.int64()),
            ("windows", pa.int32()),
            ("width", pa.int32()),
            ("logprobs", pa.list_(pa.list_(pa.float32()))),
            ("entropies", pa.list_(pa.list_(pa.float32()))),
        ]
    )

    def measure(self, trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
        """See `Prefill.measure`; `logprobs` and `entropies` hold a list for each step."""
        acting, thinks = [each for each in trajectories if each.n_steps], self._scoring.thinks
        tokenised = iter(encode_all(acting, self.tokenizer, thinks=thinks))
        encoded = [next(tokenised) if each.n_steps else Encoded([], []) for each in trajectories]
        rows = [[] if isinstance(each, DataError) else list(each) for each in encoded]
        width = self.engine.max_len - 1
        parts = [(row, window) for of_one in rows for row in of_one for window in windows(len(row.ids), width)]
        asked = [_within(row.spans.values(), start, end) for row, (start, end) in parts]
        groups = None
        if any(len(of_one) > 1 for of_one in rows):  # a model that thinks: what its rows share is computed once
            of = [each.trajectory_id for each in trajectories]
            groups = [name for name, of_one in zip(of, rows, strict=True) for row in of_one
                      for _ in windows(len(row.ids), width)]  # fmt: skip
        measured = iter(self.engine.measure([row.ids[start:end] for row, (start, end) in parts], asked, groups))
        results: list[dict[str, Any]] = []
        for each, of_one in zip(encoded, rows, strict=True):
            if isinstance(each, DataError):
                results.append({"error": f"template: {each}", "tokens": 0})
                continue
            spans = [windows(len(row.ids), width) for row in of_one]
            found = {"tokens": sum(end - start for windows_of in spans for start, end in windows_of)}
            if (count := sum(map(len, spans))) > len(of_one):
                found |= {"windows": count, "width": width}
            by_row = [[next(measured) for _ in windows_of] for windows_of in spans]
            logprobs: dict[int, list[float]] = {}
            entropies: dict[int, list[float]] = {}
            for row, windows_of, numbers in zip(of_one, spans, by_row, strict=True):
                entropies |= _of_steps(stitch(windows_of, [part.entropies for part in numbers]), row.spans)
                logprobs |= _of_steps(stitch(windows_of, [part.logprobs for part in numbers]), row.spans)
            if (problem := wrong(logprobs)) is not None:
                results.append(found | {"error": f"score: {problem}"})
                continue
            both = {"logprobs": logprobs, "entropies": entropies}
            results.append(found | {name: [of[step] for step in sorted(of)] for name, of in both.items()})
        return results


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
    """Numbers of tokens 1.. of a whole sequence from those of its `windows`.

    Where windows overlap, the earlier one counts, which has seen more of what comes before.

    Args:
        spans: the windows, in order.
        scores: for a window of w tokens, its w - 1 numbers.
    """
    whole: list[float] = []
    for (start, _), part in zip(spans, scores, strict=True):
        whole.extend(part[len(whole) - start :])
    return whole


def wrong(logprobs: Mapping[int, Sequence[float]]) -> str | None:
    """What is wrong with the log-probabilities of the tokens of each step: the first that is none; None: nothing is."""
    for step, numbers in logprobs.items():
        for token, number in enumerate(numbers):
            if not LOWEST_LOGPROB <= number <= _ROUNDING:
                return f"the log-probability of token {token} of step {step} is {number}"
    return None


def _of_steps(numbers: Sequence[float], spans: Mapping[int, tuple[int, int]]) -> dict[int, list[float]]:
    """The numbers of each step's tokens, from those of tokens 1.. of its row; no step has token 0."""
    return {step: list(numbers[start - 1 : end - 1]) for step, (start, end) in spans.items()}


def _within(spans: Iterable[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """The parts of the spans that lie in a window, counted from its start."""
    return [(max(a, start) - start, min(b, end) - start) for a, b in spans if a < end and b > start]
