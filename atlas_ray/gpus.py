"""How many GPUs there are for us."""

from __future__ import annotations

from importlib.metadata import version


def usable_gpus() -> int:
    """GPUs of the Ray cluster; none where torch was built for CPUs, whatever Ray finds in the machines."""
    if version("torch").endswith("+cpu"):
        return 0
    import ray

    return int(ray.cluster_resources().get("GPU", 0))
