"""What every training worker is told; apart from the loop, so that Ray Train's controller reads it without torch."""

from __future__ import annotations

from dataclasses import dataclass

from atlas_ray.config import TrainConfig


@dataclass(frozen=True)
class Skips:
    """Work that is left out; each switch as in `config.ExactConfig`, decided."""

    head_at_labels: bool
    truncate: bool
    pack: bool
    prefix_tree: bool
    sparse_last_layer: bool

    @property
    def documents(self) -> bool:
        """Whether attention is told of the documents in a row, by one of our implementations."""
        return self.pack or self.sparse_last_layer


@dataclass(frozen=True)
class Job:
    """One run; the same for all workers."""

    name: str
    """Of the checkpoint."""
    run_dir: str
    """Absolute path or URL."""
    base: str
    """The base model, as `models.resolve` takes it."""
    options: TrainConfig
    skips: Skips
    kernel: str
    """Of attention: `sdpa`, `flex` or `flash`."""
    threads: int
    """CPU threads per worker, at most; never more than its share of the machine's cores."""
    seed: int
    trust_remote_code: bool = False
