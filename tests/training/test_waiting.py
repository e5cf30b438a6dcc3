"""A step waits for the GPU once: all else is done on tensors whose values nobody looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig

from atlas_ray.config import TrainConfig
from atlas_ray.training import attention, dpo, exact, last_layer, lora
from atlas_ray.training.loop import backward, count, rows_of, sized_for
from atlas_ray.training.loss import Row
from atlas_ray.training.model import Network
from tests.training.test_dpo import BETA, pairs
from tests.training.test_loss import FRACTIONS, denominator, examples
from tests.training.tiny import ALL, SHAPE

CPU, META = torch.device("cpu"), torch.device("meta")


class Copies(TorchDispatchMode):
    """Notes operations that take tensors of the host to the device, where the host waits until they are read."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {one.device.type for one in args if isinstance(one, torch.Tensor) and one.dim()}
        if given == {"cpu"} and isinstance(result, torch.Tensor) and result.device == META:
            self.found.append(str(func))
        return result


def network(family: str, options: TrainConfig) -> Network:
    """A model without values: whoever looks at one gets an error."""
    attention.register()
    config = AutoConfig.for_model(family, **SHAPE)
    config._attn_implementation = attention.NAMES["sdpa"]
    model = exact.meta_model(config)
    last_layer.make_sparse(model)
    if options.lora is not None:
        lora.add(model, options.lora)
    return Network(model.train(), ALL, compiled="default")


def rows(network: Network, objective: str, capacity: int) -> list[Row]:
    if objective == "dpo":
        made = rows_of(pairs(), 0, 1, capacity, ALL, CPU, dpo.row_maker(BETA))
    else:
        made = rows_of(examples(FRACTIONS), 0, 1, capacity, ALL, CPU)
    return [sized_for(network, row, capacity).moved(META) for row in made]


@pytest.mark.parametrize("objective", ["sft", "dpo"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral"])
def test_nothing_before_the_end_of_a_step_looks_at_a_value(family: str, objective: str) -> None:
    options = TrainConfig(lora={"rank": 4} if family == "qwen3" else None)
    of = network(family, options)
    made = rows(of, objective, 300)
    assert len(made) > 1
    of.clear_gradients()
    with Copies() as copies:
        result = backward(of, made, denominator(examples(FRACTIONS)), 1)
        tuned = [weight for weight in of.model.parameters() if weight.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(tuned, 1.0)
        together = torch.cat([result.figures, norm.double()[None]])
    assert copies.found == []
    assert together.shape == (3,)
    assert all(weight.grad is not None for weight in tuned)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):  # the one who reads it waits
        together.tolist()


def test_the_check_finds_who_looks_and_who_copies() -> None:
    with Copies() as copies:
        torch.arange(3).to(META)
        torch.as_tensor(np.arange(3), device=META)
    assert len(copies.found) >= 2
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        bool((torch.arange(3, device=META) > 1).any())


def test_counts_leave_padding_out() -> None:
    of = network("llama", TrainConfig())
    [row] = rows_of(examples(FRACTIONS), 0, 1, 10_000, ALL, CPU)
    larger = sized_for(of, row, 10_000)
    assert larger.ids.shape[1] >= count([row]).tokens == row.layout.tokens
