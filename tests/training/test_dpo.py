"""Pairs with a shared history: loss and gradient are those of the plain two-row form, whatever the rows look like."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from atlas_ray.config import TrainConfig
from atlas_ray.errors import ModelError, TrainingError
from atlas_ray.training import dpo
from atlas_ray.training.exact import decide
from atlas_ray.training.job import ExactOptimizations
from atlas_ray.training.loop import backward, rows_of
from atlas_ray.training.loss import empty_row
from atlas_ray.training.model import Network, Recipe, load
from atlas_ray.training.pairs import Pair, prepare_pairs
from atlas_ray.training.reference import margin, pair_loss
from atlas_ray.trajectory import Alternative, Message, StepPreference
from tests.tokenizers import tokenizer
from tests.training.tiny import ALL, tiny, trajectory

TOKENIZER, CPU, BETA = tokenizer("chatml"), torch.device("cpu"), 0.3
Gradients = dict[str, torch.Tensor]


def preference(number: int, step: int, worse: str, fork: int = 0, n_steps: int = 5) -> StepPreference:
    """The trajectory's own step against a reply of that text."""
    one = trajectory(number, n_steps, fork)
    turn = next(turn for turn, message in enumerate(one.messages) if message.step == step)

    def alternative(reply: Message, value: float) -> Alternative:
        return Alternative(reply=reply, action=None, value=value, count=5, by="policy")

    return StepPreference(
        trajectory_id=one.trajectory_id, env="none", item_id="none_0", step=step, history=one.messages[:turn],
        better=alternative(one.messages[turn], 1.0), p_value=0.01,
        worse=alternative(Message(role="assistant", content=worse, step=step), 0.0),
    )  # fmt: skip


# Two pairs of one state, two of one trajectory, one alone; some replies begin alike.
PREFERENCES = [
    preference(1, 3, "Thought: 1 2\nAction: stop"), preference(1, 3, "Action: wait a while and look around"),
    preference(1, 4, "Thought: none\nAction: go 3"), preference(2, 0, "Action: sleep"),
    preference(3, 4, "Thought: 4\nAction: go back to where this began, and further"),
]  # fmt: skip


def pairs(options: TrainConfig | None = None, *, truncate: bool = True) -> list[Pair]:
    return prepare_pairs(PREFERENCES, TOKENIZER, options or TrainConfig(), truncate=truncate)[0]


def referred(path: str, of: list[Pair]) -> list[Pair]:
    """Pairs whose margins are above and below their references, but near enough for the sigmoid to have a slope."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        margins = [margin(model, pair).item() for pair in of]
    return [
        dataclasses.replace(pair, reference=value + 2 * number - 4)
        for number, (pair, value) in enumerate(zip(of, margins, strict=True))
    ]


def gradients(model: PreTrainedModel) -> Gradients:
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def plain(path: str, of: list[Pair]) -> tuple[float, Gradients]:
    """Each pair as two padded rows through the model's own attention."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").train()
    total = 0.0
    for pair in of:
        loss = pair_loss(model, pair, BETA) / len(of)
        loss.backward()
        total += loss.item()
    return total, gradients(model)


def network(path: str, optimizations: ExactOptimizations = ALL) -> Network:
    return load(Recipe(path, optimizations, "sdpa", TrainConfig()))


def ours(loaded: Network, of: list[Pair], capacity: int = 10_000) -> tuple[float, Gradients]:
    rows = rows_of(of, 0, 1, capacity, loaded.optimizations, CPU, dpo.row_maker(BETA))
    loaded.model.zero_grad()
    result = backward(loaded, [*rows, empty_row()], len(of), 1)
    return result.loss, gradients(loaded.model)


def worst(ours: Gradients, plain: Gradients) -> float:
    """Largest relative L2 distance over the parameters."""
    assert ours.keys() == plain.keys()
    return max(float((ours[name] - plain[name]).norm() / plain[name].norm()) for name in plain)


@pytest.fixture(scope="module")
def expected(llama: str) -> tuple[float, Gradients]:
    return plain(llama, referred(llama, pairs(truncate=False)))


