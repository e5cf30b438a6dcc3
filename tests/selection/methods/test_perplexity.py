"""Method `perplexity`: equation 5, and windows. (On engines: `test_run.py`.)"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.config import load
from atlas_ray.selection.method import make
from atlas_ray.selection.methods import perplexity
from atlas_ray.store import Store
from tests.selection.data import context


def test_equation_5() -> None:
    logprobs = [-0.1, -1.0, -3.0, -0.5, -0.25]
    first, second = perplexity.perplexities(logprobs, [(2, 4), (5, 6)])
    assert first == pytest.approx(math.exp(2.0))
    assert second == pytest.approx(math.exp(0.25))


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
