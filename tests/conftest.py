"""What the whole suite shares: one Ray cluster, one tiny model directory, one endpoint that can play faults."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from atlas_ray.cluster import LEAN_SERVE
from tests.tokenizers import tokenizer

os.environ.update(LEAN_SERVE | os.environ)  # as where Ray is started for a user
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # Ray starts many workers: each would compile all that it imports

ROOT = Path(__file__).parents[1]
PYTHONPATH = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'plugin'}"
"""Of workers: the project, and a package with environments of its own."""


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A Ray cluster of 4 logical CPUs on this machine; yields its address."""
    folder = tempfile.mkdtemp(prefix="atlas-", dir="/tmp")
    for tries_left in (2, 1, 0):
        try:
            context = ray.init(
                num_cpus=4,
                num_gpus=0,  # what needs one starts a cluster of its own
                include_dashboard=False,
                _temp_dir=folder,
                log_to_driver=False,
                logging_level="warning",
                object_store_memory=400_000_000,
                _system_config={"metrics_report_interval_ms": 1000},
                runtime_env={"env_vars": {"PYTHONPATH": PYTHONPATH, "TOKENIZERS_PARALLELISM": "false"}},
            )
            break
        except Exception as error:  # Ray gives itself 30 seconds to start, however loaded the machine is
            if not tries_left or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    yield str(context.address_info["gcs_address"])
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory with a random Llama of 2 layers (head_dim 32, which vLLM's CPU attention takes) and ChatML."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tok = tokenizer("chatml")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tok), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny-llama")
    LlamaForCausalLM(config).save_pretrained(folder)
    tok.save_pretrained(folder)
    return str(folder)
