"""How long the live view takes on a large run: 100,000 trajectories, four selections, 50,000 episodes.

A run of short texts is written into a temporary folder and served by `atlas-ray view` as a process of its own. First
paint is what Chromium reports of the page, median of fresh loads, with the server's answers and with its lists filled.
A filter is the processor time that the server takes for it, the slowest of several, each asked for the first time: two
threads search, so on a quiet machine one waits no longer than that, whatever else runs now. The time that one waits now
stands beside it.
Reading is the time from the start of the command until everything is on the page, and the processor time of that; the
page is there meanwhile.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import psutil
import yaml

from atlas_ray.config_files import load
from atlas_ray.environments import registry
from atlas_ray.evaluation.metrics import results
from atlas_ray.store import EDITION, Store
from atlas_ray.trajectory import TRAJECTORY_SCHEMA, Episode, Message, Selection, Trajectory, trajectories_to_table
from benchmarks.result import Result, asked, parser_for, publish
from tests.browser import CHROMIUM, browser

TRAJECTORIES, EPISODES = 100_000, 50_000
ENVIRONMENTS = ("babyai", "maze", "textcraft", "wordle")
MODELS = ("random", "base", "warmup", "critical", "other")
SELECTIONS = {"critical": "value", "other": "llm", "chance": "random", "tenth": "random"}
WORDS = "take the red ball to a door of oak planks and look behind it then open craft chest fence stick north".split()
FILTERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("trajectories", {"env": "maze"}), ("trajectories", {"style": "checks", "selection": "critical"}),
    ("trajectories", {"outcome": "failed", "method": "random"}), ("trajectories", {"q": "oak planks door_7777"}),
    ("trajectories", {"q": "red"}), ("trajectories", {"order": "n_steps"}),
    ("episodes", {"model": "critical", "env": "textcraft"}), ("episodes", {"outcome": "error"}),
    ("episodes", {"q": "chest task 311"}), ("episodes", {"order": "score", "model": "base"}),
)  # fmt: skip
LOADS = 7


def _messages(draw: random.Random, n_steps: int, mark: str) -> tuple[Message, ...]:
    turns = [Message(role="user", content=f"Play. {' '.join(draw.choices(WORDS, k=20))} {mark}")]
    for step in range(n_steps):
        text = f"Thought: {' '.join(draw.choices(WORDS, k=10))}\nAction: {' '.join(draw.choices(WORDS, k=3))}"
        turns.append(Message(role="assistant", content=text, step=step))
        turns.append(Message(role="user", content=" ".join(draw.choices(WORDS, k=8))))
    return tuple(turns)


def _trajectory(number: int, draw: random.Random) -> Trajectory:
    env, n_steps = ENVIRONMENTS[number % len(ENVIRONMENTS)], 3 + number % 5
    kinds = ["productive" if draw.random() < 0.7 else "habit" for _ in range(n_steps)]
    return Trajectory(
        trajectory_id=f"{env}_{number:06d}", env=env, item_id=f"{env}_{number}", source="expert",
        messages=_messages(draw, n_steps, f"door_{number}"), n_steps=n_steps, success=number % 9 != 0,
        reward=float(number % 9 != 0),
        metadata={"style": {"style": "checks" if number % 3 else "plain", "rate": 1.0}, "kinds": kinds},
    )  # fmt: skip


def write(store: Store) -> None:
    """The large run."""
    draw = random.Random(1)
    config = load(None, {
        "select.selections": {name: {"method": method} for name, method in SELECTIONS.items() if name != method},
        "train.selections": ["critical", "other"], "evaluate.models": ["random", "base", "critical", "other"],
        "evaluate.environments": list(ENVIRONMENTS), "train.warmup": {},
    })  # fmt: skip
    steps: list[tuple[str, int]] = []
    with store.table_writer(TRAJECTORY_SCHEMA, "trajectories", "part-0.parquet") as put:
        for begin in range(0, TRAJECTORIES, 5000):
            chunk = [_trajectory(number, draw) for number in range(begin, begin + 5000)]
            put(trajectories_to_table(chunk))
            steps += [(each.trajectory_id, each.n_steps) for each in chunk]
    for name, method in SELECTIONS.items():
        store.write_selections(name, [
            Selection(trajectory_id=identity, method=method, ratio=0.3, steps=(draw.randrange(n),), reason="Because.")
            for identity, n in steps
        ])  # fmt: skip
    cards = {env: registry.card(env) for env in ENVIRONMENTS}
    for model in MODELS:
        episodes = {env: [_episode(model, env, task, draw) for task in range(EPISODES // 20)] for env in ENVIRONMENTS}
        for env, rows in episodes.items():
            store.append([row.model_dump(mode="json") for row in rows], "evaluation", model, f"{env}.jsonl")
        tuned = model in SELECTIONS
        facts = {
            "model": model, "kind": "tuned" if tuned else {"random": "policy"}.get(model, model), "key": model,
            "selection": model if tuned else None, "seed": 0 if tuned else None, "objective": "sft" if tuned else None,
        }  # fmt: skip
        store.write_json(results(facts, "key", episodes, cards), "evaluation", model, "results.json")
    store.append(
        [{"checkpoint": "critical", "step": step, "loss": 2 / (1 + step / 50), "tokens": 900, "labelled_tokens": 300}
         for step in range(1, 2001)], "metrics", "train.jsonl",
    )  # fmt: skip
    store.write_text(f"{EDITION}\n{yaml.safe_dump(config.model_dump(mode='json'))}", "config.yaml")


def _episode(model: str, env: str, task: int, draw: random.Random) -> Episode:
    rounds, success, lost = 3 + task % 5, draw.random() < 0.5, task % 500 == 0
    return Episode(
        key=f"{model}-{env}-{task}", model=model, env=env, task=task, split="test", seed=0,
        messages=_messages(draw, rounds, f"door_{task}"), score=float(success), success=success and not lost,
        rounds=rounds, stop="error" if lost else "done", error="engine: died" if lost else None,
    )  # fmt: skip


class Served:
    """`atlas-ray view` on the large run."""

    def __init__(self, url: str, process: psutil.Process, started: float) -> None:
        self.url, self._process, self._started = url, process, started

    def ask(self, path: str, values: dict[str, str] | None = None) -> Any:
        """An answer as JSON."""
        return httpx.get(f"{self.url}{path}", params=values, timeout=60).raise_for_status().json()

    def processor_s(self) -> float:
        """What the server has used so far, in hundredths."""
        used = self._process.cpu_times()
        return float(used.user + used.system)

    def read(self) -> Result:
        """Wait until all of the run is read."""
        while "figures" not in self.ask("/api/state")["runs"][0]["versions"]:
            time.sleep(0.2)
        took, gib = time.monotonic() - self._started, self._process.memory_info().rss / 2**30
        detail = f"processor time {self.processor_s():.1f} s, {gib:.1f} GiB"
        return Result("reading a large run", "-", took, "s", None, detail=detail)


@contextmanager
def served() -> Iterator[Served]:
    """Write the run, and serve it while the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        write(Store(f"{folder}/large"))
        started = time.monotonic()
        command = Path(sys.executable).with_name("atlas-ray")
        process = subprocess.Popen(
            [command, "view", f"{folder}/large", "--port", "0"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            yield Served(line.split()[2].rstrip("/"), psutil.Process(process.pid), started)
        finally:
            process.terminate()
            process.wait(timeout=30)


def first_paint(view: Served) -> list[Result]:
    """In Chromium: the first paint, and the lists."""
    if CHROMIUM is None:
        return []
    paints, lists = [], []
    with browser() as chromium:
        for _ in range(LOADS):
            page = chromium.new_page()
            started = time.monotonic()
            page.goto(view.url)
            page.locator("#episodes .picker button").first.wait_for()
            page.locator("#trajectories .step").first.wait_for()
            lists.append(time.monotonic() - started)
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000)
            page.close()
    detail = f"until tables, lists and a trajectory are drawn {statistics.median(lists):.2f} s"
    return [Result("first paint", "-", statistics.median(paints), "s", 1.0, at_least=False, detail=detail)]


def filters(view: Served) -> list[Result]:
    """Every filter once; the server has not been asked before."""
    used, waited = {}, []
    for path, values in FILTERS:
        started, before = time.monotonic(), view.processor_s()
        view.ask(f"/api/{path}", values)
        waited.append(1000 * (time.monotonic() - started))
        used[urlencode(values)] = 1000 * (view.processor_s() - before)
    slowest = max(used, key=lambda name: used[name])
    detail = f"{slowest}; median {statistics.median(used.values()):.0f} ms; waited now {max(waited):.0f} ms at most"
    return [Result("a filter", "-", used[slowest], "ms", 300.0, at_least=False, detail=detail)]


CLAIMS: dict[str, Callable[[Served], list[Result]]] = {"filters": filters, "first_paint": first_paint}


def main() -> None:
    """Measure and publish."""
    chosen = asked(parser_for("view", __doc__), CLAIMS).claims
    with served() as view:
        publish("view", [view.read(), *(result for name in chosen for result in CLAIMS[name](view))])


if __name__ == "__main__":
    main()
