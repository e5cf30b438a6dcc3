"""How models read trajectories: windows, refusals, and one pass for all selections. (On engines: `test_run.py`.)"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.chat import encode
from atlas_ray.config import EngineConfig
from atlas_ray.errors import EngineError, StoreError
from atlas_ray.inference.types import TokenScores
from atlas_ray.selection import prefill
from atlas_ray.selection.batches import CALLS, chunk_table, stopped
from atlas_ray.selection.chunks import plan
from atlas_ray.selection.prefill import ScoringModel, TokenScorer
from atlas_ray.selection.scored import choose
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection, selection_from_row
from tests.selection.data import made, trajectory
from tests.tokenizers import of_kind, tokenizer

SUBJECTS = [trajectory(number, number) for number in (3, 0, 3, 1)]


class Numbers:
    """In an engine's place: the numbers that it is told to give."""

    max_len = 2048

    def __init__(self, wrong: float = -1.0) -> None:
        self.wrong, self.passes = wrong, 0

    def measure(self, sequences: list[list[int]], spans: Any, groups: Any = None) -> list[TokenScores]:
        self.passes += 1
        self.groups = groups
        found = [TokenScores([-1.0] * (len(ids) - 1), [0.5] * (len(ids) - 1)) for ids in sequences]
        start, end = spans[2][-1]
        assert start < end
        found[2].logprobs[end - 2] = self.wrong
        return found


def scorer(store: Store, engine: Any, key: str = "k") -> TokenScorer:
    made = TokenScorer(ScoringModel("m", "name", key, EngineConfig(), False), store.url)
    made.__dict__ |= {"tokenizer": tokenizer("chatml"), "engine": engine}  # without weights, which would be right
    return made


def stored(folder: Path) -> tuple[Store, pa.Table]:
    store = Store(str(folder))
    store.write_trajectories([each.model_copy(update={"trajectory_id": f"t{n}"}) for n, each in enumerate(SUBJECTS)])
    return store, chunk_table(plan(store, None, 32).chunks)


def rows_of(table: pa.Table) -> list[Selection]:
    return [selection_from_row(row) for row in table.drop_columns([CALLS]).to_pylist()]


@pytest.mark.parametrize("number", [math.nan, -math.inf, math.inf, -9999.0, 0.5])
def test_what_is_no_log_probability_is_named(number: float) -> None:
    assert prefill.wrong({0: [-1.0, prefill.LOWEST_LOGPROB], 1: [0.0]}) is None
    assert prefill.wrong({0: [-1.0], 1: [-0.5, number]}) == f"the log-probability of token 1 of step 1 is {number}"


@pytest.mark.parametrize("wrong", [math.nan, -9999.0])
def test_a_number_that_is_none_is_the_error_row_of_its_trajectory(tmp_path: Path, wrong: float) -> None:
    store, chunks = stored(tmp_path)
    scored = scorer(store, Numbers(wrong))(chunks)
    for method in ("perplexity", "entropy"):
        rows = rows_of(choose(scored, method=made(method), run_dir=store.url))
        assert [row.error is None for row in rows] == [True, True, True, False]
        assert rows[3].steps == ()
        assert str(rows[3].error).startswith("score: the log-probability of token")
    twice = scorer(store, Numbers(), "other")(scored)  # as with a reference model
    rows = rows_of(choose(twice, method=made("perplexity"), run_dir=store.url))
    assert [row.error is None for row in rows] == [True, True, True, False]
    assert rows[0].provenance == {"model": "name", "reference_model": "name"}
    assert rows[1].usage.prompt_tokens == 0 < rows[0].usage.prompt_tokens


def test_one_pass_serves_every_selection_and_a_second_run(tmp_path: Path) -> None:
    store, chunks = stored(tmp_path)
    engine = Numbers()
    first = scorer(store, engine)(chunks)
    assert (engine.passes, len(store.names(*prefill.FOLDER))) == (1, 1)
    assert scorer(store, engine)(chunks) == first
    assert engine.passes == 1
    assert scorer(store, engine, "tuned")(chunks) != first  # another model, or the same in another engine
    assert engine.passes == 2
    other = [each.model_copy(update={"trajectory_id": f"t{n}"}) for n, each in enumerate(SUBJECTS[::-1])]
    store.write_trajectories(other)
    scorer(store, engine)(chunks)
    assert engine.passes == 3


@pytest.mark.parametrize("on", [None, False])
def test_a_thinking_model_is_asked_for_what_it_is_shown_and_shares_what_its_rows_share(
    tmp_path: Path, on: bool | None
) -> None:
    thinking = [
        each.model_copy(
            update={"messages": tuple(m.model_copy(update={"thinking": m.step and "Hm."}) for m in each.messages)}
        )
        for each in SUBJECTS
    ]  # fmt: skip
    engine, asked = Numbers(), []
    one = TokenScorer(ScoringModel("m", "name", "k", EngineConfig(), False, on), str(tmp_path))
    tok = of_kind("split", "qwen3")
    one.__dict__ |= {"tokenizer": tok, "engine": engine}
    measure = engine.measure
    engine.measure = lambda sequences, *rest: asked.extend(sequences) or measure(sequences, *rest)  # type: ignore[method-assign]
    assert all(row.get("error") is None for row in one.measure(thinking))
    rows = [row.ids for each in thinking if each.n_steps for row in encode(each, tok, thinks=on)]
    assert asked == rows
    names = [each.trajectory_id for each in thinking if each.n_steps for _ in encode(each, tok, thinks=on)]
    assert engine.groups == names
    assert len(set(names)) < len(names)


def test_a_file_that_cannot_be_read_ends_the_run_with_a_line(tmp_path: Path) -> None:
    store, chunks = stored(tmp_path)
    scored = scorer(store, Numbers())(chunks)
    [name] = store.names(*prefill.FOLDER)
    store.write_text("torn", *prefill.FOLDER, name)
    error = stopped(choose(scored, method=made("entropy"), run_dir=store.url))
    assert isinstance(error, StoreError)
    assert f"{name} cannot be read" in str(error)
    assert "delete it and run the select stage again" in str(error)


def test_an_engine_that_does_not_start_ends_the_run_with_its_line(tmp_path: Path) -> None:
    class Broken(TokenScorer):
        @property
        def engine(self) -> Any:
            raise EngineError("no memory")

    store, chunks = stored(tmp_path)
    broken = Broken(ScoringModel("m", "name", "k", EngineConfig(), False), store.url)
    broken.__dict__["tokenizer"] = tokenizer("chatml")
    error = stopped(choose(broken(broken(chunks)), method=made("entropy"), run_dir=store.url))
    assert isinstance(error, EngineError)
    assert str(error) == "no memory"


@given(n_tokens=st.integers(1, 300), width=st.integers(2, 60))
def test_windows_cover_and_stitch_to_the_whole(n_tokens: int, width: int) -> None:
    spans = prefill.windows(n_tokens, width)
    assert spans[0][0] == 0
    assert spans[-1][1] == n_tokens
    assert all(end - start <= width for start, end in spans)
    # the number of token i in a window that starts at s tells how much it saw of what comes before
    seen = prefill.stitch(spans, [[i - start for i in range(start + 1, end)] for start, end in spans])
    assert len(seen) == n_tokens - 1
    assert all(count >= min(i, width - width // 2) for i, count in enumerate(seen, start=1))


def test_too_narrow_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="two tokens"):
        prefill.windows(5, 1)
