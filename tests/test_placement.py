"""Every request for GPUs is placed on a cluster with four logical ones; only what would compute on them does not.

The driver believes that PyTorch was built for GPUs, so it reserves them as on a cluster that has some. The engine of
`perplexity` is vLLM on the CPU; where another test covers the answers, an engine that answers at once stands in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.data
import torch
from ray import serve
from ray.util import placement_group_table

from atlas_ray import gpus
from atlas_ray.config import PipelineConfig
from atlas_ray.config_files import load
from atlas_ray.errors import ClusterError
from atlas_ray.evaluation import evaluate as evaluating
from atlas_ray.evaluation import forked
from atlas_ray.inference.engine import engine_environment, engine_resources
from atlas_ray.rollout import player
from atlas_ray.roster import RosterEntry
from atlas_ray.selection.method import make
from atlas_ray.selection.run import run
from atlas_ray.serving import app
from atlas_ray.store import Store
from atlas_ray.training import trainer
from tests.placed import PlacedScorer, ReadyEngine, ReadyServer, worker_without_its_gpu
from tests.rollout.experts import OPTIONS, expert_trajectories
from tests.selection.data import context, trajectory
from tests.training.tiny import trajectory as trained

pytestmark = [
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.skipif(torch.version.cuda is not None, reason="with CUDA the tests of single parts use the GPUs"),
]

TWO_BY_TWO = {"engine": {"replicas": 2, "tensor_parallel": 2, "max_model_len": 512, "cpu_kv_cache_gib": 1}}
ONE_SERVER = {"servers": 1, "memory_gib": 0.5}


@pytest.fixture(autouse=True)
def _the_gpus_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "is_built_for_gpus", lambda: True)


def are_two_pairs(found: list[list[int]]) -> bool:
    return sorted(map(len, found)) == [2, 2] and len({*found[0], *found[1]}) == 4


# --- selection -------------------------------------------------------------------------------------------------------
def test_perplexity_has_an_engine_of_two_gpus_twice(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, store = load(None, {"model": tiny_model, **TWO_BY_TWO}), Store(str(tmp_path))
    method = make(config.selection("perplexity"))
    monkeypatch.setattr(type(method), "stage", PlacedScorer)
    monkeypatch.setattr(ray.data.DataContext.get_current(), "wait_for_min_actors_s", 120)
    store.write_trajectories([trajectory(number, 2) for number in range(40)])  # two chunks
    facts = run(context(config, store), method)
    assert facts["error_rows"] == 0
    assert are_two_pairs([json.loads(file.read_text()) for file in (tmp_path / "placed").iterdir()])


# --- episodes --------------------------------------------------------------------------------------------------------
@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """The GPUs of each engine, for every model that plays."""
    found: list[list[list[int]]] = []
    monkeypatch.setattr(player, "EngineActor", ray.remote(ReadyEngine))
    own = player.playing

    @contextmanager
    def noting(*arguments: Any) -> Iterator[player.ModelSpec]:
        with own(*arguments) as model:
            found.append(ray.get([each.__ray_call__.remote(lambda _: ray.get_gpu_ids()) for each in model.engines]))
            yield model

    monkeypatch.setattr(evaluating, "playing", noting)
    monkeypatch.setattr(forked, "playing_model", noting)
    return found


def test_evaluation_has_its_replicas_and_gives_them_back(
    tmp_path: Path, tiny_model: str, placed: list[list[list[int]]]
) -> None:
    settings = {"environments": ["textcraft"], "tasks": 2}
    config = PipelineConfig.model_validate(
        TWO_BY_TWO | {"environments": OPTIONS, "evaluate": settings, "rollout": ONE_SERVER}
    )
    with player.Engines(config.engine) as kept:
        for name in ("base", "tuned"):
            entry = RosterEntry(name, "base", name, directory=tiny_model)
            table = evaluating.evaluate(config, Store(str(tmp_path)), entry, kept)
            assert table["environments"]["textcraft"]["errors"] == 0
    assert len(placed) == 2
    assert placed[0] == placed[1]  # the second model plays on the engines of the first
    assert are_two_pairs(placed[0])
    with player.engines(config.engine, "next", tiny_model) as model:  # which waits for ever if a GPU is still held
        assert len(model.engines) == 2


def test_value_rollouts_have_a_gpu(tmp_path: Path, tiny_model: str, placed: list[list[list[int]]]) -> None:
    chosen = {"select": {"value": {"rollouts": 2, "model": tiny_model}}, "rollout": ONE_SERVER}
    config = PipelineConfig.model_validate({"model": tiny_model, "environments": OPTIONS} | chosen)
    store = Store(str(tmp_path))
    store.write_trajectories(expert_trajectories()[:1])
    assert run(context(config, store), make(config.selection("value")))["error_rows"] == 0
    assert [[len(engine) for engine in model] for model in placed] == [[1]]


def test_more_gpus_than_there_are_is_one_line(tiny_model: str) -> None:
    engine = PipelineConfig.model_validate({"engine": {"replicas": 3, "tensor_parallel": 2}}).engine
    assert engine_resources(engine.model_copy(update={"replicas": 2})) == {"num_gpus": 2, "num_cpus": 1}
    assert engine_environment(engine) == {}
    with pytest.raises(
        ClusterError, match=r"engine.replicas=3 with engine.tensor_parallel=2 asks for 6 GPUs, 2 on one"
    ):
        engine_resources(engine)
    config = PipelineConfig.model_validate({"engine": {"tensor_parallel": 2}, "serve": {"min_replicas": 2}})
    with pytest.raises(
        ClusterError, match=r"2 model\(s\) with serve.min_replicas=2, engine.tensor_parallel=2 asks for 8"
    ):
        app.build(config, {"a": tiny_model, "b": tiny_model}, None)
    with pytest.raises(ClusterError, match="train.workers=5 asks for 5 GPUs, 1 on one node; the cluster has 4"):
        trainer._scaling(config.train.model_copy(update={"workers": 5}))


# --- training --------------------------------------------------------------------------------------------------------
def test_each_training_worker_has_a_gpu(tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backends, own = [], trainer.TorchConfig

    def without_nccl(backend: str) -> Any:
        backends.append(backend)
        return own(backend="gloo")

    monkeypatch.setattr(trainer, "TorchConfig", without_nccl)
    monkeypatch.setattr(trainer, "run_worker", worker_without_its_gpu)
    options = {"epochs": 1, "batch_size": 2, "workers": 2, "attention": "sdpa"}  # flex has no backward pass on CPUs
    config = load(None, {"run_dir": str(tmp_path), "train": options, "model": tiny_model})
    trajectories = [trained(number, 2) for number in range(2)]
    path = trainer.train(
        config, Store(str(tmp_path)), name="llm", start=RosterEntry("base", "base", "k", directory=tiny_model),
        trajectories=trajectories, labels={one.trajectory_id: {1: 1.0} for one in trajectories},
        options=config.train.for_tuning(), seed=0,
    )  # fmt: skip
    assert Path(path, "model.safetensors").is_file()
    assert backends == ["cpu:gloo,cuda:nccl"]
    given = [json.loads((tmp_path / "placed" / f"{rank}.json").read_text()) for rank in range(2)]
    assert [len(each) for each in given] == [1, 1]
    assert given[0] != given[1]


# --- serving ---------------------------------------------------------------------------------------------------------
def test_each_replica_of_the_service_has_its_gpus(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = app.vllm_environment
    stands_in = {"RAYLLM_VLLM_ENGINE_CLS": f"{ReadyServer.__module__}.{ReadyServer.__name__}"}
    monkeypatch.setattr(app, "vllm_environment", lambda **given: own(**given) | stands_in)
    config = PipelineConfig.model_validate(
        {"engine": {"tensor_parallel": 2}, "serve": {"min_replicas": 2, "max_replicas": 2}}
    )
    llm = app._llm(config.engine, config.serve, "agent", tiny_model, {})
    assert llm.engine_kwargs["tensor_parallel_size"] == 2
    try:
        serve.start(http_options={"location": "NoServer"})
        serve.run(app.build_llm_deployment(llm), name="placement", route_prefix=None)
        tables = [table for table in placement_group_table().values() if table["state"] == "CREATED"]
        held = [[bundle["GPU"] for bundle in table["bundles"].values() if "GPU" in bundle] for table in tables]
        assert [each for each in held if each] == [[1, 1], [1, 1]]
    finally:
        serve.shutdown()
