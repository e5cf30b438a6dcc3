"""One Ray Train worker: the optimizer steps of a run, its checkpoints and its export.

Every rank knows all examples, so the trajectories of a step, its denominator and its learning rate are computed, never
communicated. A failure that a restart cannot mend (loss not finite, disk full) is returned as data, because Ray Train
answers an exception with a restart.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

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
from atlas_ray.gpus import flaw_of_cuda, installation
from atlas_ray.store import Store
from atlas_ray.training import checkpoint, dpo, flops, lora, packing, prefix_tree
from atlas_ray.training.attention import moved
from atlas_ray.training.dry_run import needs
from atlas_ray.training.exact import meta_model
from atlas_ray.training.examples import Example, by_trajectory
from atlas_ray.training.export import export
from atlas_ray.training.fit import row_tokens
from atlas_ray.training.hardware import peak_flops, peak_memory
from atlas_ray.training.job import ExactOptimizations, Job
from atlas_ray.training.log import Speed, TrainingLog
from atlas_ray.training.loss import Row, attention_inputs, empty_row, make_row, non_finite, padded, token_losses
from atlas_ray.training.model import Network, Recipe, config_of, is_mixed, load_sharded, sync_gradients
from atlas_ray.training.pairs import Pair

_REFERENCE = "reference.json"
_Prepared = TypeVar("_Prepared")


@dataclass(frozen=True)
class StepResult:
    """A rank's rows of one optimizer step, after the backward pass. Tensors: only who reads one waits for the GPU."""

    figures: torch.Tensor
    """These rows' part of the step's loss, and the pairs whose better reply has gained on the worse one since training
    began; shape (2,), fp64."""
    rows: Sequence[Row]
    losses: Sequence[torch.Tensor]
    """Of the labels of each row."""

    @property
    def loss(self) -> float:
        """The first figure."""
        return float(self.figures[0])

    @property
    def broken(self) -> list[str]:
        """Trajectories with a label whose loss is not finite."""
        return [name for row, losses in zip(self.rows, self.losses, strict=True) for name in non_finite(losses, row)]


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


def steps_of(examples: Sequence[Example | Pair], options: TrainConfig, seed: int) -> int:
    """Optimizer steps of a training, whose `labelled_tokens` are a number or None."""
    wanted = options.labelled_tokens
    if wanted == "all":
        raise TrainingError("train.labelled_tokens is 'all', which only the tuning set can tell; give a number")
    return packing.total_steps(
        [sum(example.labelled for example in rows) for rows in by_trajectory(examples)],
        batch_size=options.batch_size, seed=seed, epochs=options.epochs, labelled_tokens=wanted,
    )  # fmt: skip


