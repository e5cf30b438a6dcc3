"""One Ray Train worker: the optimizer steps of a run, its checkpoints and its export.

Every rank knows all examples, so what a step holds, its denominator and its learning rate are computed, never
communicated. A stop that trying again cannot mend (loss not finite, disk full) is returned as data, because Ray Train
would answer an exception with a restart.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
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
from atlas_ray.errors import AtlasError, StoreError
from atlas_ray.store import Store
from atlas_ray.training import checkpoint, flops, packing, prefix_tree
from atlas_ray.training.examples import Example
from atlas_ray.training.export import export
from atlas_ray.training.hardware import peak_flops, peak_memory
from atlas_ray.training.job import Job, Skips
from atlas_ray.training.journal import Journal, Speed
from atlas_ray.training.loss import Row, empty_row, make_row, non_finite, token_losses
from atlas_ray.training.model import Network, Recipe, load_sharded, sync_gradients


@dataclass
class StepResult:
    """What a rank learned from its rows of one optimizer step."""

    loss: float = 0.0
    """Share of the step's loss."""
    broken: list[str] = field(default_factory=list)
    """Trajectories with a label whose loss is not finite."""


def learning_rate(step: int, total: int, options: TrainConfig) -> float:
    """Learning rate of optimizer step `step` (from 0) of `total`: linear rise, then the schedule down to 0.

    The first step is not wasted at 0, as in transformers' schedules: the rise ends with the last warm-up step.
    """
    rise = math.ceil(options.warmup_ratio * total)
    if step < rise:
        return options.learning_rate * (step + 1) / rise
    done = (step - rise) / max(1, total - rise)
    factor = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[options.schedule]
    return options.learning_rate * factor


def work(settings: dict[str, Any]) -> dict[str, Any]:
    """Train; the function that Ray Train runs on every worker.

    Args:
        settings: `job`, a `Job`, and `examples`, an object reference to the list of `Example`.

    Returns:
        `error`: None, or one line that says why training had to stop.
    """
    disable_progress_bar()  # of transformers: noise in a job's log
    job: Job = settings["job"]
    examples: list[Example] = ray.get(settings["examples"])
    base = models.resolve(job.base, trust_remote_code=job.trust_remote_code)
    try:
        return {"error": _train(job, examples, base)}
    except AtlasError as error:  # the same on all ranks, or on rank 0 when the others wait for nothing any more
        return {"error": str(error)}


