"""Method `perplexity`: equation 5. (How models read: `test_prefill.py`; on engines: `test_run.py`.)"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from atlas_ray.config_files import load
from atlas_ray.selection.method import make
from atlas_ray.selection.methods import perplexity
from atlas_ray.store import Store
from tests.selection.data import context


def test_equation_5() -> None:
    first, second = perplexity.perplexities([[-1.0, -3.0], [-0.25]])
    assert first == pytest.approx(math.exp(2.0))
    assert second == pytest.approx(math.exp(0.25))
    assert perplexity.differences([math.e, 4.0], [1.0, 8.0]) == pytest.approx((1.0, -math.log(2)))


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
