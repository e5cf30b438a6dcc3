"""What a model needs on a GPU, the line that says how much is missing, and the data type of a processor."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from atlas_ray.config import EngineConfig
from atlas_ray.inference import engine, fits
from atlas_ray.inference.fits import Demand, demand_of, processor_dtype


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ({"avx2", "avx512f", "avx512_bf16"}, "bfloat16"),
        ({"avx2", "amx_tile", "amx_bf16", "amx_int8"}, "bfloat16"),
        ({"avx2", "avx512f", "avx512_vnni", "amx_tile"}, "float32"),
        ({"avx2", "avx512bf16"}, "float32"),
        (set(), "float32"),
    ],
)
def test_bf16_is_for_processors_that_multiply_it(
    flags: set[str], dtype: str, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processor_dtype(flags) == dtype
    monkeypatch.setattr(engine, "processor_flags", lambda: frozenset(flags))
    for asked, taken in (("auto", dtype), ("float32", "float32"), ("bfloat16", "bfloat16")):
        arguments = engine.engine_arguments(tiny_model, EngineConfig(dtype=asked), cuda=False, max_len=64)
        assert arguments["dtype"] == taken
    assert engine.engine_arguments(tiny_model, EngineConfig(), cuda=True, max_len=64)["dtype"] == "auto"


def test_flags_are_those_of_this_machine() -> None:
    found = fits.processor_flags()
    assert not Path("/proc/cpuinfo").is_file() or "fpu" in found or not found


def test_what_a_model_needs_is_read_off_its_files(tiny_model: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    weights = sum(weight.numel() for weight in model.parameters())  # a head that is tied is there once
    assert demand_of(tiny_model) == Demand(2 * weights, 2 * (2 * 2 * 1 * 32))
    assert demand_of(tiny_model, itemsize=4).weights == 4 * weights


def test_the_line_says_how_much_is_missing() -> None:
    llama8 = Demand(weights=16_060_522_496, per_token=131_072)
    assert llama8.shortage("m", 8192, 1, 80 * 10**9, 0.9) is None
    said = llama8.shortage("m", 8192, 1, 16 * 10**9, 0.9)
    assert said is not None
    assert said.startswith("m: weights and the cache of one sequence of 8192 tokens need 17.1 GB on each of 1 GPU(s)")
    assert "90% of the card are 14.4 GB: 2.7 GB are missing; raise engine.tensor_parallel" in said
    assert llama8.shortage("m", 8192, 2, 16 * 10**9, 0.9) is None
