"""The number of GPUs that this installation can use."""

from __future__ import annotations

from importlib.metadata import version


def usable_gpus() -> int:
    """GPUs of the Ray cluster; 0 if torch was built for CPUs, even if the machines have GPUs."""
    if version("torch").endswith("+cpu"):
        return 0
    import ray

    return int(ray.cluster_resources().get("GPU", 0))
