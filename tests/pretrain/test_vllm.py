"""vLLM's engine on CPUs takes both families, and says what transformers says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from atlas_ray.inference.engine import CPU_BLOCK_SIZE, vllm_environment
from atlas_ray.pretrain.shapes import FAMILIES
from atlas_ray.pretrain.train import PretrainSettings, pretrain

IDS = list(range(5, 60))

# vLLM keeps what it was first given for a whole process, so it gets one of its own; the models share it.
SCORE = f"""
import json, sys
from vllm import LLM, SamplingParams
def score(model):
    engine = LLM(model, dtype="float32", enforce_eager=True, max_model_len=4096, block_size={CPU_BLOCK_SIZE},
                 distributed_executor_backend="uni")
    [answer] = engine.generate(
        [dict(prompt_token_ids={IDS})], SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False),
        use_tqdm=False)
    return [at[token].logprob for at, token in zip(answer.prompt_logprobs[1:], {IDS[1:]})]
print(json.dumps([score(model) for model in sys.argv[1:]]))
"""


def test_vllm_serves_both_families(tmp_path: Path) -> None:
    paths = []
    for family in FAMILIES:
        settings = PretrainSettings(
            tasks={"textcraft": 2}, options={"textcraft": {"depths": [1]}}, parameters=500_000, epochs=2, threads=1,
            family=family,
        )  # fmt: skip
        paths.append(pretrain(settings, tmp_path / family))
    ran = subprocess.run(
        [sys.executable, "-c", SCORE, *map(str, paths)],
        env=os.environ | vllm_environment(cuda=False, kv_cache_gib=1), capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    scores = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("[[")))
    for path, found in zip(paths, scores, strict=True):
        with torch.no_grad():
            logits = AutoModelForCausalLM.from_pretrained(path)(torch.tensor([IDS])).logits[0, :-1].log_softmax(-1)
        expected = logits.gather(1, torch.tensor(IDS[1:])[:, None])[:, 0].tolist()
        assert found == pytest.approx(expected, abs=1e-3)
