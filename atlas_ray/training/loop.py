"""One Ray Train worker: the optimizer steps of a run, its checkpoints and its export.

Every rank knows all examples, so the trajectories of a step, its denominator and its learning rate are computed, never
communicated. A failure that a restart cannot mend (loss not finite, disk full) is returned as data, because Ray Train
answers an exception with a restart.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from ray.train import Checkpoint, CheckpointUploadMode
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from atlas_ray import models
from atlas_ray.config import TrainConfig
from atlas_ray.errors import AtlasError, StoreError, TrainingError
from atlas_ray.store import Store
from atlas_ray.training import checkpoint, flops, packing, prefix_tree
from atlas_ray.training.examples import Example
from atlas_ray.training.export import export
from atlas_ray.training.hardware import peak_flops, peak_memory
from atlas_ray.training.job import ExactOptimizations, Job
from atlas_ray.training.log import Speed, TrainingLog
from atlas_ray.training.loss import Row, empty_row, make_row, non_finite, token_losses
from atlas_ray.training.model import Network, Recipe, load_sharded, sync_gradients


@dataclass
class StepResult:
    """A rank's rows of one optimizer step, after the backward pass."""

    loss: float = 0.0
    """These rows' part of the step's loss."""
    broken: list[str] = field(default_factory=list)
    """Trajectories with a label whose loss is not finite."""


def learning_rate(step: int, total: int, options: TrainConfig) -> float:
    """Learning rate of optimizer step `step` (from 0) of `total`: linear rise, then the schedule down to 0.

    The first step has a rate above 0, unlike in transformers' schedules: the rise ends with the last warm-up step.
    """
    rise = math.ceil(options.warmup_ratio * total)
    if step < rise:
        return options.learning_rate * (step + 1) / rise
    done = (step - rise) / max(1, total - rise)
    factor = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[options.schedule]
    return options.learning_rate * factor


def steps_of(examples: Sequence[Example], options: TrainConfig, seed: int) -> int:
    """Optimizer steps of a training, whose `labelled_tokens` are a number or None."""
    wanted = options.labelled_tokens
    if wanted == "all":
        raise TrainingError("train.labelled_tokens is 'all', which only the tuning set can tell; give a number")
    return packing.total_steps(
        [example.labelled for example in examples],
        batch_size=options.batch_size, seed=seed, epochs=options.epochs, labelled_tokens=wanted,
    )  # fmt: skip


def run_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Train; Ray Train runs this function on every worker.

    Args:
        settings: `job`, a `Job`, and `examples`, an object reference to the list of `Example`.

    Returns:
        `error`: None, or one line that says why training had to stop.
    """
    disable_progress_bar()  # transformers' bars are noise in a job's log
    job: Job = settings["job"]
    examples: list[Example] = ray.get(settings["examples"])
    base = models.resolve(job.base, trust_remote_code=job.trust_remote_code)
    try:
        return {"error": _train(job, examples, base)}
    except AtlasError as error:  # on all ranks, or on rank 0 after the last collective
        return {"error": str(error)}


def _train(job: Job, examples: list[Example], base: str) -> str | None:
    options = job.options
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(min(job.threads, max(1, len(os.sched_getaffinity(0)) // context.get_local_world_size())))
    device: torch.device = ray.train.torch.get_device()
    store = Store(job.run_dir)

    recipe = Recipe(base, job.optimizations, job.kernel, options, job.seed, job.trust_remote_code)
    network = load_sharded(recipe, device, rank, world)
    model = network.model
    shape = flops.shape_of(model)
    tuned = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(tuned, lr=0.0, betas=options.betas, weight_decay=options.weight_decay, fused=True)
    per_epoch = packing.steps_per_epoch(len(examples), options.batch_size)
    total = steps_of(examples, options, job.seed)
    start = _resume(store, job.name, model, optimizer, rank)
    log = TrainingLog(store, job.name) if rank == 0 else None
    failed = on_rank_0(partial(log.drop_after, start) if log else None, device)
    if failed:
        return failed
    saver = checkpoint.Saver(store, job.name, model, optimizer, in_background=device.type != "cpu")
    peak = world * peak_flops(device)

    for step in range(start, total):
        begun = time.monotonic()
        documents = packing.batch(step, documents=len(examples), batch_size=options.batch_size, seed=job.seed)
        batch = [examples[document] for document in documents]
        rows = rows_of(batch, rank, world, options.pack_tokens, job.optimizations, device)
        torch.manual_seed(hash((job.seed, step, rank)))  # dropout, where a model has any, is resumed with the data
        result = backward(network, rows, sum(example.total_weight for example in batch), world)
        norm = torch.nn.utils.clip_grad_norm_(tuned, options.max_grad_norm)
        grad_norm = (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()
        loss, *counts = _sum_over_ranks([result.loss, *count(rows).values], device)
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            return not_finite(step, loss, grad_norm, result, batch)
        rate = learning_rate(step, total, options)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()

        done = step + 1
        memory = _most_of_ranks(peak_memory(device), device)
        write = None
        if log:
            read = flops.Counts(*map(int, counts))
            head, last = job.optimizations.head_at_labels, job.optimizations.sparse_last_layer
            speed = Speed(
                seconds=time.monotonic() - begun,
                flops=shape.step(read, head_at_labels=head, sparse_last_layer=last),
                peak=peak,
                memory_gib=memory,
                skipped=flops.skipped(shape, *unshared(batch), read, head=head, last=last),
            )
            write = partial(log.log, done, step // per_epoch, batch, loss, grad_norm, rate, speed)
        failed = on_rank_0(write, device)
        if failed:
            return failed
        if done % options.checkpoint_every == 0 and done < total:
            try:
                completed = saver.save(done)
            except CheckpointException as error:
                return _cannot_save(error, store, job.name, done, rank)
            for state in completed:
                _report(store, job.name, state)
    try:
        saver.finish()
    except CheckpointException as error:
        return _cannot_save(error, store, job.name, total, rank)
    export(store, job.name, model, models.load_tokenizer(base), base, write=rank == 0, adapter=options.lora)
    return None


def _cannot_save(error: CheckpointException, store: Store, name: str, step: int, rank: int) -> str:
    """Why training stops when a state could not be written; the incomplete state is deleted."""
    if rank == 0:
        checkpoint.clean(store, name, keep=checkpoint.latest(store, name))
    reason = next(iter(error.failures.values()))[0]
    return f"cannot save the training state at step {step} ({reason}); free space and run again"


def rows_of(
    batch: list[Example], rank: int, world: int, capacity: int, optimizations: ExactOptimizations, device: torch.device
) -> list[Row]:
    """This rank's rows of a step; every rank has the same number of rows, so that the collectives match."""
    read = [example.ids[:-1] for example in batch]
    groups = [[document] for document in range(len(batch))]
    if optimizations.prefix_tree:
        groups = prefix_tree.groups(read, capacity=capacity, ranks=world)
    lengths = [prefix_tree.distinct_tokens(read, group) for group in groups]
    plan = packing.plan(lengths, ranks=world, capacity=capacity if optimizations.pack else 1)
    rows = [
        make_row(
            [batch[document] for group in row for document in groups[group]], device, share=optimizations.prefix_tree
        )
        for row in plan[rank]
    ]
    return rows + [empty_row(device)] * (max(map(len, plan)) - len(rows))


