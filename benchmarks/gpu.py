"""One card in ten minutes: engines, scores, rollouts, training and the quickstart, each beside its goal.

`python -m benchmarks.gpu [claim ...] [--plan]` with claims `engine`, `scoring`, `training`, `peers` and `quickstart`
(all by default), each in a process of its own, so that the card is empty when it begins. `--plan` lists what each
measures, its minutes, and what it lacks here; a claim that lacks a package is left out with that reason.
`results/gpu_<claim>.json` is written when a claim is done. `peers` runs `benchmarks.training`, with TRL as it comes and
with its best switches where it is installed (requirements/install_peers.sh). Goals are for an H100 or H200 with
SmolLM2-135M, the model on board, and random Llamas of 1.2 B and 8 B. Without a GPU it says so in one line.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel

from atlas_ray import models
from atlas_ray.config import EngineConfig, LoraConfig, TrainConfig
from atlas_ray.gpus import flaw, installation
from atlas_ray.inference.engine import Engine
from atlas_ray.training import attention, flops, last_layer, lora
from atlas_ray.training.dry_run import needs
from atlas_ray.training.exact import meta_model
from atlas_ray.training.examples import Example
from atlas_ray.training.hardware import matmul_flops
from atlas_ray.training.loop import ahead, backward, count, rows_of, sized_for
from atlas_ray.training.loss import Row
from atlas_ray.training.model import Network, compiled, in_bf16
from benchmarks import _training as variants
from benchmarks.result import Result, asked, parser_for, publish, write

ROOT = Path(__file__).parents[1]
SPANS = [(100, 200), (700, 900)]
"""Tokens of a prompt of 1,500 that are scored: a fifth."""
LLAMAS = {
    "1.2 B": LlamaConfig(tie_word_embeddings=True, **variants.RANDOM["llama1b"]),
    "8 B": LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """Something to measure."""

    run: Callable[[], Iterator[Result]]
    minutes: float
    """That it may take on an H100."""
    packages: tuple[str, ...] = ()
    """That it needs besides PyTorch and transformers."""

    @property
    def lacks(self) -> list[str]:
        """Packages that are not installed."""
        return [package for package in self.packages if find_spec(package) is None]

    def line(self, name: str) -> str:
        """What the plan says of it."""
        lacks = f" [left out: {', '.join(self.lacks)} not installed]" if self.lacks else ""
        return f"{name:<11}{self.minutes:4.1f} min  {' '.join(str(self.run.__doc__).split())}{lacks}"


def main() -> None:
    """Measure and publish, a process for each claim."""
    claims = {
        "engine": Claim(engine, 1.5, ("vllm",)),
        "scoring": Claim(scoring, 1.0, ("vllm",)),
        "training": Claim(training, 3.0),
        "peers": Claim(peers, 2.5),
        "quickstart": Claim(quickstart, 2.0, ("ray", "vllm")),
    }
    parser = parser_for("gpu", __doc__)
    parser.add_argument("--plan", action="store_true", help="list what would be measured")
    options = asked(parser, claims)
    if options.plan:
        print("\n".join(claims[name].line(name) for name in options.claims))
        return
    found = installation()
    if not found.gpus:
        print(f"no GPU: {flaw(found) or 'this PyTorch was built for CPUs'}")
        return
    if len(options.claims) > 1:
        for name in options.claims:
            subprocess.run([sys.executable, "-m", "benchmarks.gpu", name], cwd=ROOT, check=False)
        return
    [claim] = options.claims
    if claims[claim].lacks:
        print(claims[claim].line(claim))
        return
    results: list[Result] = []
    for result in claims[claim].run():
        results.append(result)
        write(f"gpu_{claim}", results)  # a run that is killed keeps what it measured
    publish(f"gpu_{claim}", results)


# --- engines ---------------------------------------------------------------------------------------------------------
def engine() -> Iterator[Result]:
    """Seconds to a first and a second model, and generated tokens/s at 1, 64 and 512 at a time."""
    directory = models.resolve(models.ON_BOARD)
    begun = time.perf_counter()
    started = Engine(directory, EngineConfig(max_num_seqs=512))
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    started.load(directory)
    second = time.perf_counter() - begun
    peer = f"the first model's start: {first:.1f} s"
    yield Result("second model of a run: seconds to ready", peer, second, "s", 10, at_least=False)
    prompts = chats(512)

    async def generate(ids: Sequence[list[int]]) -> int:
        answers = await asyncio.gather(*(started.generate(each, max_tokens=64) for each in ids))
        return sum(len(answer.ids) for answer in answers)

    asyncio.run(generate(prompts[:8]))
    for at_a_time, goal in ((1, None), (64, None), (512, 20_000)):
        begun = time.perf_counter()
        tokens = asyncio.run(generate(prompts[:at_a_time]))
        rate = tokens / (time.perf_counter() - begun)
        yield Result("SmolLM2: generated tokens/s", f"{at_a_time} at a time", rate, "tokens/s", goal)


def scoring() -> Iterator[Result]:
    """Scored tokens/s at chosen positions against the engine's plain prefill, and the difference from fp32."""
    from vllm import SamplingParams

    directory = models.resolve(models.ON_BOARD)
    started = Engine(directory, EngineConfig(max_num_seqs=512))
    prompts = [(ids * 60)[:1500] for ids in chats(192)]
    tokens = 64 * 1500

    def prefill(ids: Sequence[list[int]]) -> None:
        for future in [started.submit(each, SamplingParams(max_tokens=1, temperature=0.0)) for each in ids]:
            future.result()

    seconds: dict[str, float] = {}
    started.score(prompts[:2], [SPANS] * 2)
    for name, run in (("score", lambda ids: started.score(ids, [SPANS] * len(ids))), ("prefill", prefill)):
        part = prompts[:64] if name == "score" else prompts[64:128]  # what the prefix cache does not hold
        begun = time.perf_counter()
        run(part)
        seconds[name] = time.perf_counter() - begun
    yield Result(
        "SmolLM2: scored tokens/s, chosen positions", f"plain prefill, {tokens / seconds['prefill']:.0f} tokens/s",
        seconds["prefill"] / seconds["score"], "x", 0.8, detail=f"{tokens / seconds['score']:.0f} tokens/s",
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    ids = torch.tensor([prompts[0]])
    with torch.no_grad():
        plain = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    scores = torch.tensor(started.score([prompts[0]], [SPANS])[0])
    known = ~scores.isnan()
    worst = (plain - scores)[known].abs().max().item()
    mean = abs(plain[known].mean().item() - scores[known].mean().item())
    yield Result("a token's log-probability", "plain forward pass in fp32", worst, "nats", 2e-2, at_least=False)
    yield Result("a mean of log-probabilities", "plain forward pass in fp32", mean, "nats", 2e-3, at_least=False)


def chats(number: int) -> list[list[int]]:
    """Short prompts of the model on board, no two alike."""
    tokenizer = models.load_tokenizer(models.resolve(models.ON_BOARD))
    found = []
    for task in range(number):
        turn = {"role": "user", "content": f"Task {task}: craft item {task} from {task % 7} and {task % 11}."}
        found.append(
            tokenizer.apply_chat_template([turn], add_generation_prompt=True, tokenize=True, return_dict=False)
        )
    return found


# --- training --------------------------------------------------------------------------------------------------------
def training() -> Iterator[Result]:
    """Tokens/s, share of the matmul rate and memory of whole optimizer steps, as a single worker takes them; the small
    model with CUDA graphs and without, the others as `train.compile: auto` has them."""
    device = torch.device("cuda", 0)
    rate = matmul_flops(device, torch.bfloat16)
    on_board = models.resolve(models.ON_BOARD)
    for name, config, rows, options, goals in (
        ("SmolLM2-135M", None, 16_384, TrainConfig(), (350_000, 25)),
        ("SmolLM2-135M, no CUDA graphs", None, 16_384, TrainConfig(compile=True), (None, None)),
        ("1.2 B", LLAMAS["1.2 B"], 8192, TrainConfig(), (None, 55)),
        ("8 B, LoRA", LLAMAS["8 B"], 8192, TrainConfig(lora=LoraConfig()), (None, None)),
    ):
        model = (
            AutoModelForCausalLM.from_pretrained(on_board, dtype=torch.float32)
            if config is None else randomly(config, device)
        )  # fmt: skip
        torch.cuda.reset_peak_memory_stats()
        network = trained(model, options, device)
        drawn = batches(network, 12, trajectories=16, tokens=800)
        tokens, flop = steps(network, drawn, rows, device)
        detail = f"rows of {rows} tokens, steps of 16 trajectories of 800 tokens"
        yield Result(f"{name}: trained tokens/s", "-", tokens, "tokens/s", goals[0], detail=detail)
        share = f"matrix products at {rate / 1e12:.0f} TFLOP/s"
        yield Result(f"{name}: needed FLOP/s", share, flop / rate * 100, "%", goals[1], detail=detail)
        measured, said = torch.cuda.max_memory_allocated(device), estimate(model.config, options, drawn, rows)
        yield Result(
            f"{name}: the dry run's memory is off by", f"{measured / 1e9:.1f} GB", abs(said / measured - 1) * 100, "%",
            10, at_least=False, detail=f"{said / 1e9:.1f} GB",
        )  # fmt: skip
        del network, model
        torch.cuda.empty_cache()


def estimate(config: PreTrainedConfig, options: TrainConfig, drawn: Sequence[list[Example]], row: int) -> float:
    """Bytes that the dry run expects of rows of at most so many tokens."""
    model = meta_model(config)
    if options.lora is not None:
        lora.add(model, options.lora)
    examples = [example for batch in drawn for example in batch]
    longest = min(row, max(sum(example.length for example in batch) for batch in drawn))
    labels = sum(example.labelled for example in examples) / sum(example.length for example in examples)
    needed = needs(model, options, variants.ALL, labels)
    return needed.fixed + longest * needed.per_token


def randomly(config: LlamaConfig, device: torch.device) -> PreTrainedModel:
    """A Llama with random weights."""
    torch.manual_seed(0)
    with device:
        return LlamaForCausalLM(config)


def trained(model: PreTrainedModel, options: TrainConfig, device: torch.device) -> Network:
    """The network that `model.load_sharded` makes for a single worker, of a model that is in memory."""
    attention.register()
    kernel = "flex" if device.type == "cuda" else "sdpa"
    model.set_attn_implementation(attention.NAMES[kernel])
    last_layer.make_sparse(model)
    if options.lora is not None:
        lora.add(model, options.lora)
    network = Network(model.train(), variants.ALL, kernel)
    if device.type == "cuda":
        network = in_bf16(network)
    model.to(device)
    return compiled(network, options, device, workers=1)


def batches(network: Network, number: int, *, trajectories: int, tokens: int) -> list[list[Example]]:
    """Steps of trajectories of about so many tokens, of which four stretches, a tenth in all, are labels."""
    draw, vocabulary = np.random.default_rng(0), network.model.config.vocab_size
    found = []
    for name in range(number * trajectories):
        length = int(draw.integers(tokens * 3 // 4, tokens * 5 // 4))
        ids, weights = draw.integers(0, vocabulary, length, dtype=np.int32), np.zeros(length, np.float32)
        for end in sorted(draw.integers(length // 3, length, 4)):
            weights[max(1, end - length // 40) : end] = 1
        found.append(Example(f"t{name}", ids, weights, length))
    return [found[start : start + trajectories] for start in range(0, len(found), trajectories)]


def steps(network: Network, drawn: Sequence[list[Example]], capacity: int, device: torch.device) -> tuple[float, float]:
    """Tokens and needed FLOPs a second of whole steps, the next one's rows being prepared meanwhile.

    The first quarter of the steps compiles and is not counted; of the others the median counts.
    """
    tuned = [weight for weight in network.model.parameters() if weight.requires_grad]
    optimizer, shape = torch.optim.AdamW(tuned, lr=1e-6, fused=True), flops.shape_of(network.model)
    network.clear_gradients()

    def prepared(step: int) -> tuple[list[Row], flops.Counts]:
        rows = rows_of(drawn[step], 0, 1, capacity, variants.ALL, torch.device("cpu"))
        return [sized_for(network, row, capacity).moved(device) for row in rows], count(rows)

    tokens, flop, begun = [], [], time.perf_counter()
    for step, (rows, counted) in ahead(prepared, range(len(drawn))):
        backward(network, rows, sum(example.total_weight for example in drawn[step]), 1)
        torch.nn.utils.clip_grad_norm_(tuned, 1.0).item()
        optimizer.step()
        network.clear_gradients()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds, begun = time.perf_counter() - begun, time.perf_counter()
        if step >= len(drawn) // 4:
            tokens.append(counted.tokens / seconds)
            flop.append(shape.step(counted, head_at_labels=True, sparse_last_layer=True) / seconds)
    return statistics.median(tokens), statistics.median(flop)


def peers() -> Iterator[Result]:
    """Steps of 1.2 B against TRL, as it comes and with its best switches, and against Hugging Face's padded batches."""
    command = [sys.executable, "-m", "benchmarks.training", "peers", "--model", "llama1b", "--device", "cuda"]
    subprocess.run([*command, "--whole", "--rounds", "4"], cwd=ROOT, check=True)
    for row in json.loads((ROOT / "benchmarks" / "results" / "training_llama1b.json").read_text()):
        goal = 2.0 if row["peer"].startswith("TRL with its best") else None
        yield Result(row["claim"], row["peer"], row["value"], row["unit"], goal, detail=row["detail"])


# --- the pipeline ----------------------------------------------------------------------------------------------------
def quickstart() -> Iterator[Result]:
    """Seconds of the quickstart, and value rollouts/s of its warm-up, engine start included."""
    with tempfile.TemporaryDirectory() as folder:
        shared = ["--config", "configs/quickstart.yaml", "--run_dir", folder]
        begun = time.perf_counter()
        subprocess.run([sys.executable, "jobs/pipeline.py", *shared], cwd=ROOT, check=True)
        took = time.perf_counter() - begun
        yield Result("the quickstart: seconds to the table", "-", took, "s", 90, at_least=False)
        begun = time.perf_counter()
        command = [sys.executable, "jobs/select.py", *shared, "--select.methods", "value"]
        subprocess.run(command, cwd=ROOT, check=True)
        took = time.perf_counter() - begun
        played = len(Path(folder, "select", "value.jsonl").read_text().splitlines())
        detail = f"{played} rollouts in {took:.0f} s, engine start included"
        yield Result("value rollouts/s", "-", played / took, "rollouts/s", None, detail=detail)


if __name__ == "__main__":
    main()
