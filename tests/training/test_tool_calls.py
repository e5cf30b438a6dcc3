"""Trajectories with tool calls, trained as trees: a Llama with its tool role computes what separate rows give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from atlas_ray.config import TrainConfig
from atlas_ray.training.examples import prepare
from atlas_ray.training.loop import backward, rows_of
from atlas_ray.training.reference import padded_loss
from tests.chat.test_calls import expert, tok
from tests.training.test_thinking import CPU, gradients, network, weight, worst
from tests.training.tiny import ALL, tiny


@pytest.mark.parametrize("span", ["both", "action"])
def test_gradients_of_calls_are_those_of_separate_rows(tmp_path: Path, span: str) -> None:
    tokenizer, options = tok("llama"), TrainConfig(span=span)
    tiny("llama", vocab_size=1024).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    first = expert("textcraft")
    again = first.model_copy(update={"trajectory_id": "again"})  # the same beginning, and another choice of steps
    labels = {first.trajectory_id: {0: 1.0}, "again": {1: 0.5}}
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").train()
    whole = prepare([first, again], labels, tokenizer, options, truncate=False)[0]
    for row in whole:
        padded_loss(plain, [row], weight(whole)).backward()
    loaded, of = network(str(tmp_path), ALL), prepare([first, again], labels, tokenizer, options)[0]
    [row] = rows_of(of, 0, 1, 10_000, ALL, CPU)
    assert row.layout.tokens < sum(len(example.ids) for example in of)
    backward(loaded, [row], weight(of), 1)
    assert worst(gradients(loaded.model), gradients(plain)) < 1e-5
