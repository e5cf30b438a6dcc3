"""Method `perplexity`: equation 5, and windows. (On engines: `test_run.py`.)"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.config import load
from atlas_ray.selection.batches import CALLS, chunk_table
from atlas_ray.selection.chunks import plan
from atlas_ray.selection.method import make
from atlas_ray.selection.methods import perplexity
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection, selection_from_row
from tests.selection.data import context, made, trajectory
from tests.tokenizers import tokenizer


def rows_of(table: pa.Table) -> list[Selection]:
    return [selection_from_row(row) for row in table.drop_columns([CALLS]).to_pylist()]


def test_equation_5() -> None:
    logprobs = [-0.1, -1.0, -3.0, -0.5, -0.25]
    first, second = perplexity.perplexities(logprobs, [(2, 4), (5, 6)])
    assert first == pytest.approx(math.exp(2.0))
    assert second == pytest.approx(math.exp(0.25))


@pytest.mark.parametrize("wrong", [math.nan, -math.inf, math.inf, -9999.0, 0.5])
def test_what_is_no_log_probability_is_an_error_where_a_step_has_it(wrong: float) -> None:
    logprobs = [wrong, -1.0, -3.0, -0.5, -0.25]
    assert len(perplexity.perplexities(logprobs, [(2, 4), (5, 6)])) == 2  # no step has the first token
    logprobs[2] = wrong
    with pytest.raises(perplexity.ScoreError, match=r"token 3 \(step 0\)"):
        perplexity.perplexities(logprobs, [(2, 4), (5, 6)])
    assert all(map(math.isfinite, perplexity.perplexities([perplexity.LOWEST_LOGPROB] * 5, [(1, 6)])))


class _Scores:
    """In an engine's place: the same log-probability for every token but one."""

    max_len = 2048

    def __init__(self, wrong: float) -> None:
        self.wrong = wrong

    def score(self, sequences: list[list[int]], spans: Any) -> list[list[float]]:
        scores = [[-1.0] * (len(ids) - 1) for ids in sequences]
        start, end = spans[1][1]
        scores[1][end - 2] = self.wrong
        assert start < end
        return scores


@pytest.mark.parametrize("wrong", [math.nan, -9999.0])
def test_a_score_that_is_no_number_is_the_error_row_of_its_trajectory(tmp_path: Path, wrong: float) -> None:
    store = Store(str(tmp_path))
    subjects = [trajectory(number, 3) for number in range(3)]
    store.write_trajectories(subjects)
    scorer = object.__new__(perplexity.Scorer)  # without an engine, which would have to be made to compute wrongly
    scorer._name, scorer._store, scorer._broken = "m", store, None
    scorer._tokenizer, scorer._engine = tokenizer("chatml"), _Scores(wrong)  # type: ignore[assignment]
    scored = scorer(chunk_table(plan(store, None, 3).chunks))
    chosen = perplexity.choose(scored, method=made("perplexity"), run_dir=store.url)
    rows = rows_of(chosen)
    assert [row.error is None for row in rows] == [True, False, True]
    assert rows[1].steps == ()
    assert str(rows[1].error).startswith("score: the log-probability of token")
    twice = scorer(scored)  # as with a reference model
    rows = rows_of(perplexity.choose(twice, method=made("perplexity"), run_dir=store.url))
    assert [row.error is None for row in rows] == [True, False, True]


@given(n_tokens=st.integers(1, 300), width=st.integers(2, 60))
def test_windows_cover_and_stitch_to_the_whole(n_tokens: int, width: int) -> None:
    spans = perplexity.windows(n_tokens, width)
    assert spans[0][0] == 0
    assert spans[-1][1] == n_tokens
    assert all(end - start <= width for start, end in spans)
    # the score of token i in a window that starts at s tells how much it saw of what comes before
    seen = perplexity.stitch(spans, [[i - start for i in range(start + 1, end)] for start, end in spans])
    assert len(seen) == n_tokens - 1
    assert all(count >= min(i, width - width // 2) for i, count in enumerate(seen, start=1))


def test_too_narrow_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="two tokens"):
        perplexity.windows(5, 1)


def test_it_depends_on_the_models_and_on_the_engines_context_and_data_type(tmp_path: Path, tiny_model: Path) -> None:
    other = shutil.copytree(tiny_model, tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")

    def depends_on(**overrides: Any) -> Any:
        config = load(None, {"model": str(tiny_model)} | {name.replace("__", "."): v for name, v in overrides.items()})
        return make(config.selection("perplexity")).depends_on(context(config, Store(str(tmp_path / "run"))))

    same = depends_on(engine__replicas=4, engine__max_num_seqs=3)
    assert same == depends_on()
    found = [
        depends_on(), depends_on(engine__max_model_len=512), depends_on(engine__dtype="float32"),
        depends_on(model=str(other)), depends_on(select__perplexity__reference_model=str(tiny_model)),
        depends_on(select__perplexity__reference_model=str(other)),
        depends_on(train__warmup={"fraction": 0.5}),
    ]  # fmt: skip
    assert len({str(each) for each in found}) == len(found)
