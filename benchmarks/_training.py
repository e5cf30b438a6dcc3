"""What the training benchmark runs: its trajectories, its proxy model, our step and its peers' steps.

All compute the loss and the gradient of the same trajectories with the same weights; each step leaves no gradient
behind. Left out: the optimizer's update, the same for all.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from atlas_ray.config import TrainConfig
from atlas_ray.training import dpo, flops
from atlas_ray.training.examples import Example
from atlas_ray.training.job import ExactOptimizations
from atlas_ray.training.loop import backward, count, rows_of
from atlas_ray.training.loss import token_losses
from atlas_ray.training.model import Network, Recipe, load
from atlas_ray.training.pairs import Pair
from atlas_ray.training.reference import padded_loss, pair_loss

ALL = ExactOptimizations(True, True, True, True, True)
BETA = 0.1
BATCH = 8
"""Trajectories of a padded batch, at most."""
PACK = {"cpu": 2048, "cuda": 8192}
"""Tokens of our rows."""
DTYPE = {"cpu": torch.float32, "cuda": torch.bfloat16}
"""In which all variants compute: of forward and backward in training."""
RANDOM: dict[str, dict[str, Any]] = {
    "proxy": {
        "vocab_size": 49152 * 4 // 30, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 4,
        "num_attention_heads": 9, "num_key_value_heads": 3, "rope_theta": 100000.0,
    },
    "llama1b": {
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "rope_theta": 500000.0,
    },
}  # fmt: skip
"""Llamas with random weights: SmolLM2's width and its head's share of the work in 4 layers; Llama-3.2-1B's shape."""
Step = Callable[[Sequence["Sample"]], None]


@dataclass(frozen=True)
class Sample:
    """A trajectory of random tokens."""

    example: Example
    """In full, up to the end of its last step."""
    critical: tuple[tuple[int, int], ...]
    """Half-open token range of each critical step."""

    @property
    def cut(self) -> Example:
        """Up to the last label."""
        end = self.critical[-1][1]
        return replace(self.example, ids=self.example.ids[:end], weights=self.example.weights[:end])

    @property
    def per_step(self) -> list[Example]:
        """One row per critical step: the conversation up to its end, with that step alone as label."""
        rows = []
        for start, end in self.critical:
            weights = np.zeros(end, np.float32)
            weights[start:end] = 1
            rows.append(replace(self.example, ids=self.example.ids[:end], weights=weights))
        return rows


def randomly(name: str, folder: Path, device: torch.device) -> str:
    """Directory of a random Llama."""
    torch.manual_seed(0)
    with device:
        model = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=True, **RANDOM[name]))
    model.to("cpu", DTYPE[device.type]).save_pretrained(folder)
    return str(folder)


def samples(number: int, vocabulary: int) -> list[Sample]:
    """Multi-turn trajectories of 6 to 20 steps, fewer of the long ones, with 30 % of the steps critical.

    An instruction of 100 to 250 tokens, replies of 20 to 60, observations of 30 to 100: about a third of the tokens are
    the agent's and a tenth carry loss, as in AgentTraj-L.
    """
    draw, found = random.Random(0), []
    for name in range(number):
        n_steps = int(draw.triangular(6, 21, 6))
        length, spans = draw.randint(100, 250), []
        for _ in range(n_steps):
            reply = draw.randint(20, 60)
            spans.append((length, length + reply))
            length += reply + draw.randint(30, 100)
        critical = [spans[step] for step in sorted(draw.sample(range(n_steps), max(1, int(0.3 * n_steps))))]
        end = spans[-1][1]
        weights = np.zeros(end, np.float32)
        for start, stop in critical:
            weights[start:stop] = 1
        ids = np.array([draw.randrange(vocabulary) for _ in range(end)], np.int32)
        found.append(Sample(Example(f"t{name:02d}", ids, weights, end), tuple(critical)))
    return found


