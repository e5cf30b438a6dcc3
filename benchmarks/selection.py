"""What selection costs: the selector's rate beside its endpoint's, faults, a kill, scoring beside its peers, memory.

`python -m benchmarks.selection [claim ...]` with claims `client`, `llm`, `faults`, `outage`, `kill`, `perplexity`,
`entropy` and `memory` (all by default: about six minutes on two cores). Every ratio comes from one run; the endpoint is
`_slow_endpoint.py`, which shares the cores, and so does what it is set beside (`_callers.py`).
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
from statistics import median

import pyarrow as pa

from atlas_ray.selection.prompt import Question, build
from atlas_ray.store import Store
from atlas_ray.trajectory import TRAJECTORY_SCHEMA, Message, Trajectory, trajectories_to_table
from benchmarks import _callers
from benchmarks._watch import Watch
from benchmarks.result import Result, asked, parser_for, publish

SLOTS, LATENCY_S = 128, 0.1
TRAJECTORIES = 2000
ROUNDS = 5
ON_BOARD = "smollm2-135m-instruct"

_DRIVER = """
import json, sys
import ray
from atlas_ray.config import PipelineConfig
from atlas_ray.roster import Roster
from atlas_ray.selection.method import SelectionContext, make
from atlas_ray.selection.run import run
from atlas_ray.store import Store
ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", object_store_memory=400_000_000)
for line in sys.stdin:
    run_dir, name, options = json.loads(line)
    config, store = PipelineConfig.model_validate(options), Store(run_dir)
    context = SelectionContext(config, store, Roster(config, lambda name: name, store.path), {})
    print(json.dumps(run(context, make(config.selection(name)))), flush=True)
