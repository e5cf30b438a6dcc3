"""Compiled layers, bf16 without sharding, and rows prepared ahead give the gradients that they gave before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._inductor.runtime.cache_dir_utils import cache_dir as inductor_cache

from atlas_ray.config import TrainConfig
from atlas_ray.training import attention, loop, packing
from atlas_ray.training.attention import block_mask
from atlas_ray.training.compiling import GRAPHS, PLAIN, compile_layers, keep_code, mode
from atlas_ray.training.examples import Example
from atlas_ray.training.loop import ahead, backward, rows_of, sized_for
from atlas_ray.training.loss import make_row, padded, token_losses
from atlas_ray.training.model import Network, Recipe, in_bf16, is_mixed, load
from tests.training.test_loss import FRACTIONS, Gradients, denominator, examples, gradients, worst
from tests.training.tiny import ALL

CPU = torch.device("cpu")


def gradients_of(network: Network) -> Gradients:
    of = examples(FRACTIONS)
    backward(network, rows_of(of, 0, 1, 300, ALL, CPU), denominator(of), 1)
    return gradients(network.model)


@pytest.fixture(scope="module")
def plain(llama: str) -> Gradients:
    return gradients_of(load(Recipe(llama, ALL, "sdpa", TrainConfig())))


@pytest.fixture
def _compiled_once() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_compiled_once")
def test_compiled_layers_give_the_gradient_and_no_row_compiles_anything_anew(llama: str, plain: Gradients) -> None:
    network = replace(load(Recipe(llama, ALL, "sdpa", TrainConfig())), compiled=PLAIN)
    names, graphs, of = list(network.model.state_dict()), [], examples(FRACTIONS)

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    assert compile_layers(network.model, PLAIN, backend) == 2  # of three, the last of which is sparse
    assert list(network.model.state_dict()) == names
    for capacity in (300, 150, 10_000):  # rows of other sizes, numbers of trajectories and layouts
        rows = [sized_for(network, row, capacity) for row in rows_of(of, 0, 1, capacity, ALL, CPU)]
        backward(network, rows, denominator(of), 1)
        assert worst(gradients(network.model), plain) < 1e-5
        network.clear_gradients()
        assert len(graphs) == 4
    flex = load(Recipe(llama, ALL, "flex", TrainConfig()))  # on CPUs it has a forward pass alone
    compile_layers(flex.model, PLAIN, backend)
    graphs.clear()
    with torch.no_grad():
        for capacity in (300, 150, 10_000):
            for row in rows_of(of, 0, 1, capacity, ALL, CPU):
                assert torch.allclose(token_losses(flex, row), token_losses(network, row), atol=1e-4)
            assert len(graphs) <= 8  # each network's own


@pytest.mark.usefixtures("_compiled_once")
def test_adapters_and_checkpointed_activations_are_compiled_with_their_layers(llama: str) -> None:
    options = TrainConfig(lora={"rank": 4}, activation_checkpointing=True)
    alone, compiled = (load(Recipe(llama, ALL, "sdpa", options, seed=1)) for _ in range(2))
    assert compile_layers(compiled.model, PLAIN, "aot_eager") == 2
    expected, found = gradients_of(alone), gradients_of(compiled)
    moving = [name for name, gradient in expected.items() if gradient.norm() > 0]  # half of an adapter begins at zero
    assert moving
    assert worst({name: found[name] for name in moving}, {name: expected[name] for name in moving}) < 1e-5


def test_bf16_without_sharding_is_the_same_gradient_rounded(llama: str, plain: Gradients) -> None:
    torch.set_num_threads(2)  # the kernel of one thread is for fp32; the fixture `_one_thread` sets it back
    network = in_bf16(load(Recipe(llama, ALL, "sdpa", TrainConfig())))
    assert {weight.dtype for weight in network.model.parameters()} == {torch.float32}
    seen = []
    network.model.base_model.layers[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    found = gradients_of(network)
    assert set(seen) == {torch.bfloat16}  # also between the layers
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}
    assert 1e-4 < worst(found, plain) < 0.1


@pytest.mark.usefixtures("_compiled_once")
def test_flex_attention_is_compiled_once_for_all_rows() -> None:
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    kernel, draw = attention.compiled(backend), np.random.default_rng(0)
    for _ in range(12):
        documents = [np.arange(length, dtype=np.int32) for length in draw.integers(30, 700, draw.integers(1, 6))]
        row = make_row([Example("", ids, (ids > 20).astype(np.float32), 0) for ids in documents], share=False)
        row = padded(row, packing.size(row.layout.tokens, capacity=4096))
        query, key = (torch.randn(1, heads, row.layout.tokens, 16) for heads in (2, 1))
        with torch.no_grad():
            kernel(query, key, key, block_mask=block_mask(row.layout, CPU), enable_gqa=True)
    assert len(graphs) == 1


def test_padding_changes_no_gradient(llama: str, plain: Gradients) -> None:
    of = examples(FRACTIONS)
    for optimizations in (ALL, replace(ALL, sparse_last_layer=False)):
        network = load(Recipe(llama, optimizations, "sdpa", TrainConfig()))
        rows = rows_of(of, 0, 1, 300, optimizations, CPU)
        longer = [padded(row, row.layout.tokens + number) for number, row in enumerate(rows, start=20)]
        for row, own in zip(longer, rows, strict=True):
            assert row.ids.shape == row.position_ids.shape == (1, row.layout.tokens)
            assert row.layout.tokens == own.layout.tokens + row.ids.shape[1] - own.ids.shape[1]
        backward(network, longer, denominator(of), 1)
        assert worst(gradients(network.model), plain) < 1e-5


def test_gradients_that_stay_where_they_are_add_up_as_others_do(llama: str, plain: Gradients) -> None:
    network, of = replace(load(Recipe(llama, ALL, "sdpa", TrainConfig())), compiled=GRAPHS), examples(FRACTIONS)
    network.clear_gradients()
    places = [weight.grad.data_ptr() for weight in network.model.parameters()]
    for _ in range(2):
        backward(network, rows_of(of, 0, 1, 300, ALL, CPU), denominator(of), 1)
        assert [weight.grad.data_ptr() for weight in network.model.parameters()] == places
        assert worst(gradients(network.model), plain) < 1e-5
        network.clear_gradients()


@pytest.mark.parametrize(
    ("asked", "device", "parameters", "changes", "wanted"),
    [
        ("auto", "cpu", 1e8, {}, None), (False, "cuda", 1e8, {}, None),
        (True, "cpu", 1e8, {}, PLAIN), (True, "cuda", 1e8, {}, PLAIN),  # the way out, should graphs not do
        ("auto", "cuda", 1e8, {}, GRAPHS), ("auto", "cuda", 1.2e9, {}, PLAIN),
        ("auto", "cuda", 1e8, {"workers": 2}, PLAIN), ("auto", "cuda", 1e8, {"checkpointing": True}, PLAIN),
    ],
)  # fmt: skip
def test_what_is_compiled(
    asked: str | bool, device: str, parameters: float, changes: dict[str, Any], wanted: str | None
) -> None:
    facts = {"workers": 1, "checkpointing": False, **changes}
    assert mode(asked, torch.device(device), parameters=int(parameters), **facts) == wanted
    assert TrainConfig.model_validate({"compile": asked}).compile == asked


@pytest.mark.usefixtures("_compiled_once")
def test_small_models_ask_for_cuda_graphs(llama: str) -> None:
    asked: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object, mode: str | None = None) -> object:
        asked.append(mode)
        return graph.forward

    network, of = load(Recipe(llama, ALL, "sdpa", TrainConfig())), examples(FRACTIONS)
    compile_layers(network.model, GRAPHS, backend)
    with torch.no_grad():
        token_losses(network, make_row(of[:1], share=False))
    assert set(asked) == {"reduce-overhead"}


def test_compiled_code_is_kept_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATLAS_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    keep_code()
    assert Path(inductor_cache()) == tmp_path / "compiled"  # PyTorch's own answer
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
    keep_code()
    assert Path(inductor_cache()) == tmp_path / "mine"


@pytest.mark.parametrize(
    ("asked", "device", "flags", "mixed"),
    [
        ("auto", "cuda", "", True), ("auto", "cpu", "avx512_bf16", True), ("auto", "cpu", "avx2", False),
        ("float32", "cuda", "amx_bf16", False), ("bfloat16", "cpu", "avx2", True),
    ],
)  # fmt: skip
def test_the_precision_is_that_of_the_processor_unless_it_is_named(
    asked: str, device: str, flags: str, mixed: bool
) -> None:
    options = TrainConfig.model_validate({"dtype": asked})
    assert is_mixed(options, torch.device(device), frozenset({flags})) == mixed


def test_the_next_rows_are_prepared_while_these_are_computed_and_stay_in_order() -> None:
    prepared = {step: threading.Event() for step in range(5)}

    def prepare(step: int) -> int:
        prepared[step].set()
        return step * step

    for step, value in ahead(prepare, range(5)):
        assert value == step * step
        if step < 4:
            assert prepared[step + 1].wait(10)  # although nobody has asked for it
    assert list(ahead(prepare, [])) == []

    def broken(step: int) -> int:
        raise ValueError(f"step {step}")

    with pytest.raises(ValueError, match="step 3"):
        next(iter(ahead(broken, [3])))


def test_a_row_moves_with_all_of_its_tensors() -> None:
    [row] = rows_of(examples(FRACTIONS), 0, 1, 10_000, ALL, CPU)
    moved = row.moved(torch.device("meta"))
    for name, value in vars(row).items():
        if isinstance(value, torch.Tensor):
            assert getattr(moved, name).device.type == "meta"
            assert getattr(moved, name).shape == value.shape
    assert (moved.layout, moved.trajectory_ids) == (row.layout, row.trajectory_ids)
    assert loop.count([row]).tokens == row.ids.numel()