def count(rows: list[Row]) -> flops.Counts:
    """Counts of rows; the empty rows that keep the ranks in step are left out."""
    total = flops.Counts()
    for row in rows:
        if row.weights.any():
            context = row.position_ids[0] + 1
            total += flops.Counts(
                len(context), int(context.sum()), len(row.predictors), int(context[row.predictors].sum())
            )
    return total


def unshared(batch: list[Example]) -> tuple[flops.Counts, flops.Counts]:
    """Counts of a step's trajectories in full, and up to their last labels, when none share tokens."""
    whole, cut = flops.Counts(), flops.Counts()
    for example in batch:
        whole += flops.document(example.full_length)
        cut += flops.document(example.length)
    return whole, cut


def backward(network: Network, rows: list[Row], denominator: float, world: int) -> StepResult:
    """Add up the gradients of the rows.

    The gradients of the ranks are averaged where their sum is wanted, hence the factor `world`.

    Args:
        network: whose parameters receive the gradients.
        rows: of this rank.
        denominator: sum of the weights of all labels of the optimizer step, on all ranks.
        world: number of ranks.
    """
    shares, of_labels = [], []
    on_gpu = rows[0].ids.is_cuda
    for number, row in enumerate(rows, start=1):
        # Unsharded gradients would have to be kept until the last row; GPUs lack the memory for that.
        sync_gradients(network.model, on_gpu or number == len(rows))
        losses = token_losses(network, row)
        loss = (losses * row.weights).sum() / denominator
        (loss * world).backward()  # type: ignore[no-untyped-call]
        shares.append(loss.detach())
        of_labels.append(losses.detach())
    result = StepResult()
    values = torch.stack(shares).tolist()  # waits for the GPU, once a step
    for share, losses, row in zip(values, of_labels, rows):
        result.loss += share
        if not math.isfinite(share):
            result.broken += non_finite(losses, row)
    return result


def _sum_over_ranks(values: list[float], device: torch.device) -> list[float]:
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return [float(value) for value in total.tolist()]


def _most_of_ranks(value: float, device: torch.device) -> float:
    most = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return most.item()


def on_rank_0(write: Callable[[], None] | None, device: torch.device) -> str | None:
    """Let rank 0 write something; every rank returns why that failed, if it did, so that none waits for another.

    Args:
        write: None on all other ranks.
        device: of the collective.
    """
    failure = None
    if write:
        try:
            write()
        except StoreError as error:
            failure = str(error)
    if not _most_of_ranks(float(failure is not None), device):
        return None
    return failure or "rank 0 could not write"


def not_finite(step: int, loss: float, grad_norm: float, result: StepResult, batch: list[Example]) -> str:
    """Why training stops, with the trajectories whose loss is not finite; all of the step if only the norm is not."""
    gathered: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, result.broken)
    names = {name for broken in gathered for name in broken} or {example.trajectory_id for example in batch}
    return (
        f"step {step + 1}: loss {loss:g}, gradient norm {grad_norm:g}; trajectories {', '.join(sorted(names))}; "
        "look at them, or lower train.learning_rate"
    )


def _resume(store: Store, name: str, model: PreTrainedModel, optimizer: torch.optim.Optimizer, rank: int) -> int:
    """Load the newest complete state, if any, and report it to Ray Train; returns its step."""
    chosen = [checkpoint.latest(store, name) if rank == 0 else 0]
    dist.broadcast_object_list(chosen, src=0)
    start: int = chosen[0]
    known = ray.train.get_checkpoint()
    if start:
        checkpoint.load(store, name, start, model, optimizer)
        # The run may have been killed after this state was written and before it was reported.
        if known is None or not known.path.endswith(checkpoint.step_folder(start)):
            _report(store, name, start)
    return start


def _report(store: Store, name: str, step: int) -> None:
    """Report a state that lies in Ray Train's storage already; Ray Train keeps the last two."""
    storage = ray.train.get_context().get_storage()
    path = f"{storage.experiment_fs_path}/{checkpoint.step_folder(step)}"
    ray.train.report(
        {"step": step},
        checkpoint=Checkpoint(path, storage.storage_filesystem),
        checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
    )
