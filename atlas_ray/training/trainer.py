"""Train one checkpoint on Ray; a run of the same content that was killed goes on from its last training state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray
from ray import PlacementGroupID
from ray.exceptions import RayActorError
from ray.train import (
    CheckpointConfig,
    FailureConfig,
    LoggingConfig,
    Result,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
)
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

from atlas_ray import models
from atlas_ray.cluster import GO_ON
from atlas_ray.config import PipelineConfig, TrainConfig
from atlas_ray.errors import ClusterError, TrainingError
from atlas_ray.gpus import gpus_by_node, is_built_for_gpus, lack, usable_gpus
from atlas_ray.hashing import content_hash
from atlas_ray.progress import say
from atlas_ray.roster import RosterEntry
from atlas_ray.store import Store
from atlas_ray.training import checkpoint, dpo
from atlas_ray.training.exact import decide, meta_model, truncation
from atlas_ray.training.examples import Example, Report, prepare
from atlas_ray.training.job import Job
from atlas_ray.training.log import follow
from atlas_ray.training.loop import run_worker, steps_of
from atlas_ray.training.model import config_of
from atlas_ray.training.pairs import Pair, prepare_pairs
from atlas_ray.training.preflight import preflight
from atlas_ray.training.track import tracking
from atlas_ray.trajectory import StepPreference, Trajectory

_SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's own list of the checkpoints of a run, which has no public name."""


def train(
    config: PipelineConfig,
    store: Store,
    *,
    name: str,
    start: RosterEntry,
    trajectories: Sequence[Trajectory],
    labels: Mapping[str, Mapping[int, float]],
    options: TrainConfig,
    seed: int,
    preferences: Sequence[StepPreference] = (),
) -> str:
    """Fine-tune a model on the given steps and write `checkpoints/<name>/`.

    A run is known by its content: the start model, the examples, the options that count and the seed. A killed run of
    the same content is continued; the state of any other run under this name is deleted. Whether training is due at
    all is the caller's to decide.

    Args:
        config: of the pipeline; `model`, `track` and `trust_remote_code` count here.
        store: the run directory, on storage that every node sees.
        name: of the checkpoint.
        start: the model to start from, with weights of its own.
        trajectories: what to train on.
        labels: weight in (0, 1] of each step to learn, by trajectory id (`examples.choose` makes them from selections).
        options: of this training: `TrainConfig.for_tuning` or `for_warmup`, `labelled_tokens` a number or None.
        seed: of the order of the data, of new adapters, and of dropout.
        preferences: what to learn where `options.objective` is `dpo`; trajectories and labels do not count then.

    Returns:
        The model directory: a path, or a URL when the run directory is one.

    Raises:
        TrainingError: the data cannot be trained on, the loss is not finite, or workers died too often.
        DataError: a trajectory has no labels, or a step that it does not have.
        ModelError: the start model cannot be used.
        ClusterError: the cluster lacks the CPUs or GPUs.
    """
    if start.directory is None:
        raise TrainingError(f"checkpoint {name}: {start.name!r} has no weights to start from; start from a model")
    path = models.resolve(start.directory, trust_remote_code=config.trust_remote_code)
    tokenizer = models.load_tokenizer(path)
    scaling, threads = _scaling(options)
    kernel = options.attention if options.attention != "auto" else "flex" if scaling.use_gpu else "sdpa"
    if kernel != "sdpa" and not scaling.use_gpu:
        raise TrainingError(f"train.attention={kernel} has no backward pass on CPUs; leave it out or add GPUs")
    empty = meta_model(
        config_of(path, trust_remote_code=config.trust_remote_code), trust_remote_code=config.trust_remote_code
    )
    examples: Sequence[Example | Pair]
    report: Report
    truncate, thinks = truncation(empty, options), config.evaluate.thinking.on
    if options.objective == "dpo":
        examples, report = prepare_pairs(preferences, tokenizer, options, truncate=truncate, thinks=thinks)
    else:
        examples, report = prepare(trajectories, labels, tokenizer, options, truncate=truncate, thinks=thinks)
    sequences = [sequence for example in examples for sequence in example.sequences]
    say(f"  train {name}: {report}")
    say(f"  train {name}: {preflight(sequences, report, tokenizer, path)}")
    optimizations, reasons = decide(empty, options, kernel, max(sequence.length for sequence in sequences))
    if options.objective == "dpo":
        dpo.check(optimizations, reasons)
    for switch, reason in reasons.items():
        say(f"  train {name}: train.exact.{switch} is off: {reason}")
    key = _key(start, sequences, options, seed)
    target = f"{store.url}/checkpoints/{name}"
    if _prepare_state(store, name, key):
        return target
    job = Job(
        name=name,
        run_dir=store.url,
        base=_worker_base(config, start, path),
        options=options,
        optimizations=optimizations,
        kernel=kernel,
        threads=threads,
        seed=seed,
        trust_remote_code=config.trust_remote_code,
    )
    run_config = RunConfig(
        name=checkpoint.STATE,
        # What is lost is made good by `_fit`; a start is tried again for an hour while the cluster has no room for it.
        failure_config=FailureConfig(max_failures=0, controller_failure_limit=60),
        checkpoint_config=CheckpointConfig(num_to_keep=2),
        logging_config=LoggingConfig(log_level="WARNING"),
        # Ray Train's patched print would show each line of a worker twice.
        worker_runtime_env={"env_vars": {"RAY_TRAIN_ENABLE_PRINT_PATCH": "0"}},
        **_storage(store, name),
    )
    loop_config = {"job": job, "examples": ray.put(examples)}
    # On GPUs states are written while training goes on, by a process group on the CPU.
    torch_config = TorchConfig(backend="cpu:gloo,cuda:nccl" if scaling.use_gpu else "gloo")

    def trainer() -> TorchTrainer:
        return TorchTrainer(
            run_worker, train_loop_config=loop_config, scaling_config=scaling, torch_config=torch_config,
            run_config=run_config,
        )  # fmt: skip

    total = steps_of(examples, options, seed)
    done = checkpoint.latest(store, name)
    parameters = {**options.determinants(), "model": config.model, "seed": seed}
    with (
        tracking(config, store, name, key, parameters, done) as track,
        follow(store, name, start=done, total=total, track=track),
    ):
        result = _fit(trainer, store, name, options.max_failures)
    outcome = result.return_value or {"error": "a worker ended early"}
    if outcome["error"]:
        raise TrainingError(f"checkpoint {name}: {outcome['error']}")
    store.write_json({"key": key, "finished": True}, *checkpoint.folder(name), "run.json")
    checkpoint.clean(store, name, keep=-1)
    return target


