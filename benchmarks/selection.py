"""What selection costs: the selector's rate beside its endpoint's, faults, a kill, scoring beside its peers, memory.

`python -m benchmarks.selection [claim ...]` with claims `llm`, `faults`, `outage`, `kill`, `perplexity` and `memory`
(all by default). Every ratio comes from one run; the endpoint is `_slow_endpoint.py`, which shares the cores.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from atlas_ray.store import Store
from atlas_ray.trajectory import TRAJECTORY_SCHEMA, Message, Trajectory, trajectories_to_table
from benchmarks.result import Result, publish

SLOTS, LATENCY_S = 128, 0.1
TRAJECTORIES = 2000
ON_BOARD = "smollm2-135m-instruct"

_DRIVER = """
import json, resource, sys, time
import ray
from atlas_ray.config import PipelineConfig
from atlas_ray.selection.run import select
from atlas_ray.store import Store
run_dir, method, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", object_store_memory=400_000_000)
facts = select(PipelineConfig.model_validate(options), Store(run_dir), method)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps(facts | {"peak_mib": peak}))
"""


def main() -> None:
    """Measure what is asked for and publish."""
    claims: dict[str, Callable[[Path], list[Result]]] = {
        "llm": _llm, "faults": _faults, "outage": _outage, "kill": _kill, "perplexity": _perplexity, "memory": _memory
    }  # fmt: skip
    results: list[Result] = []
    for name in sys.argv[1:] or claims:
        with tempfile.TemporaryDirectory(prefix="atlas-bench-") as folder:
            results += claims[name](Path(folder))
    publish("selection", results)


def _llm(folder: Path) -> list[Result]:
    facts, stats = _asked(folder)
    share = stats["answered"] / stats["seconds"] / (SLOTS / LATENCY_S)
    detail = f"{stats['answered'] / stats['seconds']:.0f} answers/s, first request to last answer"
    return [
        Result(
            "llm: rate", "slots / latency", share, "share", 0.9, detail=f"{detail}, {facts['error_rows']} error rows"
        )
    ]


def _faults(folder: Path) -> list[Result]:
    facts, stats = _asked(folder, "--limited", "10", "--broken", "3")
    share = stats["answered"] / stats["seconds"] / (SLOTS / LATENCY_S)
    lost = TRAJECTORIES - facts["trajectories"] + facts["error_rows"]
    detail = f"{stats['calls'] - stats['answered']:.0f} of {stats['calls']:.0f} requests failed"
    return [
        Result("llm, 10 % 429 and 3 % 500: rate", "slots / latency", share, "share", 0.7, detail=detail),
        Result("llm, 10 % 429 and 3 % 500: rows lost", "goal alone", lost, "rows", 0, at_least=False),
    ]


def _outage(folder: Path) -> list[Result]:
    """The endpoint is gone for 30 s in the middle, with the default retries."""
    _store(folder, 1000)
    with _endpoint() as url:
        port = url.split(":")[2].split("/")[0]
        driver = _start(folder, "llm", _options(url, slots=8))
        while _stats(url)["answered"] < 200:
            time.sleep(0.1)
    time.sleep(30)
    with _endpoint("--port", port):
        facts = _facts(driver)
    return [
        Result("llm, endpoint down for 30 s: rows lost", "goal alone", facts["error_rows"], "rows", 0, at_least=False)
    ]


def _kill(folder: Path) -> list[Result]:
    """kill -9 of the driver and its Ray in the middle; then the same command again."""
    _store(folder, TRAJECTORIES)
    with _endpoint() as url:
        driver = _start(folder, "llm", _options(url))
        while _stats(url)["answered"] < TRAJECTORIES / 3:
            time.sleep(0.05)
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        _facts(_start(folder, "llm", _options(url)))
        stats = _stats(url)
    detail = f"{TRAJECTORIES} questions, {stats['answered']:.0f} answers; {SLOTS} slots"
    return [Result("llm, kill -9: calls paid twice", "calls in flight", stats["twice"], "calls", SLOTS, False, detail)]


def _memory(folder: Path) -> list[Result]:
    peaks = {}
    for count in (1_000, 100_000):
        _store(folder / str(count), count, alike=True)
        peaks[count] = _facts(_start(folder / str(count), "random", {"model": ON_BOARD}))["peak_mib"]
    detail = ", ".join(f"{peak:.0f} MiB at {count}" for count, peak in peaks.items())
    return [
        Result("driver's peak memory, 100,000 trajectories", "1,000 trajectories", peaks[100_000] / peaks[1_000], "x",
               1.2, False, detail)
    ]  # fmt: skip


def _perplexity(folder: Path) -> list[Result]:
    """On-board model, trajectories of 8 to 14 steps (11 on average); engine and forward passes take turns.

    Of a set of 24, every fourth is scored and one of average length goes through the script, which is slow: rates are
    per token, and the script's depends on the steps of its trajectory alone.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from atlas_ray.chat import encode
    from atlas_ray.config import EngineConfig
    from atlas_ray.inference.engine import Engine
    from atlas_ray.models import load_tokenizer, resolve

    path = resolve(ON_BOARD)
    tokenizer = load_tokenizer(path)
    encoded = [encode(_trajectory(n, 8 + n % 7), tokenizer) for n in range(0, 24, 4)]
    average = encode(_trajectory(24, 11), tokenizer)
    sequences = [each.ids for each in encoded]
    engine = Engine(path, EngineConfig(max_model_len=2048))
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    scored = sum(end - start for each in encoded for start, end in each.spans)
    engine.score([sequences[0][:64]])  # warm
    prefill = _seconds(lambda: _plain_prefill(engine, sequences))
    score = _seconds(lambda: engine.score(sequences))
    script = _seconds(lambda: _by_prefix(model, average.ids, average.spans))
    engine.close()
    rate = scored / score
    script_rate = sum(end - start for start, end in average.spans) / script
    tokens = sum(map(len, sequences))
    return [
        Result("perplexity: scored tokens/s", "one forward per step prefix", rate / script_rate, "x", 7.0,
               detail=f"{rate:.1f} against {script_rate:.1f} scored tokens/s"),
        Result("perplexity: prompt tokens/s", "the engine's plain prefill", prefill / score, "x", 0.8,
               detail=f"{tokens / score:.0f} against {tokens / prefill:.0f} prompt tokens/s"),
    ]  # fmt: skip


