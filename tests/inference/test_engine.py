"""A real vLLM engine on the tiny model, beside plain transformers: same tokens, same log-probabilities."""

from __future__ import annotations

import math

import pytest
import ray
import torch
from transformers import AutoModelForCausalLM

from atlas_ray.config import EngineConfig
from atlas_ray.errors import EngineError
from atlas_ray.inference.engine import EngineActor

PROMPTS = [[1, 5, 9, 20, 31, 42, 7], [3, 3, 8, 100, 101], list(range(20, 90))]


@pytest.fixture(scope="module")
def engine(ray_cluster, tiny_model):
    config = EngineConfig(max_model_len=256, cpu_kv_cache_gib=1)
    actor = EngineActor.options(num_cpus=1).remote(tiny_model, config)
    assert ray.get(actor.ready.remote()) == 256
    yield actor
    ray.kill(actor)


@pytest.fixture(scope="module")
def plain(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)


def test_greedy_generation_is_transformers_own(engine, plain):
    answers = ray.get([engine.generate.remote(ids, max_tokens=12) for ids in PROMPTS * 3])
    for ids, answer in zip(PROMPTS * 3, answers, strict=True):
        expected = plain.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist()
        assert answer.ids == expected
        assert answer.prompt_tokens == len(ids)
        assert answer.finished == (expected[-1] == plain.generation_config.eos_token_id)


def test_scores_are_transformers_log_probabilities(engine, plain):
    for ids, scores in zip(PROMPTS, ray.get(engine.score.remote(PROMPTS)), strict=True):
        logits = plain(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        expected = logits.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        assert scores == pytest.approx(expected.tolist(), abs=1e-3)


def test_chosen_positions_have_the_scores_that_they_have_among_all(engine):
    long = [3 + n % 90 for n in range(250)]
    whole = ray.get(engine.score.remote([long, *PROMPTS]))
    spans = [[(0, 3), (7, 8), (60, 250)], [(2, 4)], [], [(1, 70)]]
    for ids, all_scores, scores, wanted in zip(
        [long, *PROMPTS], whole, ray.get(engine.score.remote([long, *PROMPTS], spans)), spans, strict=True
    ):
        chosen = {place for start, end in wanted for place in range(max(start, 1), end)}
        for place in range(1, len(ids)):
            expected = all_scores[place - 1] if place in chosen else math.nan
            assert scores[place - 1] == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_the_prefix_cache_is_used(engine):
    long = list(range(30, 130))
    ray.get(engine.generate.remote(long, max_tokens=2))
    again = ray.get(engine.generate.remote([*long, 7, 8], max_tokens=2))
    assert again.cached_tokens >= 64


def test_a_prompt_that_fills_the_context_is_refused_and_the_engine_goes_on(engine):
    with pytest.raises(EngineError, match="fills the context of 256"):
        ray.get(engine.generate.remote(list(range(3, 259)), max_tokens=4))
    assert ray.get(engine.generate.remote(PROMPTS[0], max_tokens=4)).ids


def test_seeded_prompts_beyond_a_batch_are_answered_as_alone(engine):
    prompts = [[3 + (31 * i + (i + 1) * j) % 250 for j in range(230)] for i in range(40)]  # more than 4,096 tokens

    def ask(i):
        return engine.generate.remote(prompts[i], max_tokens=3, temperature=1.0, seed=i)

    answers = ray.get([ask(i) for i in range(len(prompts))])
    for i in (0, 20, 39):
        assert ray.get(ask(i)).ids == answers[i].ids


def test_a_model_that_is_none_is_one_line(ray_cluster, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    broken = EngineActor.options(num_cpus=1).remote(str(tmp_path), EngineConfig(cpu_kv_cache_gib=1))
    with pytest.raises(ray.exceptions.ActorDiedError) as error:
        ray.get(broken.ready.remote())
    assert "vLLM could not load" in str(error.value)