"""


def main() -> None:
    """Measure what is asked for and publish."""
    claims: dict[str, Callable[[Path], list[Result]]] = {
        "client": _client, "llm": _llm, "faults": _faults, "outage": _outage, "kill": _kill,
        "perplexity": _perplexity, "entropy": _entropy, "memory": _memory,
    }  # fmt: skip
    results: list[Result] = []
    for name in asked(parser_for("selection", __doc__), claims).claims:
        with tempfile.TemporaryDirectory(prefix="atlas-bench-") as folder:
            results += claims[name](Path(folder))
    publish("selection", results)


def _client(folder: Path) -> list[Result]:
    """Processor time of a question, by who asks; they take turns."""
    del folder
    questions = _questions(1000)
    spent: dict[str, list[float]] = {"client": [], "sdk": [], "bare": []}
    theirs = []
    for _ in range(ROUNDS):
        for name, ask in (("client", _callers.client), ("sdk", _callers.sdk), ("bare", _callers.bare)):
            with _endpoint() as url:
                spent[name].append(ask(url, questions, SLOTS) / len(questions) * 1000)
                theirs.append(_stats(url)["processor_s"] / len(questions) * 1000)
    ours, sdk, bare = (median(spent[name]) for name in ("client", "sdk", "bare"))
    detail = (
        f"{ours:.2f} ms a call against {sdk:.2f}; bytes over a socket {bare:.2f}, the endpoint {median(theirs):.2f}"
    )
    return [Result("client: calls a second of processor time", "openai SDK", sdk / ours, "x", None, detail=detail)]


def _llm(folder: Path) -> list[Result]:
    """Rounds of the whole selection and of the bare loop, in turn."""
    job, bare, error_rows = _rates(folder)
    return [
        Result("llm: rate", "slots / latency", _share(job), "share", 0.9,
               detail=f"{_shown(job)}, first request to last answer; {error_rows:.0f} error rows"),
        Result("bare loop: rate", "slots / latency", _share(bare), "share", None,
               detail=f"{_shown(bare)}: the same requests as bytes over sockets"),
    ]  # fmt: skip


def _faults(folder: Path) -> list[Result]:
    """The last answers wait out pauses, one after the other, while the slots are empty: so the first 95 % count too."""
    job, bare, error_rows = _rates(folder, "--limited", "10", "--broken", "3")
    return [
        Result("llm, 10 % 429 and 3 % 500: rate of the first 95 %", "slots / latency", _share(job, 1), "share", 0.7,
               detail=_shown(job, 1)),
        Result("llm, 10 % 429 and 3 % 500: rate of all", "slots / latency", _share(job), "share", None,
               detail=_shown(job)),
        Result("bare loop, 10 % 429 and 3 % 500: rate of all", "slots / latency", _share(bare), "share", None,
               detail=f"{_shown(bare)}: as bytes over sockets, tried again after 0.1 s"),
        Result("llm, 10 % 429 and 3 % 500: rows lost", "goal alone", error_rows, "rows", 0, at_least=False),
    ]  # fmt: skip


_Rates = list[tuple[float, float]]
"""Answers a second of all, and of the first 95 %, by round."""


def _rates(folder: Path, *faults: str) -> tuple[_Rates, _Rates, float]:
    """Of the job and of the bare loop, and error rows; every round asks an endpoint anew."""
    questions = _questions(TRAJECTORIES)
    rates: tuple[_Rates, _Rates] = ([], [])
    error_rows = 0.0
    driver = _start()
    for number in range(ROUNDS):
        _store(folder / str(number), TRAJECTORIES)
        with _endpoint(*faults) as url:
            facts = _ask(driver, folder / str(number), "llm", _options(url))
            error_rows += facts["error_rows"] + TRAJECTORIES - facts["trajectories"]
            rates[0].append(_rate(url))
        with _endpoint(*faults) as url:
            _callers.bare(url, questions, SLOTS)
            rates[1].append(_rate(url))
    _end(driver)
    return *rates, error_rows


def _rate(url: str) -> tuple[float, float]:
    stats = _stats(url)
    return stats["answered"] / stats["seconds"], 0.95 * stats["answered"] / stats["seconds_to_95_percent"]


def _share(rates: _Rates, which: int = 0) -> float:
    return median(rate[which] for rate in rates) / (SLOTS / LATENCY_S)


def _shown(rates: _Rates, which: int = 0) -> str:
    return f"{', '.join(f'{rate[which]:.0f}' for rate in rates)} answers/s"


def _outage(folder: Path) -> list[Result]:
    """The endpoint is gone for 30 s in the middle, with the default retries."""
    _store(folder, 1000)
    driver = _start()
    with _endpoint() as url:
        port = url.split(":")[2].split("/")[0]
        _tell(driver, folder, "llm", _options(url, slots=8))
        while _stats(url)["answered"] < 200:
            time.sleep(0.1)
    time.sleep(30)
    with _endpoint("--port", port):
        facts = _facts(driver)
    _end(driver)
    return [
        Result("llm, endpoint down for 30 s: rows lost", "goal alone", facts["error_rows"], "rows", 0, at_least=False)
    ]


def _kill(folder: Path) -> list[Result]:
    """kill -9 of the driver and its Ray in the middle; then the same command again."""
    _store(folder, TRAJECTORIES)
    with _endpoint() as url:
        driver = _start()
        _tell(driver, folder, "llm", _options(url))
        while _stats(url)["answered"] < TRAJECTORIES / 3:
            time.sleep(0.02)
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        before = _stats(url)["answered"]
        again = _start()
        _ask(again, folder, "llm", _options(url))
        _end(again)
        stats = _stats(url)
    detail = f"killed after {before:.0f} of {TRAJECTORIES} answers; {stats['answered']:.0f} in all, {SLOTS} slots"
    return [Result("llm, kill -9: calls paid twice", "calls in flight", stats["twice"], "calls", SLOTS, False, detail)]


def _memory(folder: Path) -> list[Result]:
    """Peaks of the driver and of all processes of its Ray, each run in a cluster of its own."""
    results = []
    for method, counts in (("random", (1_000, 10_000, 100_000)), ("llm", (1_000, 10_000))):
        peaks = []
        for count in counts:
            run_dir = folder / method / str(count)
            _store(run_dir, count, alike=method == "random")
            driver = _start()
            with _endpoint() as url, Watch(driver.pid) as watch:
                _ask(driver, run_dir, method, _options(url))
            _end(driver)
            peaks.append((watch.driver_mib, watch.cluster_mib))
        for whose, which in (("driver", 0), ("driver, Ray and workers", 1)):
            found = [peak[which] for peak in peaks]
            detail = ", ".join(f"{mib:.0f} MiB at {count:,}" for mib, count in zip(found, counts, strict=True))
            results.append(
                Result(f"{method}: peak memory of {whose}, {counts[-1]:,} trajectories", f"{counts[0]:,} trajectories",
                       found[-1] / found[0], "x", 1.2, False, detail)
            )  # fmt: skip
    return results


def _perplexity(folder: Path) -> list[Result]:
    """On-board model, trajectories of 8 to 14 steps (11 on average); engine and forward passes take turns.

    Of a set of 24, every sixth is scored and one of average length goes through the script, which is slow: rates are
    per token, and the script's depends on the steps of its trajectory alone. Ratios of processor time are told too,
    because forward passes of two threads suffer more from company than anything else here.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from atlas_ray.chat import encode
    from atlas_ray.config import EngineConfig
    from atlas_ray.inference.engine import Engine
    from atlas_ray.models import load_tokenizer, resolve

    del folder
    path = resolve(ON_BOARD)
    tokenizer = load_tokenizer(path)
    encoded = [encode(_trajectory(n, 8 + n % 7), tokenizer) for n in range(0, 24, 6)]
    average = encode(_trajectory(24, 11), tokenizer)
    sequences, spans = [each.ids for each in encoded], [each.spans for each in encoded]
    engine = Engine(path, EngineConfig(max_model_len=2048))
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    engine.score([sequences[0][:64]])  # warm
    script = _seconds(lambda: _by_prefix(model, average.ids, average.spans))
    rounds = [
        (_seconds(lambda: engine.score(sequences, spans)), _seconds(lambda: _plain_prefill(engine, sequences)))
        for _ in range(ROUNDS)
    ]
    engine.close()
    scored = sum(end - start for each in encoded for start, end in each.spans)
    by_script = sum(end - start for start, end in average.spans)
    tokens = sum(map(len, sequences))
    wall, cpu = 0, 1
    score, prefill = ([median(one[which][kind] for one in rounds) for kind in (wall, cpu)] for which in (0, 1))
    of_script = [scored / score[kind] / (by_script / script[kind]) for kind in (wall, cpu)]
    of_prefill = [median(theirs[kind] / ours[kind] for ours, theirs in rounds) for kind in (wall, cpu)]
    return [
        Result("perplexity: scored tokens/s", "one forward per step prefix", of_script[wall], "x", 7.0,
               detail=f"{scored / score[wall]:.0f} against {by_script / script[wall]:.1f} scored tokens/s; "
                      f"{of_script[cpu]:.1f} x by processor time"),
        Result("perplexity: prompt tokens/s", "the engine's plain prefill", of_prefill[wall], "x", 0.8,
               detail=f"{tokens / score[wall]:.0f} against {tokens / prefill[wall]:.0f} prompt tokens/s; "
                      f"{of_prefill[cpu]:.2f} x by processor time"),
    ]  # fmt: skip


