"""Speed of the exact critical-step step against its peers: same trajectories, same weights, same loss.

`python -m benchmarks.training [--model proxy|smollm2] [--rounds 5] [--trajectories 24] [--device cpu]`. CPU time of one
thread, variants interleaved in one process, medians; on a GPU wall time after synchronising. The default is a 4-layer
proxy of SmolLM2-135M: same width, vocabulary scaled so that the head has the same share of the work. TRL runs where it
is installed (benchmarks/requirements.txt). Left out: the optimizer's step, the same for all.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from atlas_ray import models
from atlas_ray.config import TrainConfig
from atlas_ray.training import flops
from atlas_ray.training.examples import Example
from atlas_ray.training.job import Skips
from atlas_ray.training.loop import count, rows_of
from atlas_ray.training.loss import token_losses
from atlas_ray.training.model import Network, Recipe, load
from atlas_ray.training.reference import padded_loss
from benchmarks.result import Result, publish

ALL = Skips(True, True, True, True, True)
BATCH = 8
VOCABULARY = 49152
LAYERS = 4
PACK = 2048
SIZE, PRODUCTS = 1024, 40
"""Of the matrix products whose rate is the machine's."""


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=("proxy", "smollm2"), default="proxy")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trajectories", type=int, default=24)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        path = models.resolve(models.ON_BOARD) if arguments.model == "smollm2" else proxy(Path(folder))
        results = measure(path, arguments.model, arguments.trajectories, arguments.rounds, device)
    publish(f"training_{arguments.model}" if arguments.model != "proxy" else "training", results)


