"""Shapes of small agents: close to the number asked for, and the family's own layers."""

from __future__ import annotations

import pytest

from atlas_ray.pretrain.shapes import FAMILIES, Family, parse_size, shape_of, untrained


@pytest.mark.parametrize("text", ["500k", "3M", "10M", "20M", "5000000"])
@pytest.mark.parametrize("vocabulary", [300, 2048, 4096])
def test_a_shape_has_about_the_parameters_asked_for(text: str, vocabulary: int) -> None:
    size = parse_size(text)
    shape = shape_of(size, vocabulary)
    width, layers = shape["hidden_size"], shape["num_hidden_layers"]
    assert shape["head_dim"] * shape["num_attention_heads"] == width
    inner = shape["intermediate_size"]
    assert vocabulary * width + layers * (4 * width**2 + 3 * width * inner) == pytest.approx(size, rel=0.25)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_its_own_layers_and_equal_seeds_give_equal_weights(family: Family) -> None:
    one, same, other = (
        untrained(family, 500_000, vocabulary=300, end=2, pad=0, seed=seed).state_dict() for seed in (0, 0, 1)
    )
    assert any("q_norm" in name for name in one) == (family == "qwen3")
    assert all(one[name].equal(same[name]) for name in one)
    assert not one["model.embed_tokens.weight"].equal(other["model.embed_tokens.weight"])
