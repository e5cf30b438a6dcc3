"""What only a GPU shows of an engine: outside an actor, its scores by the GPUs' runner, and its memory given back."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from atlas_ray.config import EngineConfig
from atlas_ray.inference.engine import Engine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.version.cuda is None or not torch.cuda.device_count(), reason="no CUDA device"),
]


def test_an_engine_outside_an_actor_scores_as_a_forward_pass_and_gives_its_memory_back(tiny_model: str) -> None:
    ids = [3 + n % 90 for n in range(250)]
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.no_grad():
        expected = plain(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    expected = expected.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    for dtype, near in (("float32", 1e-3), ("bfloat16", 2e-2)):
        engine = Engine(tiny_model, EngineConfig(max_model_len=256, dtype=dtype, enforce_eager=True))
        [found] = engine.measure([ids], [[(100, 200)]])
        scores = torch.tensor(found.logprobs)
        assert torch.isnan(scores[:99]).all()
        assert torch.allclose(scores[99:199], expected[99:199], atol=near)
        assert not torch.tensor(found.entropies)[99:199].isnan().any()
        engine.load(tiny_model)
        assert torch.allclose(torch.tensor(engine.score([ids])[0]), expected, atol=near)
        engine.close()
        free, whole = torch.cuda.mem_get_info()
        assert free > 0.95 * whole