def proxy(folder: Path) -> str:
    """Directory of a random Llama of 4 layers with SmolLM2's width."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY * LAYERS // 30, hidden_size=576, intermediate_size=1536, num_hidden_layers=LAYERS,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True, rope_theta=100000.0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def trajectories(number: int, vocabulary: int) -> tuple[list[Example], list[list[tuple[int, int]]]]:
    """Multi-turn trajectories of 6 to 20 steps with 30 % of the steps critical, as random tokens; and those steps.

    An instruction of 150-350 tokens, replies of 20-60, observations of 30-120: AgentTraj-L's proportions, so that about
    a third of the tokens are the agent's and a tenth carry loss.
    """
    draw = random.Random(0)
    examples, critical = [], []
    for name in range(number):
        n_steps = draw.randint(6, 20)
        length, spans = draw.randint(150, 350), []
        for _ in range(n_steps):
            reply = draw.randint(20, 60)
            spans.append((length, length + reply))
            length += reply + draw.randint(30, 120)
        chosen = sorted(draw.sample(range(n_steps), max(1, int(0.3 * n_steps))))
        end = spans[-1][1]
        weights = np.zeros(end, np.float32)
        for step in chosen:
            weights[slice(*spans[step])] = 1
        ids = np.array([draw.randrange(vocabulary) for _ in range(end)], np.int32)
        examples.append(Example(f"t{name:02d}", ids, weights, end))
        critical.append([spans[step] for step in chosen])
    return examples, critical


def cut(example: Example) -> Example:
    """The example up to its last label."""
    end = int(np.flatnonzero(example.weights)[-1]) + 1
    return replace(example, ids=example.ids[:end], weights=example.weights[:end])


def per_step(examples: Sequence[Example], critical: Sequence[Sequence[tuple[int, int]]]) -> list[Example]:
    """One row per critical step: the conversation up to its end, with that step alone as label."""
    rows = []
    for example, spans in zip(examples, critical):
        for start, end in spans:
            weights = np.zeros(end, np.float32)
            weights[start:end] = 1
            rows.append(Example(example.trajectory_id, example.ids[:end], weights, end))
    return rows


def measure(path: str, name: str, number: int, rounds: int, device: torch.device) -> list[Result]:
    """Every row of the table."""
    exact = load(Recipe(path, ALL, "sdpa", TrainConfig()))
    exact.model.to(device)
    stock = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa").train()
    stock.to(device)
    examples, critical = trajectories(number, stock.config.vocab_size)
    batch = [cut(example) for example in examples]
    steps = per_step(examples, critical)
    denominator = float(sum(example.weights.sum() for example in batch))
    variants: dict[str, Callable[[], object]] = {
        "exact": lambda: ours(exact, batch, denominator, ALL),
        "padded": lambda: padded(stock, examples, denominator, BATCH),
        "stock": lambda: padded(stock, examples, denominator, 1),
        "per step": lambda: padded(stock, steps, denominator, 1),
    }
    square = torch.randn(SIZE, SIZE, device=device)
    variants["matmul"] = lambda: products(square)
    trl = trl_step(path, examples, device)
    if trl is not None:
        variants["trl"] = trl
    for run in (lambda: ours(exact, batch[:1], denominator, ALL), lambda: padded(stock, batch[:1], denominator, 1)):
        run()  # allocates and plans what the first pass of a process does
    seconds = interleaved(variants, rounds, device)
    branches = tree_documents(stock.config.vocab_size)
    total = float(sum(example.weights.sum() for example in branches))
    apart = replace(ALL, prefix_tree=False)
    trees = interleaved(
        {
            "on": lambda: ours(exact, branches, total, ALL),
            "off": lambda: ours(exact, branches, total, apart),
        },
        rounds,
        device,
    )
    rate = PRODUCTS * 2 * SIZE**3 / seconds["matmul"]
    rows = rows_of(batch, 0, 1, PACK, ALL, device)
    needed = flops.shape_of(exact.model).step(
        sum((count([row]) for row in rows), flops.Counts()), head_at_labels=True, sparse_last_layer=True
    )
    share = needed / seconds["exact"] / rate * 100
    ours_peak = activation_memory(variants["exact"], device)
    padded_peak = activation_memory(variants["padded"], device)
    read = sum(example.length for example in examples)
    detail = f"{name}, {number} trajectories, {read} tokens, {int(denominator)} labels, {device.type}"

    def against(variant: str, peer: str, goal: float) -> Result:
        return Result(
            "optimizer step, forward and backward", peer, seconds[variant] / seconds["exact"], "x", goal,
            detail=f"{seconds[variant]:.2f} s / {seconds['exact']:.2f} s; {detail}",
        )  # fmt: skip

    results = [against("trl", "TRL SFTTrainer, fp32, no truncation", 3.0)] if "trl" in seconds else []
    results += [
        against("padded", f"Hugging Face, padded batches of {BATCH}", 2.3),
        against("stock", "batch 1 x accumulation, no padding, no checkpointing", 1.4),
        against("per step", "one row per critical step", 2.5),
        Result(
            "six branches of 80 tokens on 500", "the same without prefix tree", trees["off"] / trees["on"], "x", 2.5,
            detail=f"{trees['off']:.2f} s / {trees['on']:.2f} s",
        ),
        Result(
            "share of the measured matmul rate", f"{rate / 1e9:.0f} GFLOP/s, 1024 cubed", share, "%", 80,
            detail=f"{needed / 1e12:.3f} TFLOP needed",
        ),
        Result(
            "peak activation memory", f"padded batches of {BATCH}", ours_peak / padded_peak * 100, "%", 50,
            at_least=False, detail=f"{ours_peak / 2**20:.0f} MiB / {padded_peak / 2**20:.0f} MiB",
        ),
    ]  # fmt: skip
    return results


def ours(network: Network, batch: Sequence[Example], denominator: float, skips: Skips) -> None:
    """Forward and backward of a step as the training loop does it."""
    device = next(network.model.parameters()).device
    for row in rows_of(list(batch), 0, 1, PACK, skips, device):
        ((token_losses(network, row) * row.weights).sum() / denominator).backward()
    network.model.zero_grad()


def products(square: torch.Tensor) -> None:
    """Matrix products to compare with."""
    for _ in range(PRODUCTS):
        square @ square


def padded(model: PreTrainedModel, batch: Sequence[Example], denominator: float, size: int) -> None:
    """Forward and backward of a step in padded batches, in the order of the data."""
    for start in range(0, len(batch), size):
        padded_loss(model, batch[start : start + size], denominator).backward()
    model.zero_grad()


def tree_documents(vocabulary: int) -> list[Example]:
    """Six continuations of 80 tokens from one state of 500."""
    draw = np.random.default_rng(0)
    prefix = draw.integers(0, vocabulary, 500, dtype=np.int32)
    weights = np.r_[np.zeros(540, np.float32), np.ones(40, np.float32)]
    ids = [np.concatenate([prefix, draw.integers(0, vocabulary, 80, dtype=np.int32)]) for _ in range(6)]
    return [Example(f"b{number}", one, weights, 580) for number, one in enumerate(ids)]


def trl_step(path: str, examples: Sequence[Example], device: torch.device) -> Callable[[], None] | None:
    """TRL's own training step on the same batches: its defaults, but fp32 and without its truncation to 1,024."""
    try:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        print(f"TRL is not measured: {error}; see benchmarks/requirements.txt")
        return None
    from tests.tokenizers import tokenizer

    rows = [
        {"input_ids": one.ids.tolist(), "labels": np.where(one.weights > 0, one.ids, -100).tolist()} for one in examples
    ]
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=BATCH, max_length=None, bf16=False,
            gradient_accumulation_steps=-(-len(rows) // BATCH), report_to="none", use_cpu=device.type == "cpu",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer("chatml"),
    )  # fmt: skip
    trainer.create_optimizer()
    batches = [trainer.data_collator(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]
    labels = torch.tensor(sum(int((one.weights > 0).sum()) for one in examples), device=device)
    trainer.current_gradient_accumulation_steps = len(batches)

    def step() -> None:
        for batch in batches:
            trainer.training_step(trainer.model, dict(batch), num_items_in_batch=labels)
        trainer.model.zero_grad()

    return step


def interleaved(variants: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each variant: A B C, A B C, ..."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds):
        for name, run in variants.items():
            taken[name].append(timed(run, device))
            print(f"round {number + 1}: {name} {taken[name][-1]:.2f} s", flush=True)
    return {name: statistics.median(values) for name, values in taken.items()}


def timed(run: Callable[[], object], device: torch.device) -> float:
    """CPU seconds of this process, or wall seconds of a GPU."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    begun = clock()
    run()
    if device.type != "cpu":
        torch.cuda.synchronize()
    return clock() - begun


def activation_memory(run: Callable[[], object], device: torch.device) -> float:
    """Peak bytes above what is held before, gradients of the weights included, which are the same for all."""
    gc.collect()
    if device.type != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return float(torch.cuda.max_memory_allocated() - before)
    with resident() as peak:
        run()
    return peak()


@contextmanager
def resident() -> Iterator[Callable[[], float]]:
    """The most resident memory above that at the start, sampled every few milliseconds."""
    process, stop = psutil.Process(), threading.Event()
    before = most = process.memory_info().rss

    def watch() -> None:
        nonlocal most
        while not stop.wait(0.005):
            most = max(most, process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: float(most - before)
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()