def branches(vocabulary: int) -> list[Sample]:
    """Six continuations of 80 tokens from one state of 500."""
    draw = np.random.default_rng(0)
    prefix = draw.integers(0, vocabulary, 500, dtype=np.int32)
    weights = np.r_[np.zeros(540, np.float32), np.ones(40, np.float32)]
    ids = [np.concatenate([prefix, draw.integers(0, vocabulary, 80, dtype=np.int32)]) for _ in range(6)]
    return [Sample(Example(f"b{number}", one, weights, 580), ((540, 580),)) for number, one in enumerate(ids)]


def pairs(number: int, vocabulary: int) -> list[Pair]:
    """Two replies of 80 tokens to a history of 500; no two pairs begin alike."""
    draw = np.random.default_rng(0)
    weights = np.r_[np.zeros(500, np.float32), np.ones(80, np.float32)]
    found = []
    for name in range(number):
        history = draw.integers(0, vocabulary, 500, dtype=np.int32)
        replies = [draw.integers(0, vocabulary, 80, dtype=np.int32) for _ in range(2)]
        sides = [Example(f"p{name}.{n}", np.concatenate([history, one]), weights, 580) for n, one in enumerate(replies)]
        found.append(Pair(f"p{name}", *sides))
    return found


def thinkers(number: int, vocabulary: int) -> list[list[Sample]]:
    """The rows of trajectories of a thinking model: 12 steps, of which 3 are critical.

    History grows by 100 tokens a step, 30 of them the action; before a step the model writes 200 tokens of thinking and
    its action, which are labels. A row is the history before a critical step and what is written there.
    """
    draw = np.random.default_rng(0)
    found = []
    for name in range(number):
        trunk, rows = draw.integers(0, vocabulary, 12 * 100, dtype=np.int32), []
        for step in sorted(draw.choice(12, 3, replace=False).tolist()):
            start = 100 * step + 70
            ids = np.concatenate([trunk[:start], draw.integers(0, vocabulary, 230, dtype=np.int32)])
            weights = np.r_[np.zeros(start, np.float32), np.ones(230, np.float32)]
            rows.append(Sample(Example(f"h{name:02d}", ids, weights, len(ids)), ((start, len(ids)),)))
        found.append(rows)
    return found


def labels(batch: Sequence[Sample]) -> float:
    """The denominator of the loss."""
    return float(sum(sample.example.weights.sum() for sample in batch))


def network(path: str, device: torch.device) -> Network:
    """The model as it is trained here."""
    loaded = load(Recipe(path, ALL, "sdpa" if device.type == "cpu" else "flex", TrainConfig()))
    loaded.model.to(device, DTYPE[device.type])
    return loaded