VARIANTS = {
    "all": ALL,
    "no tree": dataclasses.replace(ALL, prefix_tree=False),
    "packed alone": ExactOptimizations(False, False, True, False, False),
    "tree alone": ExactOptimizations(False, False, True, True, False),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("capacity", [10_000, 150])  # in one row, and in several
def test_loss_and_gradient_are_those_of_two_plain_rows(
    llama: str, expected: tuple[float, Gradients], variant: str, capacity: int
) -> None:
    of = referred(llama, pairs(truncate=VARIANTS[variant].truncate))
    loss, gradient = ours(network(llama, VARIANTS[variant]), of, capacity)
    assert loss == pytest.approx(expected[0], rel=1e-5)
    assert worst(gradient, expected[1]) < 1e-5


def test_negative_control(llama: str, expected: tuple[float, Gradients]) -> None:
    of = referred(llama, pairs())
    swapped = [dataclasses.replace(of[0], chosen=of[0].rejected, rejected=of[0].chosen), *of[1:]]
    assert worst(ours(network(llama), swapped)[1], expected[1]) > 1e-2
    moved = [dataclasses.replace(of[0], reference=of[0].reference + 1), *of[1:]]
    assert worst(ours(network(llama), moved)[1], expected[1]) > 1e-3


def test_mean_log_probabilities(llama: str) -> None:
    of = referred(llama, pairs(TrainConfig(loss="step_mean")))
    loss, gradient = ours(network(llama), of)
    expected = plain(llama, of)
    assert loss == pytest.approx(expected[0], rel=1e-5)
    assert worst(gradient, expected[1]) < 1e-5
    assert all(side.total_weight == pytest.approx(1) for pair in of for side in pair.sequences)


def test_the_history_stands_once() -> None:
    of = pairs()
    [shared] = rows_of(of, 0, 1, 10_000, ALL, CPU, dpo.row_maker(BETA))
    [apart] = rows_of(of, 0, 1, 10_000, VARIANTS["no tree"], CPU, dpo.row_maker(BETA))
    assert apart.ids.shape[1] == sum(pair.length for pair in of)
    histories = {len(pair.chosen.ids) - pair.chosen.labelled for pair in of[:2]}
    assert len(histories) == 1  # of one state
    assert shared.ids.shape[1] < apart.ids.shape[1] - 3 * histories.pop()


@pytest.mark.parametrize("capacity", [60, 150, 400])
@pytest.mark.parametrize("world", [1, 2])
def test_a_pair_is_never_cut(capacity: int, world: int) -> None:
    names: list[str] = []
    counts = set()
    for rank in range(world):
        rows = rows_of(pairs(), rank, world, capacity, ALL, CPU, dpo.row_maker(BETA))
        counts.add(len(rows))
        names += [name for row in rows if isinstance(row, dpo.PairRow) for name in row.names]
    assert sorted(names) == sorted(pair.name for pair in pairs())
    assert len(counts) == 1  # so that the collectives match


def test_margins_of_the_start_model_make_the_first_loss_log_2(llama: str) -> None:
    loaded = network(llama)
    rows = rows_of(pairs(), 0, 1, 150, ALL, CPU, dpo.row_maker(BETA))
    margins = dpo.start_margins(loaded, rows)
    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    for pair in pairs():
        with torch.no_grad():
            assert margins[pair.name] == pytest.approx(margin(model, pair).item(), rel=1e-5)
    of = [dataclasses.replace(pair, reference=margins[pair.name]) for pair in pairs()]
    assert loaded.model.training
    loss, _ = ours(loaded, of)
    assert loss == pytest.approx(np.log(2), abs=1e-5)


def test_the_report_and_what_is_left_out() -> None:
    found, report = prepare_pairs(PREFERENCES, TOKENIZER, TrainConfig())
    assert [pair.name for pair in found] == ["t001/3/0", "t001/3/1", "t001/4/2", "t002/0/3", "t003/4/4"]
    assert (report.pairs, report.without_other, report.rows) == (5, 0, 10)
    assert str(report).startswith(f"5 pairs, {sum(pair.labelled for pair in found)} of ")
    longest = max(len(side.ids) for pair in found for side in pair.sequences)
    short = TrainConfig(max_length=longest - 1, max_dropped_steps=0.5)
    fewer, report = prepare_pairs(PREFERENCES, TOKENIZER, short)
    assert len(fewer) < len(found)
    assert report.without_other == len(found) - len(fewer)
    assert "pairs are left out" in str(report)
    with pytest.raises(TrainingError, match="beyond train.max_length"):
        prepare_pairs(PREFERENCES, TOKENIZER, TrainConfig(max_length=20))


def test_a_model_that_cannot_be_packed_is_refused(tmp_path: Path) -> None:
    model = tiny("mistral", sliding_window=40)
    optimizations, reasons = decide(model, TrainConfig(), "sdpa", longest=400)
    with pytest.raises(ModelError, match="train.objective=dpo needs rows .*attention window"):
        dpo.check(optimizations, reasons)
    dpo.check(ALL, {})
