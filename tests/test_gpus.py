"""A cluster's GPUs count where the installed torch can use them."""

from __future__ import annotations

import subprocess
import sys

import torch


def test_gpus_that_torch_was_not_built_for_do_not_count() -> None:
    code = (
        "import ray; from atlas_ray.gpus import usable_gpus; "
        "ray.init(num_cpus=1, num_gpus=2, include_dashboard=False, logging_level='error'); "
        "print(int(ray.cluster_resources()['GPU']), usable_gpus())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert said.stdout.split() == ["2", "0" if torch.version.cuda is None else "2"], said.stderr
