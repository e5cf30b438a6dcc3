"""A synthetic run directory: two environments, four models, three selections, a training log and manifests."""

from __future__ import annotations

import random
from typing import Any

from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.evaluation.metrics import results
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode, Message, Selection, Trajectory, Usage

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'
ENVIRONMENTS = ("babyai", "textcraft")
RATES = {"random": (0.28, 0.02), "base": (0.0, 0.0), "warmup": (0.55, 0.45), "llm": (0.75, 0.8)}
TASKS = 24
KINDS = {
    "random": "policy",
    "expert": "policy",
    "base": "base",
    "warmup": "warmup",
    "gpt": "endpoint",
    "mine": "directory",
}


def make_card(name: str) -> EnvironmentCard:
    """A card without its environment."""
    return EnvironmentCard(
        name=name,
        held_in=True,
        metric="mean_reward" if name == "babyai" else "success_rate",
        max_rounds=20,
        instruction="Play.",
        n_train=100,
        n_test=100,
        source="test",
        action_rule="one",
    )


def conversation(n_steps: int, extra: str = "") -> tuple[Message, ...]:
    """An instruction, its acknowledgement, and `n_steps` rounds."""
    turns = [
        Message(role="user", content="You can craft items. Every round, write a thought and an action."),
        Message(role="assistant", content="OK. I'll follow your instructions and try my best to solve the task."),
        Message(role="user", content=f"Goal: craft dark oak fence. {extra}"),
    ]
    for step in range(n_steps):
        text = f"Thought: I need {step} planks before I can go on. {extra}\nAction: get {step + 1} dark oak planks"
        turns.append(Message(role="assistant", content=text, step=step))
        turns.append(Message(role="user", content=f"Got {step + 1} dark oak planks. {extra}"))
    return tuple(turns)


def make_trajectories() -> list[Trajectory]:
    """Ten of each environment, 3 to 9 steps; the first one is hostile."""
    return [
        Trajectory(
            trajectory_id=f"{env}_{i:02d}",
            env=env,
            item_id=f"{env}_{i}",
            source="expert",
            messages=conversation(3 + (i * 5) % 7, HOSTILE if i == 0 else ""),
            n_steps=3 + (i * 5) % 7,
            reward=1.0,
            success=True,
        )
        for env in ENVIRONMENTS
        for i in range(10)
    ]


def make_selections(trajectories: list[Trajectory]) -> dict[str, list[Selection]]:
    """`llm` always takes step 0 (a stand-in, with two errors), `perplexity` has scores, `random` is random."""
    draw = random.Random(3)
    found: dict[str, list[Selection]] = {"llm": [], "perplexity": [], "random": []}
    for i, trajectory in enumerate(trajectories):
        count = max(1, int(0.3 * trajectory.n_steps))
        scores = tuple(1 + draw.random() * 4 for _ in range(trajectory.n_steps))
        hardest = sorted(sorted(range(trajectory.n_steps), key=lambda step: -scores[step])[:count])
        picks = {
            "llm": tuple(range(count)),
            "perplexity": tuple(hardest),
            "random": tuple(sorted(draw.sample(range(trajectory.n_steps), count))),
        }
        for method, steps in picks.items():
            failed = method == "llm" and i in (4, 5)
            found[method].append(
                Selection(
                    trajectory_id=trajectory.trajectory_id,
                    method=method,
                    ratio=0.3,
                    steps=() if failed else steps,
                    scores=scores if method == "perplexity" else None,
                    categories=tuple("planning" for _ in steps) if method == "llm" and not failed else None,
                    reason=f"These decide. {HOSTILE}" if method == "llm" and not failed else None,
                    error="invalid: step 99 is not a step" if failed else None,
                    usage=Usage(prompt_tokens=400, completion_tokens=20, cost_usd=0.001)
                    if method == "llm"
                    else Usage(),
                    provenance={"stand_in": True} if method == "llm" else {},
                )
            )
    return found


def make_episodes(model: str, env: str, rate: float, *, tasks: int = TASKS, errors: int = 0) -> list[Episode]:
    """Exactly `rate` of the tasks solved, which ones depends on the model; the last `errors` end in an error."""
    solved = set(random.Random(f"{model} {env}").sample(range(tasks), round(rate * tasks)))
    return [
        Episode(
            key=f"{model}-{env}-{task}",
            model=model,
            env=env,
            task=task,
            split="test",
            seed=0,
            messages=conversation(2 + task % 3, HOSTILE if task == 0 else ""),
            score=0.9 if task in solved and env == "babyai" else float(task in solved),
            success=task in solved,
            rounds=2 + task % 3,
            stop="error" if task >= tasks - errors else "done" if task in solved else "max_rounds",
            error="engine: died" if task >= tasks - errors else None,
            prompt_tokens=800,
            completion_tokens=60,
            seconds=1.5,
        )
        for task in range(tasks)
    ]