def _by_prefix(model: object, ids: list[int], spans: list[tuple[int, int]]) -> list[float]:
    """What a simple script does: for every step a forward pass over all up to its end."""
    import torch

    scores = []
    for start, end in spans:
        with torch.no_grad():
            logits = model(torch.tensor([ids[:end]])).logits[0, start - 1 : end - 1]  # type: ignore[operator]
        labels = torch.tensor(ids[start:end])
        scores.append(float(torch.nn.functional.cross_entropy(logits, labels)))
    return scores


def _plain_prefill(engine: object, sequences: list[list[int]]) -> None:
    """The same prompts, one token generated each, no log-probabilities; the prefix cache is emptied first."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    engine._engine.reset_prefix_cache()  # type: ignore[attr-defined]
    params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)
    for future in engine._submit(sequences, params):  # type: ignore[attr-defined]
        future.result()


def _asked(folder: Path, *faults: str) -> tuple[dict[str, float], dict[str, float]]:
    _store(folder, TRAJECTORIES)
    with _endpoint(*faults) as url:
        return _facts(_start(folder, "llm", _options(url))), _stats(url)


def _options(url: str, slots: int = SLOTS) -> dict[str, object]:
    return {"model": ON_BOARD, "select": {"llm": {"base_url": url, "model": "slow", "concurrency": slots}}}


def _start(folder: Path, method: str, options: dict[str, object]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _DRIVER, str(folder), method, json.dumps(options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def _facts(driver: subprocess.Popen[str]) -> dict[str, float]:
    """What a driver printed last."""
    output, _ = driver.communicate(timeout=900)
    if driver.returncode:
        sys.exit(f"a driver ended with code {driver.returncode}; its own words are above")
    return dict(json.loads(output.splitlines()[-1]))


@contextmanager
def _endpoint(*options: str) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks._slow_endpoint", "--latency", str(LATENCY_S), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
    finally:
        process.kill()
        process.wait()


def _stats(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - our own server
        return dict(json.load(response))


def _store(folder: Path, count: int, *, alike: bool = False) -> None:
    """Trajectories of about 11 steps, written as they are made; `alike` repeats 64 under ids of their own."""
    first = trajectories_to_table([_trajectory(n, 8 + n % 7) for n in range(64)])
    with Store(str(folder)).table_writer(TRAJECTORY_SCHEMA, "trajectories", "part-0.parquet") as write:
        for start in range(0, count, 64):
            numbers = range(start, min(count, start + 64))
            if alike:
                ids = pa.array([_identity(n) for n in numbers])
                write(first.slice(0, len(numbers)).set_column(0, "trajectory_id", ids))
            else:
                write(trajectories_to_table([_trajectory(n, 8 + n % 7) for n in numbers]))


def _identity(number: int) -> str:
    return f"t{number:07d}"


def _trajectory(number: int, n_steps: int) -> Trajectory:
    messages = [
        Message(role="user", content=f"Craft items. Goal: craft item {number}. " + "Craft with a recipe. " * 12)
    ]
    for step in range(n_steps):
        thought = f"I have {step} of the things that item {number} is made of, so the next one is due."
        messages.append(Message(role="assistant", content=f"Thought: {thought}\nAction: get {step} logs", step=step))
        messages.append(Message(role="user", content=f"Got {step} logs. Inventory: {step} logs, {number} planks."))
    return Trajectory(
        trajectory_id=_identity(number), env="textcraft", item_id=f"textcraft_{number}", source="benchmark",
        messages=tuple(messages), n_steps=n_steps,
    )  # fmt: skip


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
