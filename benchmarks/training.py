"""Speed and memory of the exact critical-step step against its peers: same trajectories, same weights, same loss.

`python -m benchmarks.training [claim ...] [--model NAME] [--rounds N] [--whole] [--device cpu|cuda]` with claims
`peers`, `tree`, `thinking`, `memory` and `dpo` (all by default). On a CPU fp32 and CPU time of one thread, on a GPU
bf16 and wall time after synchronising; variants interleaved in one process, the median of the rounds' ratios. `proxy`
is a 4-layer SmolLM2-135M (minutes), `smollm2` the model itself (30 layers, an hour for `peers`), `llama1b` a random
Llama-3.2-1B (for GPUs). The rounds share the 24 trajectories out among them: five rounds, but eight of `smollm2`, whose
padded batches of three fit into 16 GB; `--whole` takes all 24 in every round, which takes hours with 30 layers on a
core. `results/training_<model>.json` is written anew after each round. TRL runs where it is installed
(requirements/install_peers.sh).
"""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import psutil
import torch
from transformers import AutoConfig
from transformers.utils.logging import disable_progress_bar

from atlas_ray import models
from benchmarks import _training as variants
from benchmarks._training import ALL, BATCH, Sample
from benchmarks.result import Result, asked, parser_for, publish, write

TRAJECTORIES = 24
ROUNDS = {"proxy": 5, "smollm2": 8, "llama1b": 5}
"""That share the trajectories out among them."""
IN_MEMORY = {"proxy": BATCH, "smollm2": 2, "llama1b": BATCH}
"""Trajectories of the step whose memory is measured."""
SIZE, PRODUCTS = {"cpu": 1024, "cuda": 8192}, 40
"""Of the matrix products whose rate is the machine's."""
PEERS = {
    "trl": ("TRL SFTTrainer, no truncation", 3.0),
    "trl best": ("TRL with its best switches, no truncation", 3.0),
    "padded": (f"Hugging Face, padded batches of {BATCH} at most", 2.3),
    "stock": ("batch 1 x accumulation, no padding, no checkpointing", 1.4),
    "per step": ("one row per critical step", 2.5),
}


@dataclass
class Seconds:
    """What each variant took in each round."""

    device: torch.device
    of: dict[str, list[float]] = field(default_factory=dict)

    def take(self, name: str, run: Callable[[], object]) -> None:
        """Time one variant: CPU seconds of this process, or wall seconds of a GPU."""
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        begun = clock()
        run()
        if self.device.type != "cpu":
            torch.cuda.synchronize()
        self.of.setdefault(name, []).append(clock() - begun)
        print(f"round {len(self.of[name])}: {name} {self.of[name][-1]:.2f} s", flush=True)

    def ratio(self, slow: str, fast: str) -> float:
        """Median over the rounds."""
        return statistics.median(a / b for a, b in zip(self.of[slow], self.of[fast], strict=True))

    def words(self, slow: str, fast: str) -> str:
        """All rounds together."""
        return f"{sum(self.of[slow]):.1f} s / {sum(self.of[fast]):.1f} s in {len(self.of[fast])} rounds"


@dataclass(frozen=True)
class Setting:
    """What the options chose."""

    path: str
    """Of the model."""
    model: str
    rounds: int
    whole: bool
    device: torch.device

    def goal(self, on_cpu: float) -> float | None:
        """Goals are set for a CPU core; on a GPU the table holds measurements."""
        return on_cpu if self.device.type == "cpu" else None

    def dealt(self) -> list[list[Sample]]:
        """The trajectories of each round; every round gets short and long ones."""
        drawn = variants.samples(TRAJECTORIES, vocabulary(self.path))
        if self.whole:
            return [drawn] * self.rounds
        there_and_back = [*range(self.rounds), *reversed(range(self.rounds))]
        hands: list[list[Sample]] = [[] for _ in range(self.rounds)]
        for number, sample in enumerate(sorted(drawn, key=lambda sample: len(sample.example.ids))):
            hands[there_and_back[number % len(there_and_back)]].append(sample)
        return hands


def main() -> None:
    """Measure and publish."""
    claims: dict[str, Callable[[Setting], Iterator[list[Result]]]] = {
        "peers": peers, "tree": tree, "thinking": thinking, "memory": memory, "dpo": preferences,
    }  # fmt: skip
    parser = parser_for("training", __doc__)
    parser.add_argument("--model", choices=ROUNDS, default="proxy")
    parser.add_argument("--rounds", type=int, help="[8 of smollm2, 5 of the others]")
    parser.add_argument("--whole", action="store_true", help="all 24 trajectories in every round")
    parser.add_argument("--device", choices=SIZE, default="cpu")
    options = asked(parser, claims)
    torch.set_num_threads(1)
    disable_progress_bar()
    name, done = f"training_{options.model}", []
    with tempfile.TemporaryDirectory() as folder:
        device, rounds = torch.device(options.device), options.rounds or ROUNDS[options.model]
        if options.model == "smollm2":
            path = models.resolve(models.ON_BOARD)
        else:
            path = variants.randomly(options.model, Path(folder), device)
        setting = Setting(path, options.model, rounds, options.whole, device)
        for claim in options.claims:
            results: list[Result] = []
            for results in claims[claim](setting):
                write(name, done + results)  # a run that is killed keeps what it measured
            done += results
    publish(name, done)