def run_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Train; Ray Train runs this function on every worker.

    Args:
        settings: `job`, a `Job`, and `examples`, an object reference to the list of `Example`, or of `Pair`.

    Returns:
        `error`: None, or one line that says why training had to stop.
    """
    disable_progress_bar()  # transformers' bars are noise in a job's log
    job: Job = settings["job"]
    examples: Sequence[Example | Pair] = ray.get(settings["examples"])
    base = models.resolve(job.base, trust_remote_code=job.trust_remote_code)
    try:
        return {"error": _train(job, examples, base)}
    except AtlasError as error:  # on all ranks, or on rank 0 after the last collective
        return {"error": str(error)}


def _train(job: Job, examples: Sequence[Example | Pair], base: str) -> str | None:
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(min(job.threads, max(1, len(os.sched_getaffinity(0)) // context.get_local_world_size())))
    device: torch.device = ray.train.torch.get_device()
    if device.type == "cuda":
        if (reason := flaw_of_cuda(installation())) is not None:
            raise TrainingError(reason)
        job = sized(job, examples, base, device)
    options, store = job.options, Store(job.run_dir)

    recipe = Recipe(base, job.optimizations, job.kernel, options, job.seed, job.trust_remote_code)
    network = load_sharded(recipe, device, rank, world)
    model = network.model
    shape = flops.shape_of(model)
    tuned = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(tuned, lr=0.0, betas=options.betas, weight_decay=options.weight_decay, fused=True)
    examples = _against_start(store, job, network, examples, rank, world, device)
    make = dpo.row_maker(options.dpo.beta) if options.objective == "dpo" else make_row
    trajectories = by_trajectory(examples)
    per_epoch = packing.steps_per_epoch(len(trajectories), options.batch_size)
    total = steps_of(examples, options, job.seed)
    start = _resume(store, job.name, model, optimizer, rank)
    log = TrainingLog(store, job.name) if rank == 0 else None
    failed = on_rank_0(partial(log.drop_after, start) if log else None)
    if failed:
        return failed
    saver = checkpoint.Saver(store, job.name, model, optimizer, in_background=device.type != "cpu")
    peak = world * peak_flops(device, torch.bfloat16 if is_mixed(options, device) else torch.float32)

    def prepared(step: int) -> tuple[list[Example | Pair], list[Row], torch.Tensor]:
        documents = packing.batch(step, documents=len(trajectories), batch_size=options.batch_size, seed=job.seed)
        batch = [row for document in documents for row in trajectories[document]]
        rows = rows_of(batch, rank, world, options.row_tokens, job.optimizations, torch.device("cpu"), make)
        counted = moved(torch.tensor(count(rows).values, dtype=torch.float64), device)
        rows = [sized_for(network, row, options.row_tokens).moved(device) for row in rows]
        if job.optimizations.attends_per_document:
            for row in rows:
                attention_inputs(network, row)
        return batch, rows, counted

    network.clear_gradients()
    begun = time.monotonic()
    for step, (batch, rows, counted) in ahead(prepared, range(start, total)):
        torch.manual_seed(hash((job.seed, step, rank)))  # dropout, where a model has any, is resumed with the data
        result = backward(network, rows, sum(example.total_weight for example in batch), world)
        norm = torch.nn.utils.clip_grad_norm_(tuned, options.max_grad_norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        loss, preferred, *counts, grad_norm = figures_of_step(result, norm, counted)
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            return not_finite(step, loss, grad_norm, result, batch)
        rate = learning_rate(step, total, options)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        network.clear_gradients()

        done = step + 1
        memory = _most_of_ranks(peak_memory(device))
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
            share = preferred / len(batch) if options.objective == "dpo" else None
            write = partial(log.log, done, step // per_epoch, batch, loss, grad_norm, rate, speed, share)
        failed = on_rank_0(write)
        if failed:
            return failed
        if done % options.checkpoint_every == 0 and done < total:
            try:
                completed = saver.save(done)
            except CheckpointException as error:
                return _cannot_save(error, store, job.name, done, rank)
            for state in completed:
                _report(store, job.name, state)
        begun = time.monotonic()
    try:
        saver.finish()
    except CheckpointException as error:
        return _cannot_save(error, store, job.name, total, rank)
    export(store, job.name, model, models.load_tokenizer(base), base, write=rank == 0, adapter=options.lora)
    return None


def _against_start(
    store: Store, job: Job, network: Network, examples: Sequence[Example | Pair], rank: int, world: int,
    device: torch.device,
) -> Sequence[Example | Pair]:  # fmt: skip
    """Pairs with their margins under the start model, which the network still is; examples as they are.

    The margins are computed once, by all ranks, and kept in `training_state/reference.json` for when the run resumes:
    that folder belongs to the run's key.

    Raises:
        TrainingError: a margin is not finite, or they cannot be written.
    """
    pairs = [each for each in examples if isinstance(each, Pair)]
    if not pairs:
        return examples
    file = (*checkpoint.folder(job.name), _REFERENCE)
    kept: list[dict[str, float] | None] = [None]
    if rank == 0 and store.exists(*file):
        kept = [store.read_json(*file)]
    dist.broadcast_object_list(kept, src=0)
    margins = kept[0]
    if margins is None:
        make = dpo.row_maker(job.options.dpo.beta)
        rows = rows_of(pairs, rank, world, job.options.row_tokens, job.optimizations, device, make)
        parts: list[dict[str, float]] = [{} for _ in range(world)]
        dist.all_gather_object(parts, dpo.start_margins(network, rows))
        margins = {name: margin for part in parts for name, margin in part.items()}
        broken = sorted(name for name, margin in margins.items() if not math.isfinite(margin))
        if broken:
            raise TrainingError(f"the start model gives no finite probability to {', '.join(broken[:3])}; look at them")
        failed = on_rank_0(partial(store.write_json, margins, *file) if rank == 0 else None)
        if failed:
            raise TrainingError(failed)
    return [replace(pair, reference=margins[pair.name]) for pair in pairs]


def ahead(prepare: Callable[[int], _Prepared], steps: Iterable[int]) -> Iterator[tuple[int, _Prepared]]:
    """Each step with what is prepared for it, in order; the next step's is prepared while this one is computed."""
    with ThreadPoolExecutor(1) as thread:
        before: tuple[int, Future[_Prepared]] | None = None
        for step in steps:
            following = (step, thread.submit(prepare, step))
            if before is not None:
                yield before[0], before[1].result()
            before = following
        if before is not None:
            yield before[0], before[1].result()


