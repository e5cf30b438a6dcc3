"""Adapters: merged weights compute what the adapted model did; the directory beside them loads in peft."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from atlas_ray.config import TrainConfig
from atlas_ray.store import Store
from atlas_ray.training import checkpoint, flops
from atlas_ray.training.examples import prepare
from atlas_ray.training.export import export
from atlas_ray.training.loss import make_row, token_losses
from atlas_ray.training.model import Recipe, load
from tests.tokenizers import tokenizer
from tests.training.tiny import ALL, save, tiny, trajectory

OPTIONS = TrainConfig(lora={"rank": 4, "alpha": 16})


@pytest.mark.parametrize("family", ["llama", "mistral"])  # with the head tied to the embedding, and not
def test_adapter_is_trained_merged_and_written(family: str, tmp_path: Path) -> None:
    base = save(tiny(family), tmp_path / "base")
    network = load(Recipe(base, ALL, "sdpa", OPTIONS))
    model = network.model
    tuned = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert tuned
    assert all(".lora_" in name for name in tuned)
    assert flops.shape_of(model).frozen
    trajectories = [trajectory(number, 3) for number in range(3)]
    examples, _ = prepare(trajectories, {t.trajectory_id: {1: 1.0} for t in trajectories}, tokenizer("chatml"), OPTIONS)
    row = make_row(examples)
    optimizer = torch.optim.AdamW(tuned.values(), lr=1e-2)
    losses = []
    for _ in range(4):
        loss = token_losses(network, row).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]

    store = Store(str(tmp_path / "run"))
    checkpoint.Saver(store, "llm", model, optimizer, in_background=False).save(4)
    again = load(Recipe(base, ALL, "sdpa", OPTIONS, seed=9)).model
    moments = torch.optim.AdamW([weight for weight in again.parameters() if weight.requires_grad], lr=1e-2)
    checkpoint.load(store, "llm", 4, again, moments)
    assert all(torch.equal(weight, dict(again.named_parameters())[name]) for name, weight in tuned.items())

    export(store, "llm", model, tokenizer("chatml"), base, write=True, adapter=OPTIONS.lora)
    export(store, "llm", model, tokenizer("chatml"), base, write=True, adapter=OPTIONS.lora)  # over an older one
    path = tmp_path / "run" / "checkpoints" / "llm"
    expected = token_losses(network, row).detach()
    merged = load(Recipe(str(path), ALL, "sdpa", TrainConfig()))
    assert torch.allclose(token_losses(merged, row), expected, atol=1e-4)
    plain = load(Recipe(base, ALL, "sdpa", TrainConfig()))
    assert not torch.allclose(token_losses(plain, row), expected, atol=1e-2)
    adapted = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), path / "adapter")
    with torch.no_grad():
        of = examples[0]
        logits = adapted(torch.as_tensor(of.ids[:-1])[None].long()).logits[0]
        at = of.weights.nonzero()[0]
        own = torch.nn.functional.cross_entropy(logits[at - 1], torch.as_tensor(of.ids[at]).long(), reduction="none")
    assert torch.allclose(own, expected[: len(at)], atol=1e-4)