def peers(setting: Setting) -> Iterator[list[Result]]:
    """Every peer, and the share of the machine's matmul rate; what is known after each round."""
    network, stock = variants.network(setting.path, setting.device), variants.stock(setting.path, setting.device)
    steps: dict[str, variants.Step] = {
        "exact": variants.exact(network),
        "padded": variants.padded(stock, BATCH),
        "stock": variants.padded(stock, 1),
        "per step": variants.per_step(stock),
    }
    trl = variants.trl(setting.path, setting.device)
    if trl is not None:
        steps["trl"] = trl
    if trl is not None and setting.device.type == "cuda":
        best = variants.best_switches()
        print(f"TRL with its best: {best}", flush=True)
        if (tuned := variants.trl(setting.path, setting.device, best)) is not None:
            steps["trl best"] = tuned
    if find_spec("llamafactory") is None:
        print("LLaMA-Factory is not installed; its path is the row of padded batches", flush=True)
    size = SIZE[setting.device.type]
    square = torch.randn(size, size, device=setting.device, dtype=variants.DTYPE[setting.device.type])
    seconds, shares = Seconds(setting.device), []
    tokens = labelled = 0
    for step in steps.values():
        step(setting.dealt()[0][-1:])  # allocates and plans what the first pass of a process does
    for batch in setting.dealt():
        for name, step in steps.items():
            seconds.take(name, lambda step=step, batch=batch: step(batch))  # type: ignore[misc]
        seconds.take("matmul", lambda: products(square))
        rate = PRODUCTS * 2 * size**3 / seconds.of["matmul"][-1]
        shares.append(variants.needed(network, batch) / seconds.of["exact"][-1] / rate * 100)
        tokens += sum(sample.example.length for sample in batch)
        labelled += int(variants.labels(batch))
        detail = f"{setting.model}, {setting.device.type}, {tokens} tokens, {labelled} labels"
        yield [
            *(
                Result(
                    f"{setting.model}: step, forward and backward", peer, seconds.ratio(name, "exact"), "x",
                    setting.goal(goal), detail=f"{seconds.words(name, 'exact')}; {detail}",
                )
                for name, (peer, goal) in PEERS.items() if name in seconds.of
            ),
            Result(
                f"{setting.model}: needed FLOP/s", f"matrix products of {size} cubed: {rate / 1e9:.0f} GFLOP/s",
                statistics.median(shares), "%", setting.goal(80),
                detail=f"{', '.join(f'{share:.0f}' for share in shares)} % in the rounds; {detail}",
            ),
        ]  # fmt: skip


def products(square: torch.Tensor) -> None:
    """Matrix products to compare with."""
    for _ in range(PRODUCTS):
        square @ square


def tree(setting: Setting) -> Iterator[list[Result]]:
    """Six branches of one state, with and without sharing it."""
    network = variants.network(setting.path, setting.device)
    batch = variants.branches(vocabulary(setting.path))
    on, off = variants.exact(network), variants.exact(network, replace(ALL, prefix_tree=False))
    on(batch)
    seconds = Seconds(setting.device)
    for _ in range(setting.rounds):
        seconds.take("tree on", lambda: on(batch))
        seconds.take("tree off", lambda: off(batch))
        yield [
            Result(
                f"{setting.model}: six branches of 80 tokens on 500", "the same without prefix tree",
                seconds.ratio("tree off", "tree on"), "x", setting.goal(2.5),
                detail=seconds.words("tree off", "tree on"),
            )
        ]  # fmt: skip