def _train(job: Job, examples: list[Example], base: str) -> str | None:
    options = job.options
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(min(job.threads, max(1, len(os.sched_getaffinity(0)) // context.get_local_world_size())))
    device: torch.device = ray.train.torch.get_device()
    store = Store(job.run_dir)

    recipe = Recipe(base, job.skips, job.kernel, options, job.seed, job.trust_remote_code)
    network = load_sharded(recipe, device, rank, world)
    model = network.model
    shape = flops.shape_of(model)
    tuned = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(tuned, lr=0.0, betas=options.betas, weight_decay=options.weight_decay, fused=True)
    per_epoch = packing.steps_per_epoch(len(examples), options.batch_size)
    total = options.epochs * per_epoch
    start = _resume(store, job.name, model, optimizer, rank)
    journal = Journal(store, job.name) if rank == 0 else None
    failed = on_rank_0(partial(journal.go_on_from, start) if journal else None, device)
    if failed:
        return failed
    saver = checkpoint.Saver(store, job.name, model, optimizer, beside=device.type != "cpu")
    peak = world * peak_flops(device)

    for step in range(start, total):
        begun = time.monotonic()
        documents = packing.batch(step, documents=len(examples), batch_size=options.batch_size, seed=job.seed)
        batch = [examples[document] for document in documents]
        rows = rows_of(batch, rank, world, options.pack_tokens, job.skips, device)
        torch.manual_seed(hash((job.seed, step, rank)))  # dropout, where a model has any, is resumed with the data
        result = backward(network, rows, sum(float(example.weights.sum()) for example in batch), world)
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
        log = None
        if journal:
            read = flops.Counts(*map(int, counts))
            head, last = job.skips.head_at_labels, job.skips.sparse_last_layer
            speed = Speed(
                seconds=time.monotonic() - begun,
                flops=shape.step(read, head_at_labels=head, sparse_last_layer=last),
                peak=peak,
                memory_gib=memory,
                skipped=flops.skipped(shape, *plain(batch), read, head=head, last=last),
            )
            log = partial(journal.log, done, step // per_epoch, batch, loss, grad_norm, rate, speed)
        failed = on_rank_0(log, device)
        if failed:
            return failed
        if done % options.checkpoint_every == 0 and done < total:
            try:
                whole = saver.save(done)
            except CheckpointException as error:
                return _full(error, store, job.name, done, rank)
            for state in whole:
                _report(store, job.name, state)
    try:
        saver.finish()
    except CheckpointException as error:
        return _full(error, store, job.name, total, rank)
    export(store, job.name, model, models.load_tokenizer(base), base, write=rank == 0, adapter=options.lora)
    return None


def _full(error: CheckpointException, store: Store, name: str, step: int, rank: int) -> str:
    """Why training stops when a state could not be written; what was written of it goes."""
    if rank == 0:
        checkpoint.clean(store, name, keep=checkpoint.latest(store, name))
    reason = next(iter(error.failures.values()))[0]
    return f"cannot save the training state at step {step} ({reason}); free space and run again"


def rows_of(
    batch: list[Example], rank: int, world: int, capacity: int, skips: Skips, device: torch.device
) -> list[Row]:
    """This rank's rows of a step; as many on every rank, so that the collectives match."""
    read = [example.ids[:-1] for example in batch]
    groups = [[document] for document in range(len(batch))]
    if skips.prefix_tree:
        groups = prefix_tree.groups(read, capacity=capacity, ranks=world)
    lengths = [prefix_tree.distinct_tokens(read, group) for group in groups]
    plan = packing.plan(lengths, ranks=world, capacity=capacity if skips.pack else 1)
    rows = [
        make_row([batch[document] for group in row for document in groups[group]], device, share=skips.prefix_tree)
        for row in plan[rank]
    ]
    return rows + [empty_row(device)] * (max(map(len, plan)) - len(rows))


def count(rows: list[Row]) -> flops.Counts:
    """What rows hold, without the ones that only keep the ranks in step."""
    total = flops.Counts()
    for row in rows:
        if row.weights.any():
            context = row.position_ids[0] + 1
            total += flops.Counts(
                len(context), int(context.sum()), len(row.predictors), int(context[row.predictors].sum())
            )
    return total


def plain(batch: list[Example]) -> tuple[flops.Counts, flops.Counts]:
    """What a step's documents hold in full, and as they are trained on, when nothing is shared."""
    whole, cut = flops.Counts(), flops.Counts()
    for example in batch:
        whole += flops.document(example.full_length)
        cut += flops.document(example.length)
    return whole, cut


def backward(network: Network, rows: list[Row], denominator: float, world: int) -> StepResult:
    """Add up the gradients of the rows.

    Ranks' gradients are averaged, hence the factor `world`: the sum is wanted.
    """
    shares, of_labels = [], []
    on_gpu = rows[0].ids.is_cuda
    for number, row in enumerate(rows, start=1):
        # Gradients of the whole network would have to be kept until the last row: on GPUs that memory is not there.
        sync_gradients(network.model, on_gpu or number == len(rows))
        losses = token_losses(network, row)
        loss = (losses * row.weights).sum() / denominator
        (loss * world).backward()  # type: ignore[no-untyped-call]
        shares.append(loss.detach())
        of_labels.append(losses.detach())
    result = StepResult()
    values = torch.stack(shares).tolist()  # here a GPU is waited for, and not before
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
    """Let rank 0 write something; every rank returns why that failed, if it did, and so stops instead of waiting.

    Args:
        write: None on all other ranks.
        device: of the collective.
    """
    said = None
    if write:
        try:
            write()
        except StoreError as error:
            said = str(error)
    if not _most_of_ranks(float(said is not None), device):
        return None
    return said or "rank 0 could not write"


def not_finite(step: int, loss: float, grad_norm: float, result: StepResult, batch: list[Example]) -> str:
    """Why training stops: the trajectories of all ranks whose loss broke, or all of the step if only the norm did."""
    gathered: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, result.broken)
    names = {name for broken in gathered for name in broken} or {example.trajectory_id for example in batch}
    return (
        f"step {step + 1}: loss {loss:g}, gradient norm {grad_norm:g}; trajectories {', '.join(sorted(names))}; "
        "look at them, or lower train.learning_rate"
    )


def _resume(store: Store, name: str, model: PreTrainedModel, optimizer: torch.optim.Optimizer, rank: int) -> int:
    """Load the newest whole state, if any, and tell Ray Train of it; returns its step."""
    chosen = [checkpoint.latest(store, name) if rank == 0 else 0]
    dist.broadcast_object_list(chosen, src=0)
    start: int = chosen[0]
    known = ray.train.get_checkpoint()
    if start:
        checkpoint.load(store, name, start, model, optimizer)
        # A state that was written, but not yet reported when the run was killed, is as good as any.
        if known is None or not known.path.endswith(checkpoint.step_folder(start)):
            _report(store, name, start)
    return start


def _report(store: Store, name: str, step: int) -> None:
    """Tell Ray Train of a state that lies in its storage already; it keeps the last two."""
    storage = ray.train.get_context().get_storage()
    path = f"{storage.experiment_fs_path}/{checkpoint.step_folder(step)}"
    ray.train.report(
        {"step": step},
        checkpoint=Checkpoint(path, storage.storage_filesystem),
        checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
    )
