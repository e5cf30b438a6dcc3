"""Compiled layers, bf16 without sharding, and rows prepared ahead give the gradients that they gave before."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from atlas_ray.config import TrainConfig
from atlas_ray.training import loop
from atlas_ray.training.compiling import compile_layers, is_wanted
from atlas_ray.training.loop import ahead, backward, rows_of
from atlas_ray.training.loss import token_losses
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
    network = load(Recipe(llama, ALL, "sdpa", TrainConfig()))
    names, graphs, of = list(network.model.state_dict()), [], examples(FRACTIONS)

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    assert compile_layers(network.model, backend) == 2  # of three, the last of which is sparse
    assert list(network.model.state_dict()) == names
    for capacity in (300, 150, 10_000):  # rows of other sizes, numbers of trajectories and layouts
        backward(network, rows_of(of, 0, 1, capacity, ALL, CPU), denominator(of), 1)
        assert worst(gradients(network.model), plain) < 1e-5
        network.model.zero_grad()
        assert len(graphs) == 4
    flex = load(Recipe(llama, ALL, "flex", TrainConfig()))  # on CPUs it has a forward pass alone
    compile_layers(flex.model, backend)
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
    assert compile_layers(compiled.model, "aot_eager") == 2
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


@pytest.mark.parametrize(
    ("asked", "device", "wanted"),
    [("auto", "cpu", False), ("auto", "cuda", True), (True, "cpu", True), (False, "cuda", False)],
)
def test_what_is_compiled(asked: str | bool, device: str, wanted: bool) -> None:
    assert is_wanted(asked, torch.device(device)) == wanted
    assert TrainConfig.model_validate({"compile": asked}).compile == asked


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