def preferences(setting: Setting) -> Iterator[list[Result]]:
    """Pairs with their history computed once, against the plain pair, and against the same without the tree."""
    network, stock = variants.network(setting.path, setting.device), variants.stock(setting.path, setting.device)
    batch = variants.pairs(2, vocabulary(setting.path))
    steps = {
        "shared": variants.exact_pairs(network),
        "apart": variants.exact_pairs(network, replace(ALL, prefix_tree=False)),
        "plain": variants.plain_pairs(stock),
    }
    for step in steps.values():
        step(batch[:1])
    seconds = Seconds(setting.device)
    for _ in range(setting.rounds):
        for name, step in steps.items():
            seconds.take(name, lambda step=step: step(batch))  # type: ignore[misc]
        what = f"{setting.model}: {len(batch)} pairs of 80 tokens on 500"
        yield [
            Result(
                what, "the plain pair: two rows, all logits", seconds.ratio("plain", "shared"), "x", setting.goal(1.7),
                detail=seconds.words("plain", "shared"),
            ),
            Result(
                what, "the same without prefix tree", seconds.ratio("apart", "shared"), "x", None,
                detail=seconds.words("apart", "shared"),
            ),
        ]  # fmt: skip


def thinking(setting: Setting) -> Iterator[list[Result]]:
    """Trajectories of a thinking model as trees, against a row for each critical step."""
    network, stock = variants.network(setting.path, setting.device), variants.stock(setting.path, setting.device)
    steps: dict[str, variants.Step] = {
        "trees": variants.exact(network),
        "trees off": variants.exact(network, replace(ALL, prefix_tree=False)),
        "rows": variants.padded(stock, 1),
        "padded": variants.padded(stock, BATCH),
    }
    trajectories = variants.thinkers(2 * setting.rounds, vocabulary(setting.path))
    for step in steps.values():
        step(trajectories[0][:1])
    work: list[float] = []
    seconds, peak = Seconds(setting.device), peaks(setting, ("exact", "padded"), of="thinkers")
    of_memory = f"peak above weights {peak['exact'] / 2**20:.0f} / {peak['padded'] / 2**20:.0f} MiB"
    for number in range(setting.rounds):
        batch = [row for rows in trajectories[2 * number : 2 * number + 2] for row in rows]
        work.append(variants.in_full(network, batch) / variants.needed(network, batch))
        for name, step in steps.items():
            seconds.take(name, lambda step=step, batch=batch: step(batch))  # type: ignore[misc]
        yield [
            Result(
                f"{setting.model}: thinking, 12 steps, 3 critical", peer, seconds.ratio(name, "trees"), "x",
                None if goal is None else setting.goal(goal), detail=f"{seconds.words(name, 'trees')}{more}",
            )
            for name, peer, goal, more in (
                ("rows", "one row per critical step", 2.0, f"; {statistics.median(work):.2f}x the FLOPs"),
                ("padded", "the rows in padded batches of 6", 4.0, f"; {of_memory}"),
                ("trees off", "the same without prefix tree", None, ""),
            )
        ]  # fmt: skip


def memory(setting: Setting) -> Iterator[list[Result]]:
    """The peak of a step above model and gradients, each variant in a process of its own."""
    peak, of_a_row = peaks(setting, ("exact", "padded"), of="samples"), variants.PACK[setting.device.type]
    batch = min(BATCH, IN_MEMORY[setting.model])
    yield [
        Result(
            f"{setting.model}: peak activation memory", f"a padded batch of {batch}",
            peak["exact"] / peak["padded"] * 100, "%", setting.goal(50), at_least=False,
            detail=f"{peak['exact'] / 2**20:.0f} / {peak['padded'] / 2**20:.0f} MiB, rows of {of_a_row} tokens",
        )
    ]  # fmt: skip


def peaks(setting: Setting, names: Sequence[str], *, of: str) -> dict[str, float]:
    """`activation_memory` of each variant."""
    gc.collect()
    torch.cuda.empty_cache()  # what other claims held on a GPU
    found = {}
    for name in names:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            found[name] = alone.submit(activation_memory, setting, name, of).result()
    return found


def activation_memory(setting: Setting, name: str, of: str) -> float:
    """Peak bytes of a step above what is held before it: weights and their gradients, the same for all.

    Args:
        setting: of the benchmark.
        name: of the variant.
        of: `samples`, or `thinkers`, whose rows a padded batch holds up to eight of.
    """
    torch.set_num_threads(1)
    disable_progress_bar()
    words = vocabulary(setting.path)
    if of == "thinkers":
        batch = [row for rows in variants.thinkers(3, words) for row in rows][:BATCH]
    else:
        batch = variants.samples(IN_MEMORY[setting.model], words)
    if name == "exact":
        network = variants.network(setting.path, setting.device)
        step, model = variants.exact(network), network.model
    else:
        model = variants.stock(setting.path, setting.device)
        step = variants.padded(model, BATCH)
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)  # written to, so that the pages are there
    gc.collect()
    if setting.device.type != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(batch)
        return float(torch.cuda.max_memory_allocated() - before)
    with resident() as peak:
        step(batch)
    return peak()


def vocabulary(path: str) -> int:
    """Token ids that a model knows."""
    return int(AutoConfig.from_pretrained(path).vocab_size)


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
