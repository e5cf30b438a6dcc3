"""Peak FLOP/s and memory of a device: from a table of GPUs, or measured with a matrix product."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import torch

GPUS = {
    "a100-40gb": (312e12, 40), "a100-80gb": (312e12, 80), "h100": (989e12, 80), "h200": (989e12, 141),
    "b200": (2250e12, 180), "l40s": (362e12, 48), "l4": (121e12, 24), "a10g": (70e12, 24), "rtx4090": (165e12, 24),
}  # fmt: skip
"""Dense bf16 FLOP/s and GB of memory, from the makers' data sheets."""
_SIZE, _ROUNDS = 1024, 8


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a device: from its data sheet, or measured (CPUs, GPUs that the table does not have) in a dtype."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device).lower().replace(" ", "")
        memory = torch.cuda.get_device_properties(device).total_memory / 1e9
        known = [key for key in GPUS if key.split("-")[0] in name and GPUS[key][1] * 0.8 < memory]
        if known:
            return GPUS[known[-1]][0]
    return matmul_flops(device, dtype)


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Best measured FLOP/s of a square matrix product.

    On a CPU it is measured on one core, in CPU time, and multiplied by PyTorch's number of threads: so neither other
    programs nor waiting threads lower it.
    """
    if device.type != "cpu":
        return _square(device, dtype, time.perf_counter)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return threads * _square(device, dtype, time.process_time)
    finally:
        torch.set_num_threads(threads)


def _square(device: torch.device, dtype: torch.dtype, clock: Callable[[], float]) -> float:
    factor = torch.randn(_SIZE, _SIZE, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(_ROUNDS):
        begun = clock()
        product = factor @ factor
        product[0, 0].item()  # waits for a GPU
        best = min(best, clock() - begun)
    return 2.0 * _SIZE**3 / best


def peak_memory(device: torch.device) -> float:
    """The most GiB that this process has held: on the GPU, or resident in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
