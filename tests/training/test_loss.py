"""The gradient of the packed, truncated, head-selected row is that of the plain padded batch."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from atlas_ray.chat import encode, loss_mask
from atlas_ray.config import TrainConfig
from atlas_ray.training.examples import Example, prepare
from atlas_ray.training.loss import empty_row, make_row, non_finite, token_losses
from atlas_ray.training.model import load
from tests.tokenizers import tokenizer
from tests.training.tiny import save, tiny, trajectory

TOKENIZER = tokenizer("chatml")
TRAJECTORIES = [trajectory(number, 2 + number) for number in range(4)]
STEPS: dict[str, tuple[int, ...]] = {"t000": (0,), "t001": (0, 2), "t002": (1,), "t003": (0, 3)}
Gradients = dict[str, torch.Tensor]


def gradients(model: PreTrainedModel) -> Gradients:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def padded(path: str, move_a_label: bool = False) -> tuple[float, Gradients]:
    """Loss and gradient as Hugging Face computes them: one padded batch, all logits, labels of -100."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").train()
    encoded = [encode(one, TOKENIZER) for one in TRAJECTORIES]
    width = max(len(one.ids) for one in encoded)
    ids, labels, seen = (torch.zeros(len(encoded), width, dtype=torch.long) for _ in range(3))
    labels -= 100
    for row, one in enumerate(encoded):
        mask = torch.tensor(loss_mask(one, STEPS[TRAJECTORIES[row].trajectory_id]))
        if move_a_label and row == 1:
            first, last = mask.nonzero()[[0, -1]].flatten().tolist()
            mask[last], mask[first - 1] = False, True
        tokens = torch.tensor(one.ids)
        ids[row, : len(tokens)], seen[row, : len(tokens)] = tokens, 1
        labels[row, : len(tokens)] = torch.where(mask, tokens, -100)
    loss = model(input_ids=ids, attention_mask=seen, labels=labels).loss
    loss.backward()
    return loss.item(), gradients(model)


def ours(path: str, rows: list[list[Example]], exact: bool = True) -> tuple[float, Gradients]:
    network = load(path, longest=max(example.length for row in rows for example in row))
    assert (network.packed, network.sparse) == (exact, exact)
    denominator = sum(float(example.weights.sum()) for row in rows for example in row)
    total = 0.0
    for row in [*map(make_row, rows), empty_row()]:
        loss = (token_losses(network, row) * row.weights).sum() / denominator
        loss.backward()
        total += loss.item()
    return total, gradients(network.model)


def worst(ours: Gradients, reference: Gradients) -> float:
    """Largest relative L2 distance over the parameters."""
    assert ours.keys() == reference.keys()
    return max(float((ours[name] - reference[name]).norm() / reference[name].norm()) for name in reference)


@pytest.fixture(scope="module", params=["llama", "qwen2", "mistral"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tiny(request.param), tmp_path_factory.mktemp(request.param))


def examples(loss: str = "token_mean") -> list[Example]:
    return prepare(TRAJECTORIES, STEPS, TOKENIZER, TrainConfig(loss=loss))[0]


@pytest.mark.parametrize("cut", [[4], [1, 3], [1, 1, 1, 1]])
def test_gradient_equals_the_padded_one(path: str, cut: list[int]) -> None:
    documents = examples()[::-1]
    borders = np.cumsum([0, *cut])
    rows = [documents[start:end] for start, end in itertools.pairwise(borders)]
    loss, gradient = ours(path, rows)
    reference_loss, reference = padded(path)
    assert loss == pytest.approx(reference_loss, rel=1e-5)
    assert worst(gradient, reference) < 1e-5


def test_negative_control(path: str) -> None:
    _, gradient = ours(path, [examples()])
    _, moved = padded(path, move_a_label=True)
    assert worst(gradient, moved) > 1e-3


def test_step_mean_weighs_every_critical_step_the_same(path: str) -> None:
    loss, _ = ours(path, [examples("step_mean")])
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    means = []
    for one in TRAJECTORIES:
        encoded = encode(one, TOKENIZER)
        tokens = torch.tensor(encoded.ids)
        with torch.no_grad():
            losses = torch.nn.functional.cross_entropy(model(tokens[None]).logits[0, :-1], tokens[1:], reduction="none")
        means += [
            losses[encoded.spans[step][0] - 1 : encoded.spans[step][1] - 1].mean().item()
            for step in STEPS[one.trajectory_id]
        ]
    assert loss == pytest.approx(float(np.mean(means)), rel=1e-5)


def test_documents_of_a_row_do_not_see_each_other(path: str) -> None:
    network = load(path, longest=500)
    first, second, *_ = examples()
    with torch.no_grad():
        together = token_losses(network, make_row([first, second]))
        alone = torch.cat([token_losses(network, make_row([first])), token_losses(network, make_row([second]))])
    assert torch.allclose(together, alone, atol=1e-5)
    row = make_row([first, second])
    assert (row.predictors[row.documents == 1] >= first.length).all()


def test_a_narrow_window_is_not_packed_and_still_exact(tmp_path: Path) -> None:
    path = save(tiny("mistral", sliding_window=40), tmp_path)
    _, gradient = ours(path, [[example] for example in examples()], exact=False)
    assert worst(gradient, padded(path)[1]) < 1e-5


def test_broken_weights_and_losses_are_named(path: str, tmp_path: Path) -> None:
    row = make_row(examples())
    losses = torch.zeros(len(row.targets))
    losses[row.documents == 2] = torch.nan
    assert non_finite(losses, row) == ["t002"]
