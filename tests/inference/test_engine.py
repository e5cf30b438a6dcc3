"""A real vLLM engine on the tiny model, beside plain transformers: same tokens, same log-probabilities."""

from __future__ import annotations

import json
import math
import os
import shutil

import pytest
import ray
import torch
from transformers import AutoModelForCausalLM

from atlas_ray.config import EngineConfig
from atlas_ray.errors import EngineError
from atlas_ray.inference.engine import EngineActor, shape

PROMPTS = [[1, 5, 9, 20, 31, 42, 7], [3, 3, 8, 100, 101], list(range(20, 90))]


@pytest.fixture(scope="module")
def engine(ray_cluster, tiny_model):
    config = EngineConfig(max_model_len=256, cpu_kv_cache_gib=1, dtype="float32")
    actor = EngineActor.options(num_cpus=1, max_restarts=1).remote(tiny_model, config)
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


def test_entropies_are_transformers_own(engine, plain):
    for ids, found in zip(PROMPTS, ray.get(engine.measure.remote(PROMPTS)), strict=True):
        logits = plain(torch.tensor([ids])).logits[0, :-1].double()
        expected = logits.logsumexp(-1) - (logits.softmax(-1) * logits).sum(-1)
        assert found.entropies == pytest.approx(expected.tolist(), abs=1e-3)
        assert found.logprobs == pytest.approx(ray.get(engine.score.remote([ids]))[0], abs=1e-5)


def test_sequences_of_a_group_have_the_scores_that_they_have_alone(engine):
    common = [3 + 7 * n % 90 for n in range(150)]
    sequences = [[*common[:n], 5, 9, 2] for n in (40, 90, 150)]
    sequences += [sequences[2], [*sequences[0], 8, 30, 2]]  # the cache holds all of the one, and what the other wants
    spans = [[(len(ids) - 3, len(ids))] for ids in sequences]
    spans[0] = [(len(sequences[0]) - 20, len(sequences[0]))]
    alone = ray.get(engine.measure.remote(sequences, spans))
    for groups in (["a"] * 5, ["a", "b", "a", "b", "a"]):
        for one, other in zip(alone, ray.get(engine.measure.remote(sequences, spans, groups)), strict=True):
            assert other.logprobs == pytest.approx(one.logprobs, abs=1e-4, nan_ok=True)
            assert other.entropies == pytest.approx(one.entropies, abs=1e-4, nan_ok=True)
            assert not math.isnan(other.logprobs[-1])


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


@pytest.fixture(scope="module")
def other(tiny_model, tmp_path_factory):
    """A directory of the same shape with other weights."""
    folder = tmp_path_factory.mktemp("models") / "other"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight + 0.2 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return str(folder)


def test_an_engine_takes_the_weights_of_another_model_and_answers_as_that_one(engine, plain, tiny_model, other):
    """Also in its prefix cache, and after a death: Ray starts it with the weights that it was made with."""
    long = list(range(30, 130))

    def greedy(model):
        return model.generate(torch.tensor([long]), max_new_tokens=8, do_sample=False)[0, len(long) :].tolist()

    def asked(directory):
        return ray.get(engine.generate.remote(long, max_tokens=8, model=directory)).ids

    tuned = AutoModelForCausalLM.from_pretrained(other, dtype=torch.float32)
    assert greedy(plain) != greedy(tuned)
    assert asked(tiny_model) == greedy(plain)
    assert asked(other) == greedy(tuned)
    [scores] = ray.get(engine.score.remote([long]))
    expected = tuned(torch.tensor([long])).logits[0, :-1].log_softmax(-1)
    assert scores == pytest.approx(expected.gather(1, torch.tensor(long[1:])[:, None])[:, 0].tolist(), abs=1e-3)
    assert asked(tiny_model) == greedy(plain)
    engine.__ray_call__.remote(lambda _: os._exit(1))
    ray.get(engine.ready.options(max_task_retries=-1).remote())
    assert asked(other) == greedy(tuned)
    assert asked(tiny_model) == greedy(plain)  # as other tests need it


def test_models_of_one_shape_share_engines_and_others_do_not(tiny_model, other, tmp_path):
    longer = tmp_path / "longer"
    shutil.copytree(tiny_model, longer)
    settings = json.loads((longer / "config.json").read_text())
    (longer / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 4096}))
    stops = tmp_path / "stops"
    shutil.copytree(tiny_model, stops)
    (stops / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 5]}))
    moved = tmp_path / "moved"
    shutil.copytree(tiny_model, moved)
    (moved / "config.json").write_text(json.dumps(settings | {"_name_or_path": "elsewhere"}))
    assert shape(other) == shape(tiny_model) == shape(str(moved))
    assert len({shape(tiny_model), shape(str(longer)), shape(str(stops))}) == 3


def test_the_data_type_of_this_processor_scores_as_a_forward_pass_rounded(ray_cluster, plain, tiny_model):
    """bf16 where the processor multiplies it, else fp32."""
    actor = EngineActor.options(num_cpus=1).remote(tiny_model, EngineConfig(max_model_len=256, cpu_kv_cache_gib=1))
    long = [3 + n % 90 for n in range(250)]
    [scores] = ray.get(actor.score.remote([long]))
    expected = plain(torch.tensor([long])).logits[0, :-1].log_softmax(-1)
    expected = expected.gather(1, torch.tensor(long[1:])[:, None])[:, 0]
    assert scores == pytest.approx(expected.tolist(), abs=2e-2)
    assert sum(scores) / len(scores) == pytest.approx(expected.mean().item(), abs=2e-3)
    assert ray.get(actor.generate.remote(long[:100], max_tokens=4)).ids
    ray.kill(actor)
