"""How many tokens a row may hold, and the line that says what does not fit."""

from __future__ import annotations

import pytest

from atlas_ray.config import TrainConfig
from atlas_ray.errors import TrainingError
from atlas_ray.training.dry_run import activation_bytes, needs
from atlas_ray.training.exact import meta_model
from atlas_ray.training.fit import SHARE, Needs, row_tokens
from tests.training.tiny import tiny

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
    found = needs(model, options, 0.25)
    for tokens in (512, 4096):
        kept = activation_bytes(model, options, tokens, tokens // 4)
        assert found.fixed + tokens * found.per_token == pytest.approx(18 * parameters + kept, rel=1e-3)
    shared = needs(model, options.model_copy(update={"workers": 4}), 0.25)
    assert shared.fixed < found.fixed
    assert shared.per_token == found.per_token