def sized(job: Job, examples: Sequence[Example | Pair], base: str, device: torch.device) -> Job:
    """The job with rows of a size that fits on this GPU, where `train.pack_tokens` leaves that open.

    Raises:
        TrainingError: the model does not fit, or the longest trajectory does not.
    """
    sequences = [sequence for example in examples for sequence in example.sequences]
    config = config_of(base, trust_remote_code=job.trust_remote_code)
    model = meta_model(config, trust_remote_code=job.trust_remote_code)
    if job.options.lora is not None:
        lora.add(model, job.options.lora)
    tokens = sum(sequence.length for sequence in sequences)
    labels = sum(sequence.labelled for sequence in sequences) / tokens if job.optimizations.head_at_labels else 1.0
    card = torch.cuda.get_device_properties(device).total_memory
    needed = needs(model, job.options, job.optimizations, labels)
    fits = row_tokens(needed, card, max(sequence.length for sequence in sequences))
    if job.options.pack_tokens != "auto":
        return job
    return replace(job, options=job.options.model_copy(update={"pack_tokens": fits}))


def _cannot_save(error: CheckpointException, store: Store, name: str, step: int, rank: int) -> str:
    """Why training stops when a state could not be written; the incomplete state is deleted."""
    if rank == 0:
        checkpoint.clean(store, name, keep=checkpoint.latest(store, name))
    reason = next(iter(error.failures.values()))[0]
    return f"cannot save the training state at step {step} ({reason}); free space and run again"


def rows_of(
    batch: Sequence[Example | Pair], rank: int, world: int, capacity: int, optimizations: ExactOptimizations,
    device: torch.device, make: Callable[..., Row] = make_row,
) -> list[Row]:  # fmt: skip
    """This rank's rows of a step; every rank has the same number of rows, so that the collectives match.

    Args:
        batch: examples or pairs of the optimizer step.
        rank: of this worker.
        world: number of ranks.
        capacity: tokens of a row.
        optimizations: what the rows are laid out for.
        device: of the rows.
        make: makes a row of some of the batch, as `loss.make_row` does of examples.
    """
    share, read = optimizations.prefix_tree, [[one.ids[:-1] for one in document.sequences] for document in batch]
    together = [prefix_tree.distinct_tokens(own, range(len(own)), share=share) for own in read]
    groups = [[document] for document in range(len(batch))]
    lengths = together
    if share:
        first, beside = [own[0] for own in read], [held - len(own[0]) for held, own in zip(together, read, strict=True)]
        groups = prefix_tree.groups(first, capacity=capacity, ranks=world, beside=beside)
        rows = [[ids for document in group for ids in read[document]] for group in groups]
        lengths = [prefix_tree.distinct_tokens(row, range(len(row))) for row in rows]
    plan = packing.plan(lengths, ranks=world, capacity=capacity if optimizations.pack else 1)
    mine = [
        make([batch[document] for group in row for document in groups[group]], device, share=share)
        for row in plan[rank]
    ]
    return mine + [empty_row(device)] * (max(map(len, plan)) - len(mine))


