"""Trees of thinking models: a trunk without earlier thoughts and a branch for each step, trained at once, exactly."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from atlas_ray.config import TrainConfig
from atlas_ray.config_files import load
from atlas_ray.store import Store
from atlas_ray.training import flops
from atlas_ray.training.dry_run import dry_run
from atlas_ray.training.examples import Example, by_trajectory, prepare
from atlas_ray.training.job import ExactOptimizations
from atlas_ray.training.loop import backward, count, rows_of, steps_of, unshared
from atlas_ray.training.model import Network, Recipe
from atlas_ray.training.model import load as load_network
from atlas_ray.training.reference import padded_loss
from atlas_ray.trajectory import Selection, Trajectory
from tests.tokenizers import of_kind
from tests.training.tiny import ALL, Labels, tiny, trajectory

TOKENIZER = of_kind("split", "qwen3")
CPU = torch.device("cpu")
NONE = ExactOptimizations(*[False] * 5)
LABELS: Labels = {"t002": {0: 1, 2: 0.5}, "t003": {1: 1, 2: 0.25, 4: 1}}
Gradients = dict[str, torch.Tensor]


def thinking(number: int, n_steps: int) -> Trajectory:
    """A conversation in which every second step has a thought."""
    plain = trajectory(number, n_steps)
    messages = [
        each.model_copy(update={"thinking": f"Step {each.step}: {' '.join('abcdefgh' * (1 + each.step % 3))}"})
        if each.step is not None and each.step % 2 == 0 else each
        for each in plain.messages
    ]  # fmt: skip
    return plain.model_copy(update={"messages": tuple(messages)})


TRAJECTORIES = [thinking(2, 4), thinking(3, 6)]


def examples(*, truncate: bool = True) -> list[Example]:
    return prepare(TRAJECTORIES, LABELS, TOKENIZER, TrainConfig(), truncate=truncate)[0]


def weight(of: list[Example]) -> float:
    return sum(example.total_weight for example in of)


def gradients(model: torch.nn.Module) -> Gradients:
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def worst(ours: Gradients, reference: Gradients) -> float:
    """Largest relative L2 distance over the parameters."""
    assert ours.keys() == reference.keys()
    return max(float((ours[name] - reference[name]).norm() / reference[name].norm()) for name in reference)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("qwen3")
    tiny("qwen3", vocab_size=1024).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def separate(path: str) -> Gradients:
    """Of one row per critical step, each in full and computed on its own by the model's own attention."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").train()
    whole = examples(truncate=False)
    for row in whole:
        padded_loss(model, [row], weight(whole)).backward()
    return gradients(model)


def network(path: str, optimizations: ExactOptimizations) -> Network:
    return load_network(Recipe(path, optimizations, "sdpa", TrainConfig()))


@pytest.mark.parametrize(
    "optimizations",
    [ALL, NONE, dataclasses.replace(NONE, pack=True, prefix_tree=True), dataclasses.replace(ALL, prefix_tree=False)],
    ids=["all", "none", "tree", "no tree"],
)
def test_gradients_of_trees_are_those_of_separate_rows(
    path: str, separate: Gradients, optimizations: ExactOptimizations
) -> None:
    for capacity in (10_000, 300):
        loaded, of = network(path, optimizations), examples(truncate=optimizations.truncate)
        backward(loaded, rows_of(of, 0, 1, capacity, optimizations, CPU), weight(of), 1)
        assert worst(gradients(loaded.model), separate) < 1e-5


def test_a_label_that_is_moved_is_seen(path: str, separate: Gradients) -> None:
    loaded, of = network(path, ALL), examples()
    moved, first = of[0].weights.copy(), int(np.flatnonzero(of[0].weights)[0])
    moved[first - 1 : first + 1] = 1, 0
    changed = [dataclasses.replace(of[0], weights=moved), *of[1:]]
    backward(loaded, rows_of(changed, 0, 1, 10_000, ALL, CPU), weight(of), 1)
    assert worst(gradients(loaded.model), separate) > 1e-3


def test_an_optimizer_step_holds_whole_trajectories_and_counts_what_they_share_once(path: str) -> None:
    of, report = prepare(TRAJECTORIES, LABELS, TOKENIZER, TrainConfig())
    first, second = by_trajectory(of)
    assert [len(first), len(second)] == [2, 3]
    assert steps_of(of, TrainConfig(batch_size=1, epochs=2), 0) == 4
    [row] = rows_of(second, 0, 1, 10_000, ALL, CPU)
    counted = count([row])
    _, cut = unshared(second)
    assert counted.tokens == row.layout.tokens < 0.7 * cut.tokens
    read = sum(count(rows_of(rows, 0, 1, 10_000, ALL, CPU)).tokens for rows in (first, second))
    # What is shared beyond another branch, but is shorter than prefix_tree.MIN_SHARED, stands twice.
    assert report.read_tokens <= read < 0.8 * report.row_tokens
    assert report.row_tokens == sum(example.length for example in of)
    context = np.concatenate([np.arange(1, len(example.ids)) for example in second])
    assert counted.pairs < context.sum() == cut.pairs
    shape = flops.shape_of(network(path, ALL).model)
    shares = flops.skipped(shape, *unshared(second), counted, head=True, last=True)
    assert shares["prefix_tree"] > 0.2


def test_the_dry_run_counts_trees(path: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    store.write_trajectories(TRAJECTORIES)
    rows = [
        Selection(trajectory_id=key, method="random", ratio=0.5, steps=tuple(steps)) for key, steps in LABELS.items()
    ]
    store.write_selections("random", rows)
    options = {"run_dir": store.url, "model": path, "train.selections": ["random"], "train.batch_size": 1}
    tree, apart = (
        dry_run(load(None, options | {"train.exact.prefix_tree": on}), "h100", 100).splitlines() for on in (True, False)
    )
    assert "2 trajectories" in tree[1]
    assert tree[3] == apart[3]
    assert tree[3].startswith("steps       6 of 1 trajectories in 3 epochs")

    def total(lines: list[str]) -> float:
        [found] = [line for line in lines if line.startswith("FLOPs")]
        return float(found.split()[1].rstrip(";"))

    assert total(tree) < 0.9 * total(apart)