def facts_of(model: str) -> dict[str, Any]:
    """What the roster says of a model: `llm`, `llm.s1`, `llm.dpo` and `random_steps` are tuned, `gpt` an endpoint."""
    selection, _, seed = model.partition(".s")
    objective = "dpo" if selection.endswith(".dpo") else "sft"
    tuned = model not in KINDS
    return {
        "model": model, "kind": KINDS.get(model, "tuned"),
        "selection": selection.removesuffix(".dpo").removesuffix("_steps") if tuned else None,
        "seed": int(seed or 0) if tuned else None, "objective": objective if tuned else None, "key": model,
    }  # fmt: skip


def write_model(store: Store, model: str, rates: tuple[float, float], *, errors: int = 0) -> None:
    """Episodes and results.json of one model."""
    episodes = {
        env: make_episodes(model, env, rate, errors=errors) for env, rate in zip(ENVIRONMENTS, rates, strict=True)
    }
    for env, rows in episodes.items():
        store.append([row.model_dump(mode="json") for row in rows], "evaluation", model, f"{env}.jsonl")
    cards = {env: make_card(env) for env in ENVIRONMENTS}
    store.write_json(results(facts_of(model), "abc", episodes, cards), "evaluation", model, "results.json")


def write_run(store: Store) -> None:
    """Everything that a finished pipeline leaves."""
    trajectories = make_trajectories()
    store.write_trajectories(trajectories)
    for method, rows in make_selections(trajectories).items():
        store.write_selections(method, rows)
    for model, rates in RATES.items():
        write_model(store, model, rates, errors=2 if model == "warmup" else 0)
    draw = random.Random(1)
    for checkpoint, steps in (("warmup", 40), ("llm", 25)):
        store.append(
            [
                {"checkpoint": checkpoint, "step": s + 1, "epoch": 0, "loss": 2.4 / (1 + s / 6) + draw.random() / 5,
                 "labelled_tokens": 300, "tokens": 900, "grad_norm": 3 / (1 + s / 9) + draw.random(),
                 "learning_rate": 1e-4, "tokens_per_second": 140.0, "seconds": 6.4}
                for s in range(steps)
            ],
            "metrics", "train.jsonl",
        )  # fmt: skip
    store.append(
        [{"selection": "llm", "method": "llm", "share_of_tokens": 0.31, "calls": 22, "retries": 2, "seconds": 40.0}],
        "metrics",
        "select.jsonl",
    )
    store.finish("collect", "trajectories", "k", seconds=12.3, trajectories=20, dropped={"babyai: score below 1.0": 2})
    for method in ("llm", "perplexity", "random"):
        store.finish("select", method, "k", seconds=44.0, rows=20)
    store.finish("train", "warmup", "k", seconds=261.0, trajectories=10)
    store.finish("train", "llm", "k", seconds=171.0, command="python jobs/train.py --config my.yaml", trajectories=10)
    for model in RATES:
        store.finish("evaluate", model, "k", seconds=95.5)
    store.write_json(make_verification("base", "llm"), "verification", "base", "llm.json")
    store.finish("verification", "base llm", "k", seconds=30.0)


def make_verification(model: str, selection: str) -> dict[str, Any]:
    """What `evaluation/verify.py` writes: textcraft with all groups, babyai without a takeover after another step."""
    known = {
        "metric": "success_rate", "tasks": 12, "errors": 1, "critical_last_steps": 2,
        "episodes": {"from_scratch": 12, "from_critical": 20, "from_other": 20},
        "from_scratch": {"score": 25.0, "ci95": [8.9, 53.2], "n": 12},
        "from_critical": {"score": 58.3, "ci95": [32.0, 80.7], "n": 12},
        "from_other": {"score": 41.7, "ci95": [19.3, 68.0], "n": 12},
        "critical_against_scratch": {"difference": 33.3, "ci95": [8.3, 58.3], "p_value": 0.03, "n": 12},
        "critical_against_other": {"difference": 16.7, "ci95": [-8.3, 41.7], "p_value": 0.25, "n": 12},
    }  # fmt: skip
    alone = known | {"metric": "mean_reward", "from_other": None, "critical_against_other": None, "errors": 0}
    environments = {"babyai": alone, "textcraft": known}
    return facts_of(model) | {"tuned_on": None, "selection": selection, "environments": environments}