def sized_for(network: Network, row: Row, capacity: int) -> Row:
    """The row as the network takes it: padded to one of a few sizes where layers are compiled and rows are packed."""
    if network.compiled is None or not network.optimizations.pack:
        return row
    return padded(row, packing.size(row.layout.tokens, capacity=capacity))


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


def unshared(batch: Sequence[Example | Pair]) -> tuple[flops.Counts, flops.Counts]:
    """Counts of a step's trajectories in full, and up to their last labels, when none share tokens."""
    whole, cut = flops.Counts(), flops.Counts()
    for example in (sequence for document in batch for sequence in document.sequences):
        whole += flops.document(example.full_length)
        cut += flops.document(example.length)
    return whole, cut


def backward(network: Network, rows: list[Row], denominator: float, world: int) -> StepResult:
    """Add up the gradients of the rows.

    The gradients of the ranks are averaged where their sum is wanted, hence the factor `world`.

    Nothing here waits for a GPU.

    Args:
        network: whose parameters receive the gradients.
        rows: of this rank.
        denominator: sum of the weights of all labels of the optimizer step, or number of its pairs, on all ranks.
        world: number of ranks.
    """
    shares, preferred, of_labels = [], [], []
    on_gpu = rows[0].ids.is_cuda
    for number, row in enumerate(rows, start=1):
        # Unsharded gradients would have to be kept until the last row; GPUs lack the memory for that.
        sync_gradients(network.model, on_gpu or number == len(rows))
        if network.graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        losses = token_losses(network, row)
        loss = row.total(losses) / denominator
        (loss * world).backward()  # type: ignore[no-untyped-call]
        shares.append(loss.detach())
        of_labels.append(losses.detach())
        preferred.append(row.preferred(of_labels[-1]))
    figures = torch.stack([torch.stack(values).double().sum() for values in (shares, preferred)])
    return StepResult(figures, rows, of_labels)


def figures_of_step(result: StepResult, norm: torch.Tensor, counted: torch.Tensor) -> list[float]:
    """Loss, preferred pairs and counts of the step over all ranks, then the gradient's norm, which all ranks have.

    This is where the host waits for a GPU, once a step.

    Args:
        result: of this rank.
        norm: of the gradient, before clipping.
        counted: of this rank's rows, shape (4,), fp64, on the device of the result.
    """
    summed = torch.cat([result.figures, counted])
    if dist.get_world_size() > 1:
        dist.all_reduce(summed)
    values: list[float] = torch.cat([summed, norm.double()[None]]).tolist()
    return values


def _most_of_ranks(value: float) -> float:
    """By the process group of CPUs: a GPU goes on meanwhile."""
    if dist.get_world_size() == 1:
        return value
    most = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return most.item()


def on_rank_0(write: Callable[[], object] | None) -> str | None:
    """Let rank 0 write something; every rank returns why that failed, if it did, so that none waits for another.

    Args:
        write: None on all other ranks.
    """
    failure = None
    if write:
        try:
            write()
        except StoreError as error:
            failure = str(error)
    if not _most_of_ranks(float(failure is not None)):
        return None
    return failure or "rank 0 could not write"


def not_finite(step: int, loss: float, grad_norm: float, result: StepResult, batch: Sequence[Example | Pair]) -> str:
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
