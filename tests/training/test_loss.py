"""Every variant's gradient is that of the plain padded batch, parameter by parameter; a moved label is noticed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from atlas_ray.chat import encode
from atlas_ray.config import TrainConfig
from atlas_ray.errors import ModelError
from atlas_ray.training.attention import attend
from atlas_ray.training.exact import decide
from atlas_ray.training.examples import Example, prepare
from atlas_ray.training.job import Skips
from atlas_ray.training.loop import rows_of
from atlas_ray.training.loss import empty_row, make_row, non_finite, token_losses
from atlas_ray.training.model import Network, Recipe, load
from atlas_ray.training.reference import padded_loss
from tests.tokenizers import tokenizer
from tests.training.tiny import ALL, SHAPE, save, tiny, trajectory

TOKENIZER = tokenizer("chatml")
# Two pairs begin alike: as rollouts that branch from one state, and with a critical step in what they share.
TRAJECTORIES = [trajectory(number, 2 + number) for number in range(4)]
TRAJECTORIES += [trajectory(number, 5, fork=4, name=f"f{number:03d}") for number in (2, 3)]
STEPS: dict[str, tuple[int, ...]] = {
    "t000": (0,), "t001": (0, 2), "t002": (1,), "t003": (0, 3), "f002": (1, 4), "f003": (4,)
}  # fmt: skip
NONE = Skips(*[False] * 5)
Gradients = dict[str, torch.Tensor]


def gradients(model: PreTrainedModel) -> Gradients:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def examples(loss: str = "token_mean", truncate: bool = True) -> list[Example]:
    return prepare(TRAJECTORIES, STEPS, TOKENIZER, TrainConfig(loss=loss), truncate=truncate)[0]


def denominator(of: list[Example]) -> float:
    return sum(float(example.weights.sum()) for example in of)


def reference(path: str, of: list[Example]) -> tuple[float, Gradients]:
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").train()
    loss = padded_loss(model, of, denominator(of))
    loss.backward()
    return loss.item(), gradients(model)


def network(path: str, skips: Skips, **options: object) -> Network:
    return load(Recipe(path, skips, "sdpa", TrainConfig(**options)))


def ours(path: str, skips: Skips, capacity: int = 10_000, **options: object) -> tuple[float, Gradients]:
    of = examples(truncate=skips.truncate)
    loaded, total = network(path, skips, **options), 0.0
    for row in [*rows_of(of, 0, 1, capacity, skips, torch.device("cpu")), empty_row()]:
        loss = (token_losses(loaded, row) * row.weights).sum() / denominator(of)
        loss.backward()
        total += loss.item()
    return total, gradients(loaded.model)


def worst(ours: Gradients, reference: Gradients) -> float:
    """Largest relative L2 distance over the parameters."""
    assert ours.keys() == reference.keys()
    return max(float((ours[name] - reference[name]).norm() / reference[name].norm()) for name in reference)


@pytest.fixture(scope="module", params=["llama", "qwen2", "mistral"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tiny(request.param), tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def plain(path: str) -> tuple[float, Gradients]:
    return reference(path, examples(truncate=False))


VARIANTS = {
    "none": NONE,
    "head": dataclasses.replace(NONE, head_at_labels=True),
    "truncate": dataclasses.replace(NONE, truncate=True),
    "pack": dataclasses.replace(NONE, pack=True),
    "tree": dataclasses.replace(NONE, pack=True, prefix_tree=True),
    "last layer": dataclasses.replace(NONE, head_at_labels=True, sparse_last_layer=True),
    "no tree": dataclasses.replace(ALL, prefix_tree=False),
    "all": ALL,
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_equals_the_plain_one(path: str, plain: tuple[float, Gradients], variant: str) -> None:
    for capacity in (10_000, 250):  # in one row and in several
        loss, gradient = ours(path, VARIANTS[variant], capacity)
        assert loss == pytest.approx(plain[0], rel=1e-5)
        assert worst(gradient, plain[1]) < 1e-5


def test_activation_checkpointing_is_exact(path: str, plain: tuple[float, Gradients]) -> None:
    assert worst(ours(path, ALL, activation_checkpointing=True)[1], plain[1]) < 1e-5


def test_several_threads_compute_the_same(path: str, plain: tuple[float, Gradients]) -> None:
    torch.set_num_threads(2)
    assert worst(ours(path, ALL)[1], plain[1]) < 1e-5


def test_negative_control(path: str) -> None:
    of = examples(truncate=False)
    first, last = np.flatnonzero(of[1].weights)[[0, -1]]
    weights = of[1].weights.copy()
    weights[last], weights[first - 1] = 0, 1
    of[1] = dataclasses.replace(of[1], weights=weights)
    assert worst(ours(path, ALL)[1], reference(path, of)[1]) > 1e-3


def test_step_mean_weighs_every_critical_step_the_same(path: str) -> None:
    of = examples("step_mean")
    row = make_row(of, share=True)
    with torch.no_grad():
        loss = float((token_losses(network(path, ALL), row) * row.weights).sum() / denominator(of))
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
    loaded = network(path, ALL)
    first, second = examples()[2:4]
    with torch.no_grad():
        together = token_losses(loaded, make_row([first, second]))
        alone = torch.cat([token_losses(loaded, make_row([one])) for one in (first, second)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_flex_attention_computes_the_same_losses(path: str) -> None:
    row = make_row(examples(), share=True)
    assert len(row.layout.trees) < len(row.layout.segments)
    losses = []
    for kernel in ("sdpa", "flex"):
        with torch.no_grad():  # it has no backward pass on CPUs
            losses.append(token_losses(load(Recipe(path, ALL, kernel, TrainConfig())), row))
    assert torch.allclose(*losses, atol=1e-5)


def test_a_narrow_window_is_not_packed_and_still_exact(tmp_path: Path) -> None:
    path = save(tiny("mistral", sliding_window=40), tmp_path)
    skips = dataclasses.replace(NONE, head_at_labels=True, truncate=True)
    assert worst(ours(path, skips)[1], reference(path, examples(truncate=False))[1]) < 1e-5


GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
OTHERS = {
    "gpt2": GPT2 | {"bos_token_id": 0, "eos_token_id": 2},  # not of the families whose last layer is known
    "gemma2": SHAPE | {"query_pre_attn_scalar": 32},  # caps attention logits, which sdpa leaves out
    "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 2, "hidden_dropout": 0.0, "attention_dropout": 0.0},  # no sdpa
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_architectures_are_exact_in_what_is_decided_for_them(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**OTHERS[kind], "vocab_size": 640}))
    path = save(model, tmp_path)
    skips, _ = decide(model, TrainConfig(), "sdpa", longest=400)
    assert worst(ours(path, skips, 250)[1], reference(path, examples(truncate=False))[1]) < 1e-5


def test_a_layer_that_masks_by_itself_is_refused() -> None:
    states = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ModelError, match="Linear makes a mask of its own"):
        attend(torch.nn.Linear(1, 1), states, states, states, states, layout=make_row(examples()).layout)


def test_losses_that_are_not_finite_are_named() -> None:
    row = make_row(examples(), share=True)
    for name in ("t002", "f003"):
        losses = torch.zeros(len(row.targets))
        label_of, document = row.owners
        mine = np.unique(label_of[document == row.trajectory_ids.index(name)])
        losses[mine[-1]] = torch.nan
        assert non_finite(losses, row) == [name]


def broken_weight(folder: Path) -> str:
    model = tiny("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    return save(model, folder)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (broken_weight, r"1 weights are not finite \(model.norm.weight\)"),
        (lambda folder: save(tiny("llama", output_router_logits=True), folder), "auxiliary loss"),
    ],
)
def test_models_that_cannot_be_trained_on_are_refused(tmp_path: Path, make: Callable[[Path], str], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        network(make(tmp_path), ALL)


def test_shared_labels_are_computed_once() -> None:
    of = examples()
    apart, shared = make_row(of), make_row(of, share=True)
    assert shared.ids.shape[1] < apart.ids.shape[1]
    assert len(shared.targets) < len(apart.targets)
    assert shared.weights.sum() == apart.weights.sum() == denominator(of)
    assert all(first < second for first, second in itertools.pairwise(shared.predictors.tolist()))
