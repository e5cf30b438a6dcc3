"""The arguments of a training worker. No torch, so that Ray Train's controller can unpickle them without it."""

from __future__ import annotations

from dataclasses import dataclass

from atlas_ray.config import TrainConfig


@dataclass(frozen=True)
class ExactOptimizations:
    """Which work is left out; the switches of `config.ExactConfig` after `exact.decide`."""

    head_at_labels: bool
    truncate: bool
    pack: bool
    prefix_tree: bool
    sparse_last_layer: bool

    @property
    def attends_per_document(self) -> bool:
        """Whether one of our attention implementations computes, which know the trajectories in a row."""
        return self.pack or self.sparse_last_layer


@dataclass(frozen=True)
class Job:
    """One training run; the same for all workers."""

    name: str
    """Of the checkpoint."""
    run_dir: str
    """Absolute path or URL."""
    base: str
    """The model to start from, as `models.resolve` takes it."""
    options: TrainConfig
    optimizations: ExactOptimizations
    kernel: str
    """Of attention: `sdpa`, `flex` or `flash`."""
    threads: int
    """CPU threads per worker, at most; a worker takes no more than its share of the machine's cores."""
    seed: int
    trust_remote_code: bool = False
