"""The whole road on a tiny random Qwen3 that thinks: trajectories with thoughts in, episodes with thoughts out."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from atlas_ray.chat import encode
from atlas_ray.config import Playing
from atlas_ray.environments import registry
from atlas_ray.inference.types import Generation
from atlas_ray.models import load_tokenizer
from atlas_ray.rollout.episode import play
from atlas_ray.rollout.policy import ModelPolicy
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.store import Store
from atlas_ray.trajectory import Trajectory
from tests.conftest import ROOT
from tests.tokenizers import of_kind
from tests.training.tiny import tiny

OPTIONS = {"depths": [1], "distractors": 2, "max_rounds": 3}
BUDGET, ANSWER = 24, 8


def rows() -> list[dict[str, Any]]:
    """Conversations of three steps, each with a thought apart from its text."""
    found = []
    for number in range(4):
        turns = [{"role": "user", "content": "Craft what you are told. " * 12}, {"role": "assistant", "content": "OK."}]
        for step in range(3):
            thought = f"Step {step} of task {number}: " + "I look at what I have. " * (2 + step)
            turns += [
                {"role": "user", "content": f"Goal {number}: craft {step} planks. You see logs and an inventory."},
                {"role": "assistant", "content": f"Action: get {step} oak logs", "reasoning_content": thought},
            ]
        found.append({"messages": turns, "item_id": f"textcraft_{number}", "success": True})
    return found


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Directory of a random Qwen3 of 3 layers with Qwen3's template."""
    folder, tok = tmp_path_factory.mktemp("tiny-qwen3"), of_kind("split", "qwen3")
    tiny("qwen3", vocab_size=len(tok), eos_token_id=tok.eos_token_id).save_pretrained(folder)
    tok.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def run(ray_cluster: str, thinker: str, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The run directory of a pipeline."""
    folder = tmp_path_factory.mktemp("thinking")
    (folder / "thoughts.jsonl").write_text("\n".join(map(json.dumps, rows())))
    config = {
        "run_dir": str(folder / "run"), "model": thinker, "environments": {"textcraft": OPTIONS},
        "engine": {"max_model_len": 1024, "cpu_kv_cache_gib": 1, "dtype": "float32"},
        "collect": {"source": str(folder / "thoughts.jsonl"), "reasoning": True},
        "select": {"methods": ["perplexity"], "selections": {"few": {"method": "random", "ratio": 0.7}}},
        "train": {"selections": ["few"], "epochs": 1, "batch_size": 2, "learning_rate": 1e-3},
        "evaluate": {
            "models": ["few"], "environments": ["textcraft"], "tasks": 2, "max_new_tokens": ANSWER,
            "thinking": {"on": True, "max_tokens": BUDGET},
        },
    }  # fmt: skip
    (folder / "thinking.yaml").write_text(yaml.safe_dump(config))
    env = os.environ | {"RAY_ADDRESS": ray_cluster, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "pipeline.py"), "--config", str(folder / "thinking.yaml")],
        env=env, cwd=folder, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the chat template rewrites earlier turns, so there are 8 rows" in done.stdout
    return Store(str(folder / "run"))


def test_thoughts_are_stored_trained_and_played_apart_from_the_text(run: Store) -> None:
    for trajectory in run.read_trajectories():
        assert all(step.thinking and "<think>" not in step.content for step in trajectory.steps)
    logged = list(run.journal("metrics", "train.jsonl"))
    assert len(logged) == 2  # 4 trajectories, 2 a step, though they are 8 rows
    assert all(math.isfinite(row["loss"]) and row["skipped"]["prefix_tree"] > 0.1 for row in logged)
    episodes = list(run.journal("evaluation", "few", "textcraft.jsonl"))
    assert len(episodes) == 2
    for episode in episodes:
        assert episode["error"] is None
        steps = [message for message in episode["messages"] if message["step"] is not None]
        assert len(steps) == episode["rounds"] > 0
        assert all("<think>" not in step["content"] and isinstance(step["thinking"], str) for step in steps)
        assert episode["completion_tokens"] <= len(steps) * (BUDGET + ANSWER)


def test_perplexities_are_those_along_the_path_of_each_step(run: Store, thinker: str) -> None:
    tokenizer, model = load_tokenizer(thinker), AutoModelForCausalLM.from_pretrained(thinker, dtype=torch.float32)
    trajectories = {each.trajectory_id: each for each in run.read_trajectories()}
    for selection in run.read_selections("perplexity"):
        assert selection.error is None
        assert selection.scores is not None
        for row in encode(trajectories[selection.trajectory_id], tokenizer, thinks=True):
            with torch.no_grad():
                logits = model(torch.tensor([row.ids])).logits[0, :-1]
            losses = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[1:]), reduction="none")
            [(step, (start, end))] = row.spans.items()
            expected = losses[start - 1 : end - 1].mean().item()
            assert math.log(selection.scores[step]) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("budget", [BUDGET, None])
def test_an_engine_is_given_what_training_shows(
    generate: Callable[..., Generation], thinker: str, budget: int | None
) -> None:
    """Token for token: before each step, where the thinking begins, and where it was ended."""
    asked: list[list[int]] = []

    def noting(ids: list[int], **sampling: Any) -> Generation:
        asked.append(ids)
        return generate(ids, **sampling)

    playing = Playing(thinking={"on": True, "max_tokens": budget}, max_new_tokens=ANSWER, temperature=1.0)
    spec = EpisodeSpec("m", "k", "textcraft", 0, "test", 0, playing=playing, options=OPTIONS)
    tokenizer = load_tokenizer(thinker)
    episode = play(
        registry.make("textcraft", **OPTIONS),
        lambda _, spec: ModelPolicy(tokenizer, noting, max_len=1024, spec=spec),
        spec,
    )
    assert episode.error is None
    assert episode.rounds == 3
    assert budget is None or all(message.thinking for message in episode.messages if message.step is not None)
    trajectory = Trajectory(
        trajectory_id="t", env="textcraft", item_id="i", source="policy", messages=episode.messages, n_steps=3
    )
    calls = iter(asked)
    for step, row in enumerate(encode(trajectory, tokenizer, thinks=True)):
        start, _ = row.spans[step]
        prompt = next(calls)
        assert prompt == row.ids[: len(prompt)]
        if budget is None:
            assert len(prompt) == start
            continue
        assert tokenizer.decode(prompt[start:]) == "<think>\n"
        ended = next(calls)
        assert ended == row.ids[: len(ended)]
        assert tokenizer.decode(ended).endswith("\n</think>\n\n")


@pytest.fixture(scope="module")
def generate(thinker: str) -> Callable[..., Generation]:
    """What an engine answers, by the untrained model in this process. (vLLM's own answers: the pipeline above.)"""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(thinker, dtype=torch.float32), load_tokenizer(thinker)

    def answer(ids: list[int], *, max_tokens: int, temperature: float, seed: int, **_: Any) -> Generation:
        torch.manual_seed(seed)
        found = model.generate(
            torch.tensor([ids]), max_new_tokens=max_tokens, do_sample=True, temperature=temperature, top_k=0,
            pad_token_id=tokenizer.pad_token_id,
        )[0, len(ids) :].tolist()  # fmt: skip
        text = tokenizer.decode(found, skip_special_tokens=True)
        return Generation(found, text, found[-1] == tokenizer.eos_token_id, len(ids), 0)

    return answer
