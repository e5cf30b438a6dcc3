"""Names of the configuration to models of a run."""

from __future__ import annotations

from typing import Any

import pytest

from atlas_ray.config import EngineConfig, PipelineConfig
from atlas_ray.errors import ConfigError
from atlas_ray.roster import Roster, selection_of, tuned_selections


def roster(**values: Any) -> Roster:
    config = PipelineConfig.model_validate(values)
    return Roster(config, lambda checkpoint: f"key of {checkpoint}", lambda checkpoint: f"/checkpoints/{checkpoint}")


def told(found: Roster, name: str) -> list[tuple[str, str, str | None, int | None]]:
    return [(entry.name, entry.kind, entry.selection, entry.seed) for entry in found.entries(name)]


def test_names_and_kinds():
    found = roster(
        select={"selections": {"few": {"method": "random", "ratio": 0.1}}}, train={"warmup": {}},
        evaluate={"endpoints": {"gpt": {"base_url": "http://x/v1", "model": "m"}}},
    )  # fmt: skip
    assert told(found, "random") == [("random", "policy", None, None)]
    assert told(found, "base") == [("base", "base", None, None)]
    assert told(found, "warmup") == [("warmup", "warmup", None, 0)]
    assert told(found, "gpt") == [("gpt", "endpoint", None, None)]
    assert told(found, "llm") == [("llm", "tuned", "llm", 0)]
    assert told(found, "few") == [("few", "tuned", "few", 0)]
    assert told(found, "random_steps") == [("random_steps", "tuned", "random", 0)]
    assert found.entry("random_steps").directory == "/checkpoints/random"
    assert found.start().name == "warmup"


def test_seeds_are_models_of_their_own():
    found = roster(train={"seeds": [3, 5]})
    assert told(found, "llm") == [("llm", "tuned", "llm", 3), ("llm.s5", "tuned", "llm", 5)]
    assert told(found, "llm.s5") == [("llm.s5", "tuned", "llm", 5)]
    assert told(found, "random_steps") == [
        ("random_steps", "tuned", "random", 3), ("random_steps.s5", "tuned", "random", 5)
    ]  # fmt: skip
    assert found.entry("llm.s5").directory == "/checkpoints/llm.s5"
    with pytest.raises(ConfigError, match=r"llm\.s4: train\.seeds are 3, 5"):
        found.entries("llm.s4")


def test_models_tuned_by_preferences_have_names_of_their_own():
    found = roster(train={"seeds": [3, 5], "objective": "dpo"})
    assert told(found, "value") == [("value.dpo", "tuned", "value", 3), ("value.dpo.s5", "tuned", "value", 5)]
    assert told(found, "value.dpo.s5") == told(found, "value.s5") == [("value.dpo.s5", "tuned", "value", 5)]
    assert told(found, "random_steps.dpo")[0] == ("random_steps.dpo", "tuned", "random", 3)
    assert found.entry("value").directory == "/checkpoints/value.dpo"
    assert found.entry("value").facts()["objective"] == "dpo"
    assert roster().entry("value").facts()["objective"] == "sft"
    with pytest.raises(ConfigError, match=r"no model 'value\.dpo'"):
        roster().entries("value.dpo")


def test_a_selection_may_have_a_name_that_means_another_model():
    config = PipelineConfig.model_validate(
        {"select": {"selections": {"random": {"ratio": 0.1}, "base": {"method": "value"}}},
         "evaluate": {"models": ["random", "base", "base_steps"]}}
    )  # fmt: skip
    assert selection_of(config, "base") == (None, None)
    assert selection_of(config, "base_steps") == ("base", None)
    assert tuned_selections(config) == ["llm", "base"]


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="no model 'warmpu'.*did you mean 'warmup'"):
        roster().entries("warmpu")
    with pytest.raises(ConfigError, match=r"needs the section train\.warmup"):
        roster().entries("warmup")


def test_an_engines_context_is_part_of_what_a_model_says():
    found = roster()
    short, long = EngineConfig(max_model_len=512), EngineConfig(max_model_len=1024)
    tuned, policy = found.entry("llm"), found.entry("random")
    assert tuned.player_key(short) != tuned.player_key(long)
    assert tuned.player_key(short) == tuned.player_key(EngineConfig(max_model_len=512, replicas=4))
    assert policy.player_key(short) == policy.player_key(long)
