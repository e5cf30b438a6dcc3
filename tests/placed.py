"""What the tests of placement put in the place of engines and devices: each notes its GPUs, or does without one.

Apart from the tests, because workers of the cluster import it.
"""

from __future__ import annotations

import os
from typing import Any

import ray
import torch

from atlas_ray.inference.types import Generation
from atlas_ray.selection.prefill import TokenScorer
from atlas_ray.store import Store


class PlacedScorer(TokenScorer):
    """The stage of `perplexity`, which notes the GPUs that it was given."""

    def __init__(self, scoring: Any, run_dir: str) -> None:
        super().__init__(scoring, run_dir)
        self._store.write_json(ray.get_gpu_ids(), "placed", f"{os.getpid()}.json")


class ReadyEngine:
    """In the place of `EngineActor`: ends every answer at once."""

    def __init__(self, model: str, config: Any) -> None:
        self._model = model

    async def ready(self, model: str | None = None) -> int:
        self._model = model or self._model
        return 512

    async def generate(self, ids: list[int], *, model: str, **_: Any) -> Generation:
        assert model == self._model
        return Generation([2], "", True, len(ids), 0)


def worker_without_its_gpu(settings: dict[str, Any]) -> dict[str, Any]:
    """A training worker that notes the GPUs that it was given and computes on the CPU."""
    import ray.train.torch

    from atlas_ray.training import loop

    rank = ray.train.get_context().get_world_rank()
    Store(settings["job"].run_dir).write_json(ray.get_gpu_ids(), "placed", f"{rank}.json")
    ray.train.torch.get_device = lambda: torch.device("cpu")
    return loop.run_worker(settings)


class ReadyServer:
    """In the place of Ray's vLLM engine."""

    def __init__(self, config: Any) -> None:
        self.config = config

    async def start(self) -> None:
        """It has no engine."""

    async def check_health(self) -> None:
        """It is well."""

    def routing_stats(self) -> dict[str, Any]:
        """None."""
        return {}
