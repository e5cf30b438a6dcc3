"""Trains a small agent in this process and writes its model directory; a killed run goes on from its last state.

Examples, packing and loss are those of `atlas_ray.training`, without Ray. While it is trained, everything lies in
`<out>.part/`; the finished directory is moved to `<out>` in one piece. Where the model comes from is in `corpus.py`
and `shapes.py`, the command in `__main__.py`.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from transformers import PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from atlas_ray.config import TrainConfig
from atlas_ray.environments import registry
from atlas_ray.errors import StoreError, TrainingError
from atlas_ray.hashing import content_hash
from atlas_ray.pretrain import corpus, shapes, tokenizer
from atlas_ray.pretrain.card import write_card
from atlas_ray.progress import Progress, say
from atlas_ray.section import RuntimeOnly, Section
from atlas_ray.training import packing
from atlas_ray.training.exact import decide
from atlas_ray.training.examples import Example, prepare
from atlas_ray.training.loop import backward, learning_rate, rows_of
from atlas_ray.training.model import Network, Recipe, load
from atlas_ray.trajectory import Trajectory

FACTS = "pretrain.json"
"""In a finished directory: what the model was made from. It holds nothing that differs between two equal runs."""
_STATE = "state.pt"
_MEASURED = 20
"""Optimizer steps after which the time that is left is known well enough."""


class PretrainSettings(Section):
    """What determines a small agent, and how the work is done."""

    tasks: dict[str, int]
    """Number of training tasks by environment."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of the environments."""
    repeats: int = Field(1, gt=0)
    """Episodes per task, with environment seeds of their own."""
    family: shapes.Family = "llama"
    parameters: int = 3_000_000
    """Number of weights to come close to."""
    vocabulary: int = Field(2048, ge=300, le=65536)
    """Entries of the tokenizer at most."""
    epochs: int = Field(4, gt=0)
    """Times that each trajectory is read."""
    learning_rate: float = Field(3e-3, gt=0)
    """Peak."""
    batch_size: int = Field(4, gt=0)
    """Trajectories per optimizer step."""
    observation_weight: float = Field(0.1, ge=0, le=1)
    """Weight in the loss of tokens that are no step's: a step's tokens weigh 1."""
    seed: int = 0
    """Of the weights, the order of the data, and the environments' first seed."""
    threads: RuntimeOnly[int] = Field(2, gt=0)
    """CPU threads; sums of another number of threads differ in their last bits."""
    checkpoint_every: RuntimeOnly[int] = Field(100, gt=0)
    """Optimizer steps between states to resume from."""
    max_minutes: RuntimeOnly[float | None] = Field(None, gt=0)
    """Longest training; None: no limit."""

    def training(self) -> TrainConfig:
        """The options that training's own code reads."""
        return TrainConfig(
            epochs=self.epochs, learning_rate=self.learning_rate, batch_size=self.batch_size, betas=(0.9, 0.95),
            weight_decay=0.1, warmup_ratio=0.05, max_length=shapes.CONTEXT, threads=self.threads,
        )  # fmt: skip


@dataclass(frozen=True)
class _Material:
    """What a training starts from."""

    network: Network
    """Untrained, loaded as training loads any model."""
    examples: list[Example]
    tokenizer: PreTrainedTokenizerBase
    trajectories: list[Trajectory]


