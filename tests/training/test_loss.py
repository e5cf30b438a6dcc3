"""Every variant's gradient is that of the plain padded batch, parameter by parameter, whatever the steps' weights."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from atlas_ray.chat import encode
from atlas_ray.config import TrainConfig
from atlas_ray.errors import ModelError
from atlas_ray.training.attention import attend
from atlas_ray.training.exact import decide
from atlas_ray.training.examples import Example, prepare
from atlas_ray.training.job import ExactOptimizations
from atlas_ray.training.loop import rows_of
from atlas_ray.training.loss import empty_row, make_row, non_finite, token_losses
from atlas_ray.training.model import Network, Recipe, load
from atlas_ray.training.reference import padded_loss
from tests.tokenizers import tokenizer
from tests.training.tiny import ALL, SHAPE, Labels, save, tiny, trajectory

TOKENIZER = tokenizer("chatml")
# Two pairs begin alike: as rollouts that branch from one state, and with a critical step in what they share.
TRAJECTORIES = [trajectory(number, 2 + number) for number in range(4)]
TRAJECTORIES += [trajectory(number, 5, fork=4, name=f"f{number:03d}") for number in (2, 3)]
ONES: Labels = {
    "t000": {0: 1}, "t001": {0: 1, 2: 1}, "t002": {1: 1}, "t003": {0: 1, 3: 1}, "f002": {1: 1, 4: 1}, "f003": {4: 1},
}  # fmt: skip
# Step 1 of the last two is in what they share: one label there has two weights.
FRACTIONS: Labels = {
    "t000": {0: 0.125}, "t001": {0: 1, 2: 0.3}, "t002": {1: 0.01}, "t003": {0: 0.7, 3: 0.9},
    "f002": {1: 0.25, 4: 0.6}, "f003": {1: 0.45, 4: 1},
}  # fmt: skip
NONE = ExactOptimizations(*[False] * 5)
Gradients = dict[str, torch.Tensor]


def gradients(model: PreTrainedModel) -> Gradients:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def examples(labels: Labels = ONES, loss: str = "token_mean", truncate: bool = True) -> list[Example]:
    return prepare(TRAJECTORIES, labels, TOKENIZER, TrainConfig(loss=loss), truncate=truncate)[0]


def denominator(of: list[Example]) -> float:
    return sum(example.total_weight for example in of)


def reference(path: str, of: list[Example]) -> tuple[float, Gradients]:
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").train()
    loss = padded_loss(model, of, denominator(of))
    loss.backward()
    return loss.item(), gradients(model)


def network(path: str, optimizations: ExactOptimizations, **options: object) -> Network:
    return load(Recipe(path, optimizations, "sdpa", TrainConfig(**options)))


def ours(
    path: str, optimizations: ExactOptimizations, capacity: int = 10_000, labels: Labels = ONES, **options: object
) -> tuple[float, Gradients]:
    loaded = network(path, optimizations, **options)
    return backward_of(loaded, examples(labels, truncate=optimizations.truncate), capacity)


def backward_of(loaded: Network, of: list[Example], capacity: int) -> tuple[float, Gradients]:
    optimizations, total = loaded.optimizations, 0.0
    loaded.model.zero_grad()
    for row in [*rows_of(of, 0, 1, capacity, optimizations, torch.device("cpu")), empty_row()]:
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


@pytest.fixture(scope="module", params=[ONES, FRACTIONS], ids=["ones", "fractions"])
def labels(request: pytest.FixtureRequest) -> Labels:
    found: Labels = request.param
    return found


@pytest.fixture(scope="module")
def weighted(path: str, labels: Labels) -> tuple[float, Gradients]:
    return reference(path, examples(labels, truncate=False))


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
def test_gradient_equals_the_plain_one(
    path: str, labels: Labels, weighted: tuple[float, Gradients], variant: str
) -> None:
    for capacity in (10_000, 250):  # in one row and in several
        loss, gradient = ours(path, VARIANTS[variant], capacity, labels)
        assert loss == pytest.approx(weighted[0], rel=1e-5)
        assert worst(gradient, weighted[1]) < 1e-5


weights_ = st.floats(1e-3, 1)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), variant=st.sampled_from(["pack", "all"]), loss=st.sampled_from(["token_mean", "step_mean"]))
def test_any_weights_give_the_plain_gradient(llama: str, data: st.DataObject, variant: str, loss: str) -> None:
    drawn: Labels = {
        one.trajectory_id: data.draw(st.dictionaries(st.integers(0, one.n_steps - 1), weights_, min_size=1))
        for one in TRAJECTORIES
    }
    optimizations = VARIANTS[variant]
    expected = reference(llama, examples(drawn, loss, truncate=False))
    found = backward_of(network(llama, optimizations), examples(drawn, loss, optimizations.truncate), 300)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert worst(found[1], expected[1]) < 1e-5


def test_a_common_factor_of_all_weights_changes_nothing(path: str, plain: tuple[float, Gradients]) -> None:
    halves: Labels = {name: dict.fromkeys(steps, 0.5) for name, steps in ONES.items()}
    loss, gradient = ours(path, ALL, labels=halves)
    assert loss == pytest.approx(plain[0], rel=1e-6)
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
    assert worst(ours(path, ALL, labels=FRACTIONS)[1], ours(path, ALL)[1]) > 1e-3  # weights are not ignored


def test_step_mean_averages_critical_steps_by_their_weights(path: str, labels: Labels) -> None:
    of = examples(labels, "step_mean")
    row = make_row(of, share=True)
    with torch.no_grad():
        loss = float((token_losses(network(path, ALL), row) * row.weights).sum() / denominator(of))
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    means, weights = [], []
    for one in TRAJECTORIES:
        encoded = encode(one, TOKENIZER)
        tokens = torch.tensor(encoded.ids)
        with torch.no_grad():
            losses = torch.nn.functional.cross_entropy(model(tokens[None]).logits[0, :-1], tokens[1:], reduction="none")
        for step, weight in labels[one.trajectory_id].items():
            start, end = encoded.spans[step]
            means.append(losses[start - 1 : end - 1].mean().item())
            weights.append(weight)
    assert loss == pytest.approx(float(np.average(means, weights=weights)), rel=1e-5)


def test_documents_of_a_row_do_not_see_each_other(path: str) -> None:
    loaded = network(path, ALL)
    first, second = examples()[2:4]
    with torch.no_grad():
        together = token_losses(loaded, make_row([first, second]))
        alone = torch.cat([token_losses(loaded, make_row([one])) for one in (first, second)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_flex_attention_computes_the_same_losses(path: str) -> None:
    row = make_row(examples(), share=True)
    assert any(segment.ancestors for segment in row.layout.segments)
    losses = []
    for kernel in ("sdpa", "flex"):
        with torch.no_grad():  # it has no backward pass on CPUs
            losses.append(token_losses(load(Recipe(path, ALL, kernel, TrainConfig())), row))
    assert torch.allclose(*losses, atol=1e-5)


def test_a_narrow_window_is_not_packed_and_still_exact(tmp_path: Path) -> None:
    path = save(tiny("mistral", sliding_window=40), tmp_path)
    optimizations = dataclasses.replace(NONE, head_at_labels=True, truncate=True)
    assert worst(ours(path, optimizations)[1], reference(path, examples(truncate=False))[1]) < 1e-5


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
    optimizations, _ = decide(model, TrainConfig(), "sdpa", longest=400)
    assert worst(ours(path, optimizations, 250)[1], reference(path, examples(truncate=False))[1]) < 1e-5


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
    of = examples(FRACTIONS)
    apart, shared = make_row(of), make_row(of, share=True)
    assert shared.ids.shape[1] < apart.ids.shape[1]
    assert len(shared.targets) < len(apart.targets)
    assert float(shared.weights.sum()) == pytest.approx(denominator(of), rel=1e-6)
    assert float(apart.weights.sum()) == pytest.approx(denominator(of), rel=1e-6)
    assert all(first < second for first, second in itertools.pairwise(shared.predictors.tolist()))
