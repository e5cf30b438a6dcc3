"""What training writes, in vLLM: the merged model, and the adapter beside its base, score as in transformers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from atlas_ray.config import TrainConfig
from atlas_ray.inference.engine import CPU_BLOCK_SIZE, vllm_environment
from atlas_ray.store import Store
from atlas_ray.training.export import export
from atlas_ray.training.model import Recipe, load
from tests.tokenizers import tokenizer
from tests.training.tiny import ALL, save, tiny

OPTIONS = TrainConfig(lora={"rank": 4, "alpha": 16})
IDS = list(range(20, 60))

# vLLM keeps what it was first given for a whole process, so it gets one of its own; both models share it.
SCORE = f"""
import gc, json, sys
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
def score(model, adapter=None):
    engine = LLM(model, dtype="float32", enforce_eager=True, max_model_len=128, block_size={CPU_BLOCK_SIZE},
                 distributed_executor_backend="uni", enable_lora=adapter is not None, max_lora_rank=8)
    [answer] = engine.generate(
        [dict(prompt_token_ids={IDS})], SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False),
        lora_request=adapter and LoRARequest("adapter", 1, adapter), use_tqdm=False)
    return [at[token].logprob for at, token in zip(answer.prompt_logprobs[1:], {IDS[1:]})]
base, merged, adapter = sys.argv[1:]
print(json.dumps([score(merged), score(base, adapter), score(base)]))
"""


def test_vllm_loads_the_merged_model_and_the_adapter(tmp_path: Path) -> None:
    base = save(tiny("llama"), tmp_path / "base")
    model = load(Recipe(base, ALL, "sdpa", OPTIONS)).model
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # zero before training
                weight.normal_(0, 0.1)
    export(Store(str(tmp_path)), "llm", model, tokenizer("chatml"), base, write=True, adapter=OPTIONS.lora)
    path = tmp_path / "checkpoints" / "llm"
    ran = subprocess.run(
        [sys.executable, "-c", SCORE, base, str(path), str(path / "adapter")],
        env=os.environ | vllm_environment(cuda=False, kv_cache_gib=1), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    merged, adapted, plain = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("[[")))
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(path)(torch.tensor([IDS])).logits[0, :-1].log_softmax(-1)
    expected = logits.gather(1, torch.tensor(IDS[1:])[:, None])[:, 0].tolist()
    assert merged == pytest.approx(expected, abs=1e-3)
    assert adapted == pytest.approx(expected, abs=1e-3)
    assert max(abs(one - other) for one, other in zip(plain, expected, strict=True)) > 0.1