def _entropy(folder: Path) -> list[Result]:
    """The pass that gives log-probabilities and entropies, and one that gives log-probabilities alone, in turn."""
    import torch

    from atlas_ray.chat import encode
    from atlas_ray.config import EngineConfig
    from atlas_ray.inference import scoring
    from atlas_ray.inference.engine import Engine
    from atlas_ray.models import load_tokenizer, resolve

    del folder
    path = resolve(ON_BOARD)
    tokenizer, engine = load_tokenizer(path), Engine(path, EngineConfig(max_model_len=2048))
    encoded = [encode(_trajectory(n, 8 + n % 7), tokenizer) for n in range(0, 24, 6)]
    sequences, spans = [each.ids for each in encoded], [each.spans for each in encoded]
    engine.score([sequences[0][:64]])  # warm
    both = scoring._logprobs_and_entropies

    def alone(logits: torch.Tensor, ids: list[int]) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(logits.float(), torch.as_tensor(ids), reduction="none")
        return torch.stack([-loss, torch.zeros_like(loss)], -1)

    def timed(numbers: Callable[..., torch.Tensor]) -> tuple[float, float]:
        scoring._logprobs_and_entropies = numbers  # the engine's core is in this process
        return _seconds(lambda: engine.measure(sequences, spans))

    rounds = [(timed(both), timed(alone)) for _ in range(ROUNDS)]
    scoring._logprobs_and_entropies = both
    engine.close()
    wall, cpu = (median(one[kind] / other[kind] for one, other in rounds) for kind in (0, 1))
    seconds = median(one[0] for one, _ in rounds)
    return [
        Result("entropy and perplexity: time of their pass", "perplexity alone", wall, "x", 1.15, at_least=False,
               detail=f"{seconds:.1f} s for {sum(map(len, sequences)):,} tokens; {cpu:.2f} x by processor time"),
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
    for future in engine._submit([(ids, params) for ids in sequences]):  # type: ignore[attr-defined]
        future.result()


def _options(url: str, slots: int = SLOTS) -> dict[str, object]:
    return {"model": ON_BOARD, "select": {"llm": {"base_url": url, "model": "slow", "concurrency": slots}}}


def _start() -> subprocess.Popen[str]:
    """A driver with a Ray cluster, that selects what it is told to, line by line."""
    return subprocess.Popen(
        [sys.executable, "-c", _DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def _tell(driver: subprocess.Popen[str], folder: Path, method: str, options: dict[str, object]) -> None:
    assert driver.stdin is not None
    driver.stdin.write(json.dumps([str(folder), method, options]) + "\n")
    driver.stdin.flush()


def _facts(driver: subprocess.Popen[str]) -> dict[str, float]:
    """What a driver prints when it has selected."""
    assert driver.stdout is not None
    for line in driver.stdout:
        if line.startswith("{"):
            return dict(json.loads(line))
    sys.exit(f"a driver ended with code {driver.wait()}; its own words are above")


def _ask(driver: subprocess.Popen[str], folder: Path, method: str, options: dict[str, object]) -> dict[str, float]:
    _tell(driver, folder, method, options)
    return _facts(driver)


def _end(driver: subprocess.Popen[str]) -> None:
    driver.communicate(timeout=60)


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


def _questions(count: int) -> list[Question]:
    return [build(_trajectory(n, 8 + n % 7), 3, 400_000).question for n in range(count)]


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


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """What it took: of the wall clock, and of this process's threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