def _fit(trainer: Callable[[], TorchTrainer], store: Store, name: str, most: int) -> Result:
    """Train; go on from the last state when something is lost, `most` times in a row without a new state in between.

    Ray Train itself would end the run where its controller is lost: killed, or hit by the loss of a node while it
    starts or stops the workers.

    Raises:
        TrainingError: more was lost, or the controller cannot be made.
    """
    losses, before = 0, checkpoint.latest(store, name)
    others = _placement_groups()
    while True:
        try:
            return trainer().fit()
        except (TrainingFailedError, RayActorError) as error:
            for group in _placement_groups() - others:
                remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))
            reached = checkpoint.latest(store, name)
            losses = 1 if reached > before else losses + 1
            before = reached
            if losses > most or getattr(error, "actor_init_failed", False):
                raise TrainingError(f"checkpoint {name}: {_last_line(error)}; {GO_ON}") from error
            say(f"  train {name}: {_last_line(error)}; going on from step {reached}")
            _drop_snapshot(store, name)


def _placement_groups() -> set[str]:
    """Ids of the placement groups of this job.

    A controller that is killed leaves its own, and Ray Train's cleaner finds it on clusters with a dashboard alone: it
    asks the State API. Without its removal the next try would wait for the room.
    """
    job = ray.get_runtime_context().get_job_id()  # an id of a placement group ends with that of its job
    found = placement_group_table().items()
    return {group for group, facts in found if group.endswith(job) and facts["state"] != "REMOVED"}


