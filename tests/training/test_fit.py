"""How many tokens a row may hold, and the line that says what does not fit."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from atlas_ray.config import TrainConfig
from atlas_ray.errors import TrainingError
from atlas_ray.training.dry_run import activation_bytes, needs
from atlas_ray.training.exact import meta_model
from atlas_ray.training.examples import Example
from atlas_ray.training.fit import SHARE, Needs, row_tokens
from atlas_ray.training.job import Job
from atlas_ray.training.loop import sized
from atlas_ray.training.model import config_of
from tests.training.tiny import ALL, tiny

CARD = 80e9
SMALL = Needs(fixed=3e9, per_token=1e6)


@pytest.mark.parametrize(
    ("needs", "longest", "tokens"),
    [
        (SMALL, 900, 65_536),  # more would gain nothing
        (Needs(fixed=3e9, per_token=4e6), 900, 16_384),
        (Needs(fixed=70e9, per_token=1e6), 900, 2048),
        (Needs(fixed=70e9, per_token=1e6), 3000, 3000),  # a trajectory is not cut for the sake of a power of two
        (Needs(fixed=72.5e9, per_token=1e6), 900, 1024),
    ],
)
def test_a_row_holds_what_fits(needs: Needs, longest: int, tokens: int) -> None:
    assert row_tokens(needs, CARD, longest) == tokens
    assert needs.fixed + tokens * needs.per_token <= SHARE * CARD


def test_what_does_not_fit_is_one_line_with_a_remedy() -> None:
    with pytest.raises(
        TrainingError, match=r"needs 128.5 GB .*, 92% of this GPU are 73.6 GB: 55.9 GB are missing; set"
    ):
        row_tokens(Needs(fixed=128.5e9, per_token=1e6), CARD, 8192)
    with pytest.raises(TrainingError, match="the longest trajectory has 8192 tokens, 3600 fit on this GPU; .* to 3600"):
        row_tokens(Needs(fixed=70e9, per_token=1e6), CARD, 8192)


def test_needs_are_the_dry_runs_own_figures() -> None:
    model = meta_model(tiny("llama").config)
    parameters = sum(weight.numel() for weight in model.parameters())
    options = TrainConfig()
    found = needs(model, options, ALL, 0.25)
    for tokens in (2048, 8192):
        kept = sum(activation_bytes(model, options, ALL, tokens, 0.25))
        head = 6 * model.get_output_embeddings().weight.numel()
        assert found.fixed + tokens * found.per_token == pytest.approx(18 * parameters + head + kept, rel=1e-3)
    shared = needs(model, options.model_copy(update={"workers": 4}), ALL, 0.25)
    assert shared.fixed < found.fixed
    assert shared.per_token == found.per_token


def test_a_trajectory_beyond_the_card_is_refused_with_the_length_that_fits(
    llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainConfig(pack_tokens=512)
    job = Job("t", "", llama, options, ALL, "flex", threads=1, seed=0)
    weights = np.zeros(5001, np.float32)
    weights[-500:] = 1
    example = Example("long", np.zeros(5001, np.int32), weights, 5001)
    needed = needs(meta_model(config_of(llama)), options, ALL, 500 / example.length)
    card = SimpleNamespace(total_memory=(needed.fixed + 3000 * needed.per_token) / SHARE)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    with pytest.raises(TrainingError) as refused:
        sized(job, [example], llama, torch.device("cuda", 0))
    line = rf"the longest trajectory has {example.length} tokens, (\d+) fit on this GPU; .* to (\d+)"
    said = re.search(line, str(refused.value))
    assert said is not None
    assert int(said[1]) == int(said[2]) == pytest.approx(3000, abs=1)
    card.total_memory *= 3
    assert sized(job, [example], llama, torch.device("cuda", 0)) == job
    roomy = sized(replace(job, options=TrainConfig()), [example], llama, torch.device("cuda", 0))
    assert roomy.options.pack_tokens >= example.length
