"""What only a GPU runs: flex_attention's backward pass, compiled layers in bf16, NCCL, states written meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from atlas_ray.config import TrainConfig
from atlas_ray.store import Store
from atlas_ray.training import checkpoint
from atlas_ray.training.loop import backward, rows_of, sized_for
from atlas_ray.training.loss import attention_inputs, token_losses
from atlas_ray.training.model import Network, Recipe, load, load_sharded
from atlas_ray.training.reference import padded_loss
from tests.training.test_loss import FRACTIONS, Gradients, denominator, examples, gradients, worst
from tests.training.test_trainer import TOTAL, log_rows, same
from tests.training.tiny import ALL, save, tiny

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

GPU = torch.device("cuda", 0)


@pytest.fixture(scope="module", params=["llama", "qwen2", "mistral"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tiny(request.param), tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def plain(path: str) -> tuple[float, Gradients]:
    """Loss and gradient of a padded batch, in fp32 on the GPU."""
    of = examples(FRACTIONS, truncate=False)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    loss = padded_loss(model.to(GPU).train(), of, denominator(of))
    loss.backward()
    return loss.item(), gradients(model)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of one, as Ray Train makes it."""
    dist.init_process_group("cpu:gloo,cuda:nccl", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("capacity", [10_000, 250])
@pytest.mark.parametrize("kernel", ["flex", "sdpa"])
def test_gradient_equals_the_plain_one(path: str, plain: tuple[float, Gradients], kernel: str, capacity: int) -> None:
    of, total = examples(FRACTIONS), 0.0
    loaded: Network = load(Recipe(path, ALL, kernel, TrainConfig()))
    loaded.model.to(GPU)
    for row in rows_of(of, 0, 1, capacity, ALL, GPU):
        loss = (token_losses(loaded, row) * row.weights).sum() / denominator(of)
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(plain[0], rel=1e-5)
    assert worst(gradients(loaded.model), plain[1]) < 1e-5


@pytest.mark.parametrize("compiled", ["auto", True, False])  # with CUDA graphs, without, not at all
@pytest.mark.parametrize("options", [TrainConfig(), TrainConfig(activation_checkpointing=True)])
def test_bf16_is_the_same_gradient_rounded(
    path: str, plain: tuple[float, Gradients], options: TrainConfig, compiled: str | bool, group: None
) -> None:
    of = examples(FRACTIONS)
    options = options.model_copy(update={"compile": compiled})
    network = load_sharded(Recipe(path, ALL, "flex", options), GPU, 0, 1)
    assert {weight.dtype for weight in network.model.parameters()} == {torch.float32}
    rows = [sized_for(network, row, 300) for row in rows_of(of, 0, 1, 300, ALL, torch.device("cpu"))]
    for _ in range(4):  # a graph is warmed up, recorded, and replayed
        network.clear_gradients()
        result = backward(network, [row.moved(GPU) for row in rows], denominator(of), 1)
        assert result.loss == pytest.approx(plain[0], rel=1e-2)
        found = gradients(network.model)
        assert {gradient.dtype for gradient in found.values()} == {torch.float32}
        assert worst(found, plain[1]) < 0.1


def test_a_step_waits_for_the_gpu_once(path: str, group: None) -> None:
    of = examples(FRACTIONS)
    network = load_sharded(Recipe(path, ALL, "flex", TrainConfig()), GPU, 0, 1)
    tuned = list(network.model.parameters())
    for number in range(6):
        rows = [sized_for(network, row, 300).moved(GPU) for row in rows_of(of, 0, 1, 300, ALL, torch.device("cpu"))]
        for row in rows:
            attention_inputs(network, row)  # made ahead
        network.clear_gradients()
        torch.cuda.set_sync_debug_mode("error" if number > 3 else "default")  # the first steps compile
        try:
            result = backward(network, rows, denominator(of), 1)
            torch.nn.utils.clip_grad_norm_(tuned, 1.0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert result.broken == []


def test_after_training_an_engine_can_have_the_card(llama: str, tmp_path: Path) -> None:
    assert start(tmp_path, llama).wait() == 0
    torch.cuda.empty_cache()
    free, whole = torch.cuda.mem_get_info()
    assert free > 0.95 * whole


def start(run_dir: Path, base: str) -> subprocess.Popen[bytes]:
    """A driver with a cluster of its own: whatever it started dies with it."""
    code = (
        "import sys, ray; from pathlib import Path; from tests.training import test_trainer; "
        "ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False); "
        "test_trainer.run(Path(sys.argv[1]), sys.argv[2], workers=1)"
    )
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([".", os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen([sys.executable, "-c", code, str(run_dir), base], env=environment)


def test_a_killed_run_ends_with_the_weights_of_the_undisturbed_one(llama: str, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert start(undisturbed, llama).wait() == 0
    driver = start(killed, llama)
    while checkpoint.latest(Store(str(killed)), "llm") < 4:
        assert driver.poll() is None
        time.sleep(0.01)
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    assert not (killed / "checkpoints" / "llm" / "config.json").exists()
    assert not psutil.wait_procs(family, timeout=120)[1]  # the GPU is free again
    assert start(killed, llama).wait() == 0
    assert same(
        *(load_file(run_dir / "checkpoints" / "llm" / "model.safetensors") for run_dir in (undisturbed, killed))
    )
    rows = log_rows(killed)
    assert [row["step"] for row in rows] == list(range(1, TOTAL + 1))
    assert rows[-1]["loss"] < rows[0]["loss"]