def with_budget(
    config: PipelineConfig, options: TrainConfig, start: RosterEntry, tuning: Sequence[Trajectory]
) -> TrainConfig:
    """The options with a number for `labelled_tokens: all`: the labels of all steps of the tuning set, `epochs` times.

    Args:
        config: of the pipeline.
        options: of the training.
        start: the model to start from, whose tokenizer counts.
        tuning: every trajectory of the tuning set, those that a selection leaves out included.
    """
    if options.labelled_tokens != "all" or start.directory is None:
        return options
    tokenizer = models.load_tokenizer(models.resolve(start.directory, trust_remote_code=config.trust_remote_code))
    acting = [each for each in tuning if each.n_steps]
    every_step = {each.trajectory_id: dict.fromkeys(range(each.n_steps), 1.0) for each in acting}
    _, report = prepare(acting, every_step, tokenizer, options, thinks=config.evaluate.thinking.on)
    return options.model_copy(update={"labelled_tokens": options.epochs * report.labelled_tokens})


def _prepare_state(store: Store, name: str, key: str) -> bool:
    """Delete the state of any other run, and torn states of this one; returns whether this run is finished already."""
    folder = checkpoint.folder(name)
    if store.exists(*folder, "run.json"):
        state = store.read_json(*folder, "run.json")
        if state["key"] == key and state["finished"] and store.exists("checkpoints", name, "config.json"):
            return True
        if state["key"] != key:
            store.fs.rm(store.path(*folder), recursive=True)
    elif store.exists(*folder):
        store.fs.rm(store.path(*folder), recursive=True)
    store.write_json({"key": key, "finished": False}, *folder, "run.json")
    checkpoint.clean(store, name, keep=checkpoint.latest(store, name))
    _drop_snapshot(store, name)
    return False


def _drop_snapshot(store: Store, name: str) -> None:
    """Delete Ray Train's list of states, which may be torn or stale after a kill; the workers report theirs anew."""
    snapshot = (*checkpoint.folder(name), _SNAPSHOT)
    if store.exists(*snapshot):
        store.fs.rm(store.path(*snapshot))


def _key(start: RosterEntry, examples: Sequence[Example], options: TrainConfig, seed: int) -> str:
    """Hash of everything that determines the weights."""
    return content_hash(
        {
            "start": start.key,
            "examples": [[e.trajectory_id, e.ids.tolist(), e.weights.tolist()] for e in examples],
            "options": options.fingerprint(),
            "seed": seed,
        }
    )


def _worker_base(config: PipelineConfig, start: RosterEntry, path: str) -> str:
    """The start model as workers resolve it: a base model's name on each node anew, a directory as it is."""
    is_named = start.kind == "base" and not Path(config.model).expanduser().is_dir()
    if "://" in str(start.directory):  # a checkpoint on object storage, which each node fetches
        return str(start.directory)
    return config.model if is_named else path


def _scaling(options: TrainConfig) -> tuple[ScalingConfig, int]:
    """What Ray Train reserves, and CPU threads per worker."""
    cpus, gpus, workers = int(ray.cluster_resources().get("CPU", 0)), usable_gpus(), options.workers
    if gpus and (reason := lack(workers, 1, gpus_by_node(), f"train.workers={workers}")) is not None:
        raise ClusterError(reason)
    if is_built_for_gpus() and not gpus:
        say("  train: PyTorch was built for GPUs, but the cluster has none: training on CPUs")
    largest = max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=0)
    threads = options.threads or (1 if gpus else max(1, min(largest, cpus // workers)))
    if workers * threads > cpus or threads > largest:
        raise ClusterError(
            f"train.workers={workers} with {threads} threads need {workers * threads} CPUs, the cluster has {cpus} "
            f"({largest} on its largest node); lower train.workers or train.threads"
        )
    resources: dict[str, float] = {"CPU": threads, **({"GPU": 1} if gpus else {})}
    return ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources), threads


def _storage(store: Store, name: str) -> dict[str, Any]:
    """Where Ray Train keeps its checkpoints: in the run directory."""
    path = store.path("checkpoints", name)
    if store.is_local:
        return {"storage_path": path}
    handler = pyarrow.fs.FSSpecHandler(store.fs)
    return {"storage_path": path, "storage_filesystem": pyarrow.fs.PyFileSystem(handler)}


def _last_line(error: Exception) -> str:
    failures = getattr(error, "worker_failures", {})
    cause: BaseException = next(iter(failures.values()), error)
    return next((line.strip() for line in reversed(str(cause).splitlines()) if line.strip()), type(cause).__name__)
