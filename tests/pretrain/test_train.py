"""A small agent from two tasks: it learns them, survives a kill, and is a model directory for all who read one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from atlas_ray import models
from atlas_ray.chat import encode, end_of_turn
from atlas_ray.config import PipelineConfig, TrainConfig
from atlas_ray.environments import registry
from atlas_ray.errors import ConfigError, StoreError, TrainingError
from atlas_ray.inference.types import Generation
from atlas_ray.pretrain import corpus
from atlas_ray.pretrain.train import FACTS, PretrainSettings, pretrain
from atlas_ray.rollout.episode import play
from atlas_ray.rollout.policy import ModelPolicy
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.training.exact import decide, meta_model
from atlas_ray.training.model import Recipe, config_of, load

OPTIONS = {"textcraft": {"depths": [1], "distractors": 0}}
SETTINGS = PretrainSettings(
    tasks={"textcraft": 2}, options=OPTIONS, parameters=500_000, epochs=50, batch_size=2, learning_rate=4e-3,
    threads=1, checkpoint_every=1,
)  # fmt: skip
COMMAND = [
    sys.executable, "-m", "atlas_ray.pretrain", "--environments", "textcraft", "--tasks", "2",
    "--options", json.dumps(OPTIONS), "--parameters", "500k", "--epochs", "50", "--batch-size", "2",
    "--learning-rate", "4e-3", "--threads", "1", "--checkpoint-every", "1",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, trained in one go."""
    return pretrain(SETTINGS, tmp_path_factory.mktemp("whole") / "model")


def files(folder: Path) -> dict[str, bytes]:
    """Every file but the card, which tells the seconds that it took."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix != ".md"}


def test_it_plays_what_it_was_trained_on(whole: Path) -> None:
    tokenizer = models.load_tokenizer(models.resolve(str(whole)))
    model = AutoModelForCausalLM.from_pretrained(whole)

    def generate(ids: list[int], *, max_tokens: int, **_: Any) -> Generation:
        with torch.no_grad():
            made = model.generate(torch.tensor([ids]), max_new_tokens=max_tokens, do_sample=False)[0, len(ids) :]
        return Generation(made.tolist(), tokenizer.decode(made, skip_special_tokens=True), True, len(ids), 0)

    env = registry.make("textcraft", **OPTIONS["textcraft"])
    tasks = corpus.task_range("textcraft", 2, OPTIONS["textcraft"])
    assert tasks.stop == env.card.n_train
    for task in tasks:
        spec = EpisodeSpec("small", "small", "textcraft", task, "train", 0, options=OPTIONS["textcraft"])
        episode = play(env, lambda _, spec: ModelPolicy(tokenizer, generate, max_len=2048, spec=spec), spec)
        assert episode.error is None
        assert episode.success
        assert episode.rounds <= 4
    env.close()


def test_a_killed_run_goes_on_to_the_same_weights(whole: Path, tmp_path: Path) -> None:
    out, state = tmp_path / "model", tmp_path / "model.part" / "state.pt"
    run = subprocess.Popen([*COMMAND, "--out", str(out)], env=os.environ | {"PYTHONHASHSEED": "7"})
    deadline = time.monotonic() + 300
    while not state.is_file():
        assert run.poll() is None, "it ended before its first state"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert not out.exists()
    again = subprocess.run([*COMMAND, "--out", str(out)], capture_output=True, text=True, timeout=300, check=True)
    assert "going on after step" in again.stdout
    assert files(out) == files(whole)
    assert not state.parent.exists()
    assert models.identity(str(out)) == models.identity(str(whole))


def test_training_takes_it_with_every_exact_optimization(whole: Path) -> None:
    tokenizer = models.load_tokenizer(str(whole))
    assert end_of_turn(tokenizer) == tokenizer.eos_token
    [first, *_] = corpus.collect({"textcraft": 2}, OPTIONS, repeats=1, seed=0)
    encoded = encode(first, tokenizer)
    assert [tokenizer.decode(encoded.ids[start : end - 1]) for start, end in encoded.spans] == [
        step.content for step in first.steps
    ]
    assert {encoded.ids[end - 1] for _, end in encoded.spans} == {tokenizer.eos_token_id}
    optimizations, reasons = decide(meta_model(config_of(str(whole))), TrainConfig(), "sdpa", len(encoded.ids))
    assert not reasons
    network = load(Recipe(str(whole), optimizations, "sdpa", TrainConfig()))
    weights = load_file(whole / "model.safetensors")
    assert torch.equal(network.model.base_model.embed_tokens.weight, weights["model.embed_tokens.weight"])
    PipelineConfig(model=str(whole))


def test_any_text_can_be_said(whole: Path) -> None:
    tokenizer = models.load_tokenizer(str(whole))
    text = "naïve 漢字 \U0001f600\ttab  two\n\n123 <b>"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert [tokenizer.decode(token) for token in tokenizer("407", add_special_tokens=False)["input_ids"]] == list("407")


def test_the_card_and_the_facts_say_what_it_is(whole: Path) -> None:
    facts = json.loads((whole / FACTS).read_text())
    card = (whole / "README.md").read_text()
    parameters = sum(weight.numel() for weight in load_file(whole / "model.safetensors").values())
    assert facts["parameters"] == parameters
    assert f"{parameters:,} parameters" in card
    assert facts["task_ranges"] == {"textcraft": [99, 101]}
    assert '| textcraft | `{"depths": [1], "distractors": 0}` | 99 to 100 |' in card
    assert facts["trajectories"] == 2
    assert facts["loss"] < 0.5
    assert f"{facts['loss']:.4f} nats" in card


def test_a_finished_model_is_kept_and_another_one_is_not_written_over_it(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in whole.iterdir()}
    pretrain(SETTINGS.model_copy(update={"checkpoint_every": 9, "max_minutes": 1.0}), whole)  # change no weight
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(StoreError, match="delete it or give another --out"):
        pretrain(SETTINGS.model_copy(update={"seed": 1}), whole)
    assert {file: file.stat().st_mtime_ns for file in whole.iterdir()} == before


def test_a_training_that_takes_too_long_stops_early_and_keeps_its_state(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step 1 of 50: 1e-06 minutes are over; the state is kept"):
        pretrain(SETTINGS.model_copy(update={"max_minutes": 1e-6}), tmp_path / "model")
    assert (tmp_path / "model.part" / "state.pt").is_file()
    assert not (tmp_path / "model").exists()


def test_too_many_tasks_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"textcraft: 102 tasks asked for, it has 101 training tasks"):
        pretrain(SETTINGS.model_copy(update={"tasks": {"textcraft": 102}}), tmp_path / "model")
    assert not list(tmp_path.iterdir())
