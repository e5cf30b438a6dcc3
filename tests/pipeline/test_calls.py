"""The whole road with tool calls: a tiny Qwen3 learns from scratch to call a maze's function, and plays with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import yaml

from atlas_ray.environments import calling, make
from atlas_ray.store import Store
from tests.conftest import ROOT
from tests.tokenizers import of_kind
from tests.training.tiny import tiny

STRAIGHT = [16, 17, 18]
"""Items from which the goal is straight down."""


def straight_ways() -> list[dict[str, Any]]:
    """Training mazes that experts leave by moving down alone, as conversations with `Action:` texts."""
    env, found = make("maze"), []
    for task in range(400):
        observation, _ = env.reset(options={"task": task, "split": "train"})
        expert, turns = env.expert(), []
        while env.running:
            _, action = expert.next_action(observation)
            turns += [{"role": "user", "content": observation}, {"role": "assistant", "content": f"Action: {action}"}]
            if action != "move down":
                break
            observation = env.step(action)[0]
        else:
            opening = [{"role": "user", "content": env.card.instruction}, {"role": "assistant", "content": "OK."}]
            found.append({"task_name": "maze", "messages": [*opening, *turns], "success": True})
    return found


@pytest.fixture(scope="module")
def run(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The run directory of a pipeline."""
    folder, rows = tmp_path_factory.mktemp("calls"), straight_ways()
    texts = (make("maze").tools(), *(turn["content"] for turn in rows[0]["messages"]), '<tool_call>\n{"arguments": ')
    tok = of_kind("split", "qwen3", texts=tuple(map(str, texts)))
    tiny("qwen3", vocab_size=len(tok), eos_token_id=tok.eos_token_id, initializer_range=0.02).save_pretrained(folder)
    tok.save_pretrained(folder)
    (folder / "ways.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "items.json").write_text(json.dumps([{"item_id": f"lmrlgym_maze_{item}"} for item in [0, *STRAIGHT]]))
    config = {
        "run_dir": str(folder / "run"), "model": str(folder), "environments": {"maze": {"max_rounds": 8}},
        "engine": {"max_model_len": 2048, "cpu_kv_cache_gib": 1, "dtype": "float32"},
        "collect": {"source": str(folder / "ways.jsonl"), "action_format": "tools"},
        "train": {
            "selections": ["all"], "batch_size": 4, "learning_rate": 3e-3, "schedule": "constant", "dtype": "float32",
            "threads": 1,
            "epochs": max(1, 60 * 4 // len(rows)),
        },
        "evaluate": {
            "models": ["base", "all"], "environments": ["maze"], "items": str(folder / "items.json"),
            "max_new_tokens": 48, "action_format": "tools", "thinking": {"on": False},
        },
    }  # fmt: skip
    (folder / "calls.yaml").write_text(yaml.safe_dump(config))
    env = os.environ | {"RAY_ADDRESS": ray_cluster, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "pipeline.py"), "--config", str(folder / "calls.yaml")],
        env=env, cwd=folder, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return Store(str(folder / "run"))


def episodes(run: Store, model: str) -> list[dict[str, Any]]:
    found = list(run.journal("evaluation", model, "maze.jsonl"))
    assert len(found) == 1 + len(STRAIGHT)
    assert all(episode["error"] is None for episode in found)
    return found


def test_a_model_learns_to_call_a_function_and_reaches_its_goal_by_calls(run: Store) -> None:
    for trajectory in run.read_trajectories():
        assert {call.name for step in trajectory.steps for call in step.tool_calls} == {"move"}
    solved = [episode for episode in episodes(run, "all") if episode["success"]]
    assert {episode["task"] for episode in solved} & set(STRAIGHT)
    for episode in solved:
        for message in episode["messages"]:
            if message["step"] is not None:
                [call] = message["tool_calls"]
                assert (call["name"], json.loads(call["arguments"])) == ("move", {"direction": "down"})


def test_what_no_parser_reads_is_no_action(run: Store) -> None:
    for episode in episodes(run, "base"):
        steps = [message for message in episode["messages"] if message["step"] is not None]
        heard = [message["content"] for message in episode["messages"][4::2]]
        assert episode["rounds"] == len(steps) == 8
        assert not episode["success"]
        assert not any(message.get("tool_calls") for message in steps)
        assert set(heard) == {calling.NO_CALL}