def pretrain(settings: PretrainSettings, out: Path) -> Path:
    """Make a small agent, unless `out` has it already.

    Args:
        settings: of the model.
        out: the model directory; it is written last, in one piece.

    Returns:
        `out`.

    Raises:
        ConfigError: an environment, an option, or a number of tasks is wrong.
        DataError: an expert solves none of its tasks.
        StoreError: `out` holds something else, or cannot be written.
        TrainingError: the loss is not finite, or the training takes longer than `settings.max_minutes`.
    """
    for name, count in settings.tasks.items():
        corpus.task_range(name, count, settings.options.get(name, {}))
    versions = {name: registry.version(name, settings.options.get(name, {})) for name in settings.tasks}
    key = content_hash([settings.fingerprint(), versions])
    if _is_finished(out, key):
        say(f"  {out} is this model already; nothing to do")
        return out
    torch.set_num_threads(settings.threads)
    disable_progress_bar()  # transformers' bars are noise beside the progress lines
    part = out.with_name(out.name + ".part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        material = _prepare(settings, part / "start")
        losses, seconds = _train(settings, material, part / _STATE)
        _write(settings, key, material, losses, seconds, part / "model")
        (part / "model").replace(out)
        shutil.rmtree(part)
    except OSError as error:
        raise StoreError(f"cannot write {part}: {error.strerror or error}; free space or fix the rights") from error
    return out


def _is_finished(out: Path, key: str) -> bool:
    if not out.exists():
        return False
    facts = out / FACTS
    if facts.is_file() and f'"key": "{key}"' in facts.read_text():
        return True
    raise StoreError(f"{out} exists and is not the model of these options; delete it or give another --out")


def _prepare(settings: PretrainSettings, folder: Path) -> _Material:
    """The experts' episodes, the tokenizer, the untrained model (in `folder`) and the examples."""
    trajectories = corpus.collect(settings.tasks, settings.options, repeats=settings.repeats, seed=settings.seed)
    tok = tokenizer.build(trajectories, settings.vocabulary)
    end, pad = tok.convert_tokens_to_ids([tokenizer.END, tokenizer.PAD])
    model = shapes.untrained(
        settings.family, settings.parameters, vocabulary=len(tok), end=end, pad=pad, seed=settings.seed
    )
    model.save_pretrained(folder)
    options = settings.training()
    every_step = {one.trajectory_id: dict.fromkeys(range(one.n_steps), 1.0) for one in trajectories}
    of_steps, report = prepare(trajectories, every_step, tok, options)
    examples = [_with_observations(example, settings.observation_weight) for example in of_steps]
    optimizations, _ = decide(model, options, "sdpa", max(example.length for example in examples))
    say(
        f"  {settings.family} of {model.num_parameters():,} parameters, {len(tok)} tokenizer entries; "
        f"{report.trajectories} trajectories, {report.steps} steps, {report.tokens:,} tokens, "
        f"{report.labelled_tokens:,} of them in steps"
    )
    network = load(Recipe(str(folder), optimizations, "sdpa", options, settings.seed))
    return _Material(network, examples, tok, trajectories)


def _with_observations(example: Example, weight: float) -> Example:
    """The example with a weight at every token but the first, which nothing predicts."""
    weights = np.where(example.weights > 0, example.weights, np.float32(weight))
    weights[0] = 0
    return replace(example, weights=weights)


def _train(settings: PretrainSettings, material: _Material, state: Path) -> tuple[list[float], float]:
    """Every optimizer step that the state does not have; returns the loss of each step, and all seconds together."""
    options, network, examples = settings.training(), material.network, material.examples
    parameters = list(network.model.parameters())
    # Norms and biases are not decayed, as is usual.
    groups = [
        {"params": [weight for weight in parameters if weight.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [weight for weight in parameters if weight.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=options.betas, fused=True)
    key = content_hash([settings.fingerprint(), [example.ids.tolist() for example in examples]])
    losses, before = _resume(state, key, network, optimizer)
    first, total = len(losses), options.epochs * packing.steps_per_epoch(len(examples), options.batch_size)
    if first:
        say(f"  going on after step {first} of {total}")
    progress = Progress("pretrain", total, "steps", done=first)
    begun = time.monotonic()
    limit = math.inf if settings.max_minutes is None else 60 * settings.max_minutes
    for step in range(first, total):
        documents = packing.batch(step, documents=len(examples), batch_size=options.batch_size, seed=settings.seed)
        batch = [examples[document] for document in documents]
        rows = rows_of(batch, 0, 1, options.row_tokens, network.optimizations, torch.device("cpu"))
        loss = backward(network, rows, sum(example.total_weight for example in batch), 1).loss
        norm = torch.nn.utils.clip_grad_norm_(parameters, options.max_grad_norm).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(f"step {step + 1}: loss {loss:g}, gradient norm {norm:g}; lower --learning-rate")
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, total, options)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss)
        progress.add(detail=lambda: f"loss {np.mean(losses[-50:]):.3f}")
        left, seconds = total - len(losses), before + time.monotonic() - begun
        if len(losses) - first == _MEASURED:
            _announce(seconds + left * (seconds - before) / _MEASURED, limit, settings.epochs)
        if left and (len(losses) % settings.checkpoint_every == 0 or seconds > limit):
            parts = {"model": network.model.state_dict(), "optimizer": optimizer.state_dict()}
            _save({"key": key, "losses": losses, "seconds": seconds, **parts}, state)
        if left and seconds > limit:
            raise TrainingError(
                f"step {len(losses)} of {total}: {settings.max_minutes:g} minutes are over; the state is kept, so the "
                "same command with a higher --max-minutes goes on"
            )
    return losses, before + time.monotonic() - begun


def _announce(seconds: float, limit: float, epochs: int) -> None:
    """Say how long the training takes, and refuse one that takes too long."""
    say(f"  about {seconds / 60:.1f} minutes for {epochs} epochs")
    if seconds > limit:
        raise TrainingError(
            f"this takes about {seconds / 60:.1f} minutes, --max-minutes is {limit / 60:g}; {limit / seconds:.0%} of "
            "it would fit: lower --epochs, --tasks or --parameters"
        )


def _save(values: dict[str, Any], state: Path) -> None:
    scratch = state.with_suffix(".tmp")
    torch.save(values, scratch)
    scratch.replace(state)


def _resume(state: Path, key: str, network: Network, optimizer: torch.optim.Optimizer) -> tuple[list[float], float]:
    """Load the state of the same run, if there is one; returns its losses and seconds."""
    if not state.is_file():
        return [], 0.0
    saved = torch.load(state, weights_only=True)
    if saved["key"] != key:
        say(f"  {state} is another run's and is dropped")
        return [], 0.0
    network.model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return saved["losses"], saved["seconds"]


def _write(
    settings: PretrainSettings, key: str, material: _Material, losses: Sequence[float], seconds: float, folder: Path
) -> None:
    """Write the model directory: weights, tokenizer, facts and card."""
    shutil.rmtree(folder, ignore_errors=True)
    material.network.model.save_pretrained(folder)
    material.tokenizer.save_pretrained(folder)
    ranges = {
        name: corpus.task_range(name, count, settings.options.get(name, {})) for name, count in settings.tasks.items()
    }
    facts = {
        "key": key,
        "settings": settings.determinants(),
        "parameters": material.network.model.num_parameters(),
        "vocabulary": len(material.tokenizer),
        "task_ranges": {name: [numbers.start, numbers.stop] for name, numbers in ranges.items()},
        "trajectories": len(material.trajectories),
        "steps": sum(trajectory.n_steps for trajectory in material.trajectories),
        "tokens": settings.epochs * sum(example.length for example in material.examples),
        "loss": round(
            float(np.mean(losses[-packing.steps_per_epoch(len(material.examples), settings.batch_size) :])), 4
        ),
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
    write_card(folder, facts, seconds=seconds, threads=settings.threads)
