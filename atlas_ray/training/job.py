"""What every training worker is told; apart from the loop, so that Ray Train's controller reads it without torch."""

from __future__ import annotations

from dataclasses import dataclass

from atlas_ray.config import TrainConfig


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
    threads: int
    """CPU threads per worker, at most; never more than its share of the machine's cores."""
    seed: int
    trust_remote_code: bool = False
