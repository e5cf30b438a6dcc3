"""GPUs: how many this installation can use, and why it can use none.

What is wrong is decided over facts (`Installation`, numbers of GPUs), so that it is tested without a GPU; each decision
gives one line, or None where nothing is wrong. Nothing here makes a CUDA context: a process that is to fork one for
vLLM must not have any.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

NUMA_INSTALL = "apt-get install libnuma1, or the package of your distribution"


@dataclass(frozen=True)
class Installation:
    """What a machine and its packages bring."""

    built_for: str | None
    """The CUDA version that PyTorch was built for, as in `13.0`; None: a build for CPUs."""
    driver: str | None
    """The newest CUDA version that the NVIDIA driver runs; None: there is no driver."""
    gpus: int
    """GPUs that this process may use."""
    has_vllm: bool = True
    has_flashinfer: bool = True
    has_numa: bool = True
    """The library libnuma, which vLLM's build for CPUs loads."""


def installation() -> Installation:
    """The facts of this process."""
    import torch

    return Installation(
        built_for=torch.version.cuda,
        driver=_driver(),
        gpus=torch.cuda.device_count(),
        has_vllm=find_spec("vllm") is not None,
        has_flashinfer=find_spec("flashinfer") is not None,
        has_numa=has_numa(),
    )


def has_numa() -> bool:
    """Whether this machine has the library libnuma."""
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError:
        return False
    return True


def flaw(found: Installation) -> str | None:
    """Why an engine cannot start with this installation; None: it can."""
    if not found.has_vllm:
        return "vLLM is not installed; run `make install` (CPUs) or `pip install -e '.[gpu]'` (GPUs)"
    if found.built_for is None and not found.has_numa:
        return f"vLLM's build for CPUs needs the library libnuma.so.1; {NUMA_INSTALL}"
    return flaw_of_cuda(found)


def flaw_of_cuda(found: Installation) -> str | None:
    """Why a PyTorch that was built for GPUs can use none; None: it can, or was built for CPUs."""
    if found.built_for is None:
        return None
    if found.driver is None:
        return (
            f"PyTorch was built for CUDA {found.built_for}, but this machine has no NVIDIA driver (libcuda.so.1); "
            "install one, or the CPU stack (make install)"
        )
    if _major(found.driver) < _major(found.built_for):
        return (
            f"the NVIDIA driver runs CUDA up to {found.driver}, PyTorch was built for {found.built_for}; update the "
            f"driver, or install PyTorch and vLLM for CUDA {_major(found.driver)}"
        )
    if not found.gpus:
        return (
            f"PyTorch was built for CUDA {found.built_for}, but this process sees no GPU; unset CUDA_VISIBLE_DEVICES, "
            "or start Ray on a machine that has one"
        )
    return None


def lack(copies: int, each: int, nodes: Sequence[int], options: str) -> str | None:
    """Why so many copies of something cannot have their GPUs; None: they can.

    Args:
        copies: how many.
        each: GPUs of one, all on one node.
        nodes: GPUs of each node of the cluster.
        options: the options that ask for them, as in `engine.replicas=2`.
    """
    if sum(count // each for count in nodes) >= copies:
        return None
    return (
        f"{options} asks for {copies * each} GPUs, {each} on one node; the cluster has {sum(nodes)} "
        f"({max(nodes, default=0)} on its largest node); lower it or add nodes"
    )


def is_built_for_gpus() -> bool:
    """Whether the installed PyTorch has CUDA; asks the package's name alone, which imports nothing."""
    return not version("torch").endswith("+cpu")


def usable_gpus() -> int:
    """GPUs of the Ray cluster; 0 if torch was built for CPUs, even if the machines have GPUs."""
    return sum(gpus_by_node())


def gpus_by_node() -> list[int]:
    """GPUs of each node of the Ray cluster that is alive; empty if torch was built for CPUs."""
    if not is_built_for_gpus():
        return []
    import ray

    return [int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]]


def _driver() -> str | None:
    """The CUDA version of the driver, which it tells without being initialised."""
    found = ctypes.c_int(0)
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(found))
    except OSError:
        return None
    return f"{found.value // 1000}.{found.value % 1000 // 10}" if found.value else None


def _major(version: str) -> int:
    return int(version.split(".")[0])