def stock(path: str, device: torch.device) -> PreTrainedModel:
    """The model as transformers loads it."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path, dtype=DTYPE[device.type], attn_implementation="sdpa"
    ).train()
    return model.to(device)


def exact(loaded: Network, optimizations: ExactOptimizations = ALL) -> Step:
    """The step of the training loop."""

    def step(batch: Sequence[Sample]) -> None:
        device = loaded.model.device
        rows = rows_of([sample.cut for sample in batch], 0, 1, PACK[device.type], optimizations, device)
        for row in rows:
            ((token_losses(loaded, row) * row.weights).sum() / labels(batch)).backward()
        loaded.model.zero_grad()

    return step


def exact_pairs(loaded: Network, optimizations: ExactOptimizations = ALL) -> Callable[[Sequence[Pair]], None]:
    """The step of the training loop on pairs."""

    def step(batch: Sequence[Pair]) -> None:
        device = loaded.model.device
        rows = rows_of(batch, 0, 1, PACK[device.type], optimizations, device, dpo.row_maker(BETA))
        backward(loaded, rows, len(batch), 1)
        loaded.model.zero_grad()

    return step


def plain_pairs(model: PreTrainedModel) -> Callable[[Sequence[Pair]], None]:
    """Each pair as two rows through the model's own attention, all logits: TRL's DPOTrainer."""

    def step(batch: Sequence[Pair]) -> None:
        for pair in batch:
            (pair_loss(model, pair, BETA) / len(batch)).backward()
        model.zero_grad()

    return step


def needed(loaded: Network, batch: Sequence[Sample]) -> float:
    """FLOPs that the exact step needs."""
    rows = rows_of([sample.cut for sample in batch], 0, 1, PACK[loaded.model.device.type], ALL, torch.device("cpu"))
    read = sum((count([row]) for row in rows), flops.Counts())
    return flops.shape_of(loaded.model).step(read, head_at_labels=True, sparse_last_layer=True)


def in_full(loaded: Network, batch: Sequence[Sample]) -> float:
    """FLOPs of a row for each sample, nothing left out."""
    read = sum((flops.document(len(sample.example.ids)) for sample in batch), flops.Counts())
    return flops.shape_of(loaded.model).step(read, head_at_labels=False, sparse_last_layer=False)


def padded(model: PreTrainedModel, size: int) -> Step:
    """Padded batches through the model's own attention, all logits: Hugging Face's Trainer and LLaMA-Factory."""

    def step(batch: Sequence[Sample]) -> None:
        for start in range(0, len(batch), size):
            padded_loss(model, [one.example for one in batch[start : start + size]], labels(batch)).backward()
        model.zero_grad()

    return step


def per_step(model: PreTrainedModel) -> Step:
    """One training row per critical step, batch 1."""

    def step(batch: Sequence[Sample]) -> None:
        for sample in batch:
            for row in sample.per_step:
                padded_loss(model, [row], labels(batch)).backward()
        model.zero_grad()

    return step


def best_switches() -> dict[str, Any]:
    """Of TRL on a GPU: no activation checkpointing and, where their packages are there, FlashAttention with rows that
    are not padded (as packing has them; PyTorch's attention would need a dense mask), and Liger's kernels."""
    flash, liger = (find_spec(package) is not None for package in ("flash_attn", "liger_kernel"))
    return {
        "gradient_checkpointing": False, "padding_free": flash, "use_liger_kernel": liger,
        "model_init_kwargs": {"attn_implementation": "flash_attention_2" if flash else "sdpa"},
    }  # fmt: skip


def trl(path: str, device: torch.device, switches: dict[str, Any] | None = None) -> Step | None:
    """TRL's own training step in batches of 8: its defaults, but no truncation to 1,024 tokens, and fp32 on CPUs.

    Args:
        path: of the model.
        device: to train on.
        switches: of its `SFTConfig`, besides.
    """
    switches = dict(switches or {})
    try:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        print(f"TRL is not measured: {error}; see requirements/install_peers.sh")
        return None
    from tests.tokenizers import tokenizer

    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            path, dtype=DTYPE[device.type], **switches.pop("model_init_kwargs", {})
        ),
        args=SFTConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=BATCH, max_length=None,
            bf16=device.type != "cpu", report_to="none", use_cpu=device.type == "cpu", disable_tqdm=True, **switches,
        ),
        train_dataset=Dataset.from_list([{"input_ids": [0, 1], "labels": [-100, 1]}]),
        processing_class=tokenizer("chatml"),
    )  # fmt: skip
    trainer.create_optimizer()

    def step(batch: Sequence[Sample]) -> None:
        rows = [
            {"input_ids": one.ids.tolist(), "labels": np.where(one.weights > 0, one.ids, -100).tolist()}
            for one in (sample.example for sample in batch)
        ]
        parts = [trainer.data_collator(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]
        trainer.current_gradient_accumulation_steps = len(parts)
        for part in parts:
            trainer.training_step(
                trainer.model, part, num_items_in_batch=torch.tensor(int(labels(batch)), device=device)
            )
        trainer.model.zero_grad()

    return step
