"""Whether GPUs can be used, and the line that says why not: decisions over facts, without a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from atlas_ray import gpus
from atlas_ray.gpus import Installation, flaw, flaw_of_cuda, installation, lack, usable_gpus

SOUND = Installation(built_for="13.0", driver="13.1", gpus=2)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (SOUND, None),
        (replace(SOUND, driver="13.0"), None),
        (replace(SOUND, built_for="12.8"), None),  # an older build runs on a newer driver
        (replace(SOUND, built_for=None, driver=None, gpus=0), None),
        (replace(SOUND, has_flashinfer=False), None),  # vLLM's own sampler does
        (replace(SOUND, driver=None, gpus=0), "built for CUDA 13.0, but this machine has no NVIDIA driver"),
        (replace(SOUND, driver="12.4"), "the NVIDIA driver runs CUDA up to 12.4, PyTorch was built for 13.0; update"),
        (replace(SOUND, gpus=0), "sees no GPU; unset CUDA_VISIBLE_DEVICES"),
        (replace(SOUND, built_for=None, has_numa=False), "build for CPUs needs the library libnuma.so.1; apt"),
        (replace(SOUND, has_numa=False), None),
        (replace(SOUND, has_vllm=False), "vLLM is not installed"),
        (replace(SOUND, built_for=None, has_vllm=False), "vLLM is not installed"),
    ],
)
def test_a_flaw_of_an_installation_is_one_line_that_says_what_to_do(found: Installation, line: str | None) -> None:
    said = flaw(found)
    assert (said is None) == (line is None)
    if said is not None and line is not None:
        assert line in said
        assert "\n" not in said
    needs_no_engine = replace(found, has_vllm=True, has_numa=True)
    assert flaw_of_cuda(found) == flaw(needs_no_engine)  # training needs no vLLM


def test_this_installation_has_no_flaw_and_makes_no_context() -> None:
    found = installation()
    assert flaw(found) is None or torch.version.cuda is not None
    assert found.built_for == torch.version.cuda
    assert (found.gpus == 0) == (not torch.cuda.is_available())
    assert not torch.cuda.is_initialized()


@pytest.mark.parametrize(
    ("copies", "each", "nodes", "fits"),
    [
        (1, 1, [1], True), (2, 2, [4], True), (2, 2, [2, 2], True), (4, 2, [8, 0], True), (1, 1, [0, 1], True),
        (1, 1, [], False), (3, 2, [4], False), (1, 4, [2, 2], False), (2, 3, [4, 4], True), (3, 3, [4, 4, 1], False),
    ],
)  # fmt: skip
def test_copies_need_their_gpus_on_one_node_each(copies: int, each: int, nodes: list[int], fits: bool) -> None:
    said = lack(copies, each, nodes, "engine.replicas=N")
    assert (said is None) == fits
    if said is not None:
        assert f"engine.replicas=N asks for {copies * each} GPUs" in said
        assert f"the cluster has {sum(nodes)} ({max(nodes, default=0)} on its largest node)" in said


def test_gpus_that_torch_was_not_built_for_do_not_count(ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "is_built_for_gpus", lambda: False)
    assert usable_gpus() == 0
    monkeypatch.setattr(gpus, "is_built_for_gpus", lambda: True)
    assert usable_gpus() == sum(gpus.gpus_by_node()) == (4 if torch.version.cuda is None else 0)
