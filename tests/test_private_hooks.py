"""Names without a promise of stability that atlas_ray uses in PyTorch, transformers, Ray and vLLM: one test for each.

A test that fails after an upgrade says which file uses the name and what to do. Left out: the results, which the tests
of the components check. vLLM and Ray Serve LLM are imported in a process of their own, because vLLM keeps the settings
of its first import.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.train.v2._internal import constants
from ray.train.v2._internal.execution.storage import StorageContext
from torch import nn
from torch.distributed.checkpoint.state_dict_saver import save as save_sharded
from transformers import AutoConfig, PreTrainedModel
from transformers.modeling_flash_attention_utils import FlashAttentionKwargs
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from atlas_ray.cluster import LEAN_SERVE
from atlas_ray.config import LoraConfig
from atlas_ray.inference.engine import vllm_environment
from atlas_ray.training import attention, exact, last_layer, lora, trainer
from tests.conftest import ROOT
from tests.training.tiny import SHAPE, save, tiny

FAMILIES = ("llama", "qwen2", "qwen3", "mistral")
"""Model families whose last layer `training/last_layer.py` writes anew."""


def model_of(family: str) -> PreTrainedModel:
    return exact.meta_model(AutoConfig.for_model(family, **SHAPE))


# --- PyTorch ---------------------------------------------------------------------------------------------------------
def test_softmax_backward() -> None:
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    weights, above = scores.softmax(-1), torch.randn(3, 5, dtype=torch.float64)
    [expected] = torch.autograd.grad(weights, scores, above)
    found = torch._softmax_backward_data(above, weights.detach(), -1, torch.float64)
    assert torch.allclose(found, expected), (
        "torch._softmax_backward_data(gradient, output, dim, dtype) has changed: in training/block_attention.py write "
        "weights * (of_weights - (of_weights * weights).sum(-1, keepdim=True)) instead"
    )


@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_base_of_dropout_layers(kind: Any) -> None:
    layer = kind(0.25)
    assert isinstance(layer, nn.modules.dropout._DropoutNd), (
        f"{kind.__name__} is no nn.modules.dropout._DropoutNd any more: name its new base in training/exact.py "
        "(_dropouts), else trajectories are packed although dropout draws by position"
    )
    assert layer.p == 0.25


def test_base_of_a_view() -> None:
    whole = torch.zeros(4, 4, device="meta")
    assert whole[1:]._base is whole, (
        "a view's Tensor._base is no longer the tensor that it looks at: training/dry_run.py counts saved tensors by it"
    )
    assert whole._base is None


def test_a_sharded_checkpoint_is_complete_once_it_has_its_metadata_file(tmp_path: Path) -> None:
    save_sharded({"weight": torch.zeros(2)}, checkpoint_id=str(tmp_path / "state"))
    assert (tmp_path / "state" / ".metadata").is_file(), (
        "torch.distributed.checkpoint names its metadata file otherwise: change the name in training/checkpoint.py "
        "(_steps), which takes a state without it for incomplete"
    )


# --- transformers ----------------------------------------------------------------------------------------------------
def test_attention_registries() -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    attention.register()
    for name in (attention.NAMES["sdpa"], attention.NAMES["flex"]):
        assert name in ALL_ATTENTION_FUNCTIONS, (
            "AttentionInterface.register no longer reaches the models: find the new registry for training/attention.py"
        )
        assert name not in ALL_MASK_ATTENTION_FUNCTIONS, (
            "transformers has a mask function for our attention: it would build the dense mask of a whole row"
        )


def test_the_attention_implementation_of_a_config_can_be_set() -> None:
    attention.register()
    config = AutoConfig.for_model("llama", **SHAPE)
    config._attn_implementation = attention.NAMES["sdpa"]
    assert exact.meta_model(config).config._attn_implementation == attention.NAMES["sdpa"], (
        "config._attn_implementation no longer chooses a model's attention: in training/model.py (_blank) and "
        "training/dry_run.py give attn_implementation to the constructor"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_models_say_that_they_take_attention_implementations(family: str) -> None:
    assert getattr(model_of(family), "_supports_attention_backend", None) is True, (
        f"{family} does not say _supports_attention_backend: training/exact.py would switch packing off; find the new "
        "name of the flag"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_models_name_the_layers_that_are_not_split(family: str) -> None:
    model = model_of(family)
    layers = {type(layer).__name__ for layer in model.base_model.layers}
    assert layers <= set(model._no_split_modules or ()), (
        f"{family}._no_split_modules does not name its decoder layer: training/model.py (_shard) would shard the model "
        "as one piece; take the layers from model.base_model.layers"
    )


def test_a_model_with_an_adapter_can_be_saved_without_it() -> None:
    model = tiny("llama")
    lora.add(model, LoraConfig(rank=2))
    assert model._hf_peft_config_loaded is True, (
        "transformers no longer keeps _hf_peft_config_loaded: training/export.py sets it to False so that "
        "save_pretrained writes the merged weights; find the new flag, or save with safetensors directly"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_last_layers_have_the_known_parts(family: str) -> None:
    model = model_of(family)
    says = (
        f"the decoder layer of {family} has changed: compare its forward pass with training/last_layer.py (_forward), "
        "adapt that, and run tests/training/test_loss.py"
    )
    assert last_layer.obstacle(model) is None, says
    layer: Any = model.base_model.layers[-1]
    assert {"hidden_states", "position_embeddings"} <= inspect.signature(type(layer).forward).parameters.keys(), says
    assert layer.self_attn.head_dim == SHAPE["head_dim"], says
    assert layer.self_attn.scaling == SHAPE["head_dim"] ** -0.5, says


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_turn_queries_and_keys_alike(family: str) -> None:
    module = sys.modules[type(model_of(family)).__module__]
    torch.manual_seed(0)
    query, key = torch.randn(1, 2, 5, 8), torch.randn(1, 1, 5, 8)
    cos, sin = torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    found = last_layer.apply_rotary_pos_emb(query, key, cos, sin)
    for mine, own in zip(found, module.apply_rotary_pos_emb(query, key, cos, sin), strict=True):
        assert torch.equal(mine, own), (
            f"apply_rotary_pos_emb of {family} is no longer Llama's: take {family} out of training/last_layer.py "
            "(_LAYERS), or call the family's own function there"
        )


def test_flash_attention_takes_the_borders_of_documents() -> None:
    names = {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"}
    assert names <= FlashAttentionKwargs.__annotations__.keys(), (
        "transformers names the arguments of varlen FlashAttention otherwise: change training/attention.py (inputs)"
    )


def test_the_mapping_of_causal_language_models() -> None:
    assert all(type(AutoConfig.for_model(family)) in MODEL_FOR_CAUSAL_LM_MAPPING for family in FAMILIES), (
        "MODEL_FOR_CAUSAL_LM_MAPPING has no configurations as keys any more: training/model.py (config_of) uses it to "
        "refuse encoders"
    )
    assert type(AutoConfig.for_model("vit")) not in MODEL_FOR_CAUSAL_LM_MAPPING


# --- Ray Train -------------------------------------------------------------------------------------------------------
def test_the_id_of_a_placement_group_ends_with_that_of_its_job() -> None:
    job = ray.JobID.from_int(7)
    assert ray.PlacementGroupID.of(job).hex().endswith(job.hex()), (
        "training/trainer.py (_placement_groups) finds those of this job by it; without it the room that a killed "
        "controller held stays taken on clusters without a dashboard"
    )


def test_snapshot_file_of_ray_train() -> None:
    assert constants.CHECKPOINT_MANAGER_SNAPSHOT_FILENAME == trainer._SNAPSHOT, (
        "Ray Train names its list of checkpoints otherwise: change training/trainer.py (_SNAPSHOT), else a run that "
        "was killed while the list was written cannot resume"
    )


def test_storage_of_ray_train(tmp_path: Path) -> None:
    storage = StorageContext(str(tmp_path), "training_state")
    assert storage.experiment_fs_path == str(tmp_path / "training_state"), (
        "Ray Train's storage has no experiment_fs_path below storage_path any more: training/loop.py (_report) reports "
        "states that lie there already"
    )
    assert storage.storage_filesystem.get_file_info(str(tmp_path)).type.name == "Directory"


def test_switches_of_ray_train() -> None:
    known = {getattr(constants, name) for name in dir(constants) if name.endswith("_ENV_VAR")}
    for name, effect in {
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "training/trainer.py: each line of a worker would be shown twice",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "tests/training/conftest.py: each run would start one more process",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "tests/training/conftest.py: the tests would wait for each poll",
    }.items():
        assert name in known, f"Ray Train does not read {name} any more; {effect}"


def test_failures_of_workers_are_named() -> None:
    from ray.train import TrainingFailedError
    from ray.train.v2.api.exceptions import WorkerGroupError

    error = WorkerGroupError("a worker failed", {1: ValueError("why")})
    assert isinstance(error, TrainingFailedError)
    assert trainer._last_line(error) == "why", (
        "a WorkerGroupError has no worker_failures by rank any more: training/trainer.py (_last_line) takes the reason "
        "of a failed training from there"
    )


# --- vLLM and Ray Serve LLM -------------------------------------------------------------------------------------------
PROBE = """
import dataclasses, inspect, json, sys

def names(function): return sorted(function.__code__.co_names)
def parameters(function): return list(inspect.signature(function).parameters)

from typing import get_args

from vllm import envs, exceptions
from vllm.config.lora import MaxLoRARanks
from vllm.engine.arg_utils import EngineArgs
from vllm.entrypoints.launchers.cli_args import FrontendArgs
from vllm.tool_parsers import ToolParser
from vllm.v1.engine.llm_engine import LLMEngine
from vllm.v1.outputs import LogprobsTensors
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.gpu_input_batch import CachedRequestState
from vllm.v1.worker.gpu.input_batch import InputBatch
from vllm.v1.worker.gpu.sample.prompt_logprob import PromptLogprobsWorker
from vllm.v1.worker.gpu_worker import Worker
from vllm.model_executor.model_loader.reload.inplace import reload_weights
tensors = LogprobsTensors.empty_cpu(3, 1)
facts = {
    "runner": parameters(CPUModelRunner._get_prompt_logprobs_dict),
    "runner_names": names(CPUModelRunner._get_prompt_logprobs_dict),
    "request": [field.name for field in dataclasses.fields(CachedRequestState)],
    "gpu_worker": {name: parameters(getattr(PromptLogprobsWorker, name)) for name in
                   ("__init__", "add_request", "remove_request", "compute_prompt_logprobs")},
    "gpu_batch": [field.name for field in dataclasses.fields(InputBatch)],
    "reload": [parameters(reload_weights), "reload_weights" in names(Worker.reload_weights)],
    "tensors": [list(getattr(tensors, name).shape) for name in
                ("logprob_token_ids", "logprobs", "selected_token_ranks")],
    "engine": {name: parameters(getattr(LLMEngine, name)) for name in
               ("from_engine_args", "collective_rpc", "add_request", "step")},
    "engine_args": [field.name for field in dataclasses.fields(EngineArgs)],
    "variables": sorted(envs.environment_variables),
    "client_error": issubclass(exceptions.VLLMClientError, Exception),
}

from ray import serve
from ray.llm._internal.serve import constants
from ray.llm._internal.serve.core.configs.openai_api_models import to_model_metadata
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.serve._private.constants import CONTROL_LOOP_INTERVAL_S
from ray.serve.llm import LLMConfig
from ray.serve.llm.ingress import OpenAiIngress, make_fastapi_ingress
config = LLMConfig(model_loading_config={"model_id": "agent", "model_source": sys.argv[1]})
facts |= {
    "prepare": parameters(VLLMEngine._prepare_engine_config),
    "prepare_is_used": "_prepare_engine_config" in names(VLLMEngine.start),
    "run_init_node": config.get_or_create_callback().ctx.run_init_node,
    "run_init_node_is_read": "run_init_node" in inspect.getsource(sys.modules[VLLMEngine.__module__]),
    "engine_variable": constants.RAYLLM_VLLM_ENGINE_CLS_ENV,
    "card": to_model_metadata(config.model_id, config).id,
    "ingress": parameters(make_fastapi_ingress),
    "process": parameters(OpenAiIngress._process_llm_request),
    "respond": parameters(OpenAiIngress._get_response),
    "cards_are_kept": "_model_cards" in names(OpenAiIngress.__init__),
    "model_id": parameters(OpenAiIngress._get_model_id),
    "handle": parameters(OpenAiIngress._get_configured_serve_handle),
    "handles_are_asked_for": "_get_configured_serve_handle" in names(OpenAiIngress._get_response),
    "frontend": [field.name for field in dataclasses.fields(FrontendArgs)],
    "ranks": list(get_args(MaxLoRARanks)),
    "parse": parameters(ToolParser.extract_tool_calls),
    "delete": parameters(serve.delete),
    "control_loop": CONTROL_LOOP_INTERVAL_S,
}
print("FACTS", json.dumps(facts))
"""


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What vLLM and Ray Serve LLM have, as an interpreter of its own finds them."""
    model = save(tiny("llama"), tmp_path_factory.mktemp("llama"))
    environment = os.environ | vllm_environment(cuda=False, kv_cache_gib=1) | LEAN_SERVE | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", PROBE, model], env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, (
        "a private name has moved; the last lines say which, and `grep -r NAME atlas_ray` who uses it:\n"
        + ran.stderr[-1500:]
    )
    line = next(line for line in ran.stdout.splitlines() if line.startswith("FACTS "))
    found: dict[str, Any] = json.loads(line.removeprefix("FACTS "))
    return found


SCORING = (
    "inference/scoring.py replaces _get_prompt_logprobs_dict of vLLM's CPU model runner: compare it with the new "
    "method, or leave score_chosen_positions_alone (inference/worker.py) out, which costs time and changes no score"
)


def test_the_method_that_scoring_replaces(facts: dict[str, Any]) -> None:
    assert facts["runner"] == ["self", "hidden_states", "num_scheduled_tokens"], SCORING


def test_the_state_of_the_runner_that_scoring_reads(facts: dict[str, Any]) -> None:
    read = {
        "num_prompt_logprobs", "requests", "query_start_loc", "np", "input_batch", "req_id_to_index", "model",
        "compute_logits", "prompt_token_ids", "num_computed_tokens", "in_progress_prompt_logprobs_cpu",
    }  # fmt: skip
    missing = read - set(facts["runner_names"])
    assert not missing, f"vLLM's own method does not read {sorted(missing)} any more; {SCORING}"


def test_the_state_of_a_request_that_scoring_writes(facts: dict[str, Any]) -> None:
    fields = {"in_progress_prompt_logprobs_cpu", "prompt_token_ids", "num_computed_tokens", "sampling_params"}
    assert fields <= set(facts["request"]), SCORING


def test_the_worker_of_gpus_that_scoring_derives_from(facts: dict[str, Any]) -> None:
    worker = facts["gpu_worker"]
    assert worker["__init__"][:3] == ["self", "max_num_reqs", "device"], SCORING
    assert worker["add_request"] == ["self", "req_id", "req_idx", "sampling_params"], SCORING
    assert worker["remove_request"] == ["self", "req_id"], SCORING
    assert worker["compute_prompt_logprobs"] == [
        "self", "logits_fn", "hidden_states", "input_batch", "all_token_ids", "num_computed_tokens", "prompt_lens"
    ], SCORING  # fmt: skip
    read = {
        "req_ids", "idx_mapping_np", "num_computed_prefill_tokens_np", "prefill_len_np", "num_scheduled_tokens",
        "query_start_loc_np",
    }  # fmt: skip
    assert read <= set(facts["gpu_batch"]), SCORING


def test_weights_can_be_read_into_an_engine(facts: dict[str, Any]) -> None:
    assert "weights_path" in facts["reload"][0], (
        "inference/worker.py (take_weights) reads another model's weights into an engine: find the new way, or start "
        "one for every model (rollout/player.py, Engines.of)"
    )
    assert facts["reload"][1]


def test_the_tensors_that_scoring_fills(facts: dict[str, Any]) -> None:
    assert facts["tensors"] == [[3, 1], [3, 1], [3]], SCORING


def test_the_engine_that_is_stepped_in_this_process(facts: dict[str, Any]) -> None:
    engine = facts["engine"]
    says = "inference/engine.py drives vLLM's LLMEngine, which is no public API: adapt Engine.__init__ and Engine._run"
    assert "engine_args" in engine["from_engine_args"], says
    assert engine["collective_rpc"][:2] == ["self", "method"], says
    assert engine["add_request"][1:4] == ["request_id", "prompt", "params"], says
    assert engine["step"] == ["self"], says


def test_arguments_and_variables_of_vllm(facts: dict[str, Any]) -> None:
    arguments = {
        "model", "max_model_len", "max_num_seqs", "enable_prefix_caching", "dtype", "tensor_parallel_size",
        "gpu_memory_utilization", "enforce_eager", "block_size", "enable_chunked_prefill",
        "distributed_executor_backend", "disable_log_stats", "worker_extension_cls",
    }  # fmt: skip
    missing = arguments - set(facts["engine_args"])
    assert not missing, f"vLLM's EngineArgs have no {sorted(missing)}: change inference/engine.py (engine_arguments)"
    variables = {name for name in vllm_environment(cuda=False, kv_cache_gib=1) if name.startswith("VLLM_")}
    missing = variables - set(facts["variables"])
    assert not missing, f"vLLM does not read {sorted(missing)}: change inference/engine.py (vllm_environment)"


def test_errors_of_a_client_of_vllm(facts: dict[str, Any]) -> None:
    assert facts["client_error"], "serving/ingress.py answers vllm.exceptions.VLLMClientError with a 400: find its name"


SERVED_ON_CPUS = (
    "serving/engine.py saves two processes on CPUs through it: adapt CpuEngine, or delete it together with "
    "RAYLLM_VLLM_ENGINE_CLS in serving/app.py, which costs memory and start-up time only"
)


def test_the_engine_of_ray_serve_prepares_its_configuration(facts: dict[str, Any]) -> None:
    assert facts["prepare"] == ["self", "callback_ctx"], SERVED_ON_CPUS
    assert facts["prepare_is_used"], SERVED_ON_CPUS


def test_ray_serve_can_be_kept_from_fetching_the_model(facts: dict[str, Any]) -> None:
    assert facts["run_init_node"] is True, SERVED_ON_CPUS
    assert facts["run_init_node_is_read"], SERVED_ON_CPUS


def test_the_engine_class_of_ray_serve_can_be_chosen(facts: dict[str, Any]) -> None:
    assert facts["engine_variable"] == "RAYLLM_VLLM_ENGINE_CLS", SERVED_ON_CPUS


def test_the_card_of_a_served_model(facts: dict[str, Any]) -> None:
    assert facts["card"] == "agent", "serving/app.py (_card) makes the entries of /v1/models with to_model_metadata"


def test_the_ingress_of_ray_serve(facts: dict[str, Any]) -> None:
    says = "serving/ingress.py builds on OpenAiIngress, serving/app.py on make_fastapi_ingress: adapt AgentIngress"
    assert facts["ingress"] == ["cls", "endpoint_map", "app"], says
    assert facts["process"] == ["self", "body", "call_method", "raw_request"], says
    assert {"body", "call_method"} <= set(facts["respond"]), says
    assert facts["cards_are_kept"], says
    assert (facts["model_id"], facts["handle"]) == (["self", "model"], ["self", "model_id"]), says
    assert facts["handles_are_asked_for"], says


def test_adapters_and_tool_calls_of_a_served_model(facts: dict[str, Any]) -> None:
    says = "serving/app.py (_adapted, _calling) sets them: adapt it"
    assert {"lora_modules", "enable_auto_tool_choice", "tool_call_parser"} <= set(facts["frontend"]), says
    assert {"enable_lora", "max_loras", "max_lora_rank"} <= set(facts["engine_args"]), says
    assert facts["ranks"] == sorted(facts["ranks"]), "serving/app.py (_adapted) takes the first rank that is enough"
    assert all(isinstance(rank, int) for rank in facts["ranks"]), says


def test_the_parsers_of_tool_calls(facts: dict[str, Any]) -> None:
    assert facts["parse"] == ["self", "model_output", "request"], "inference/call_parser.py calls it: adapt CallParser"


def test_an_application_can_be_deleted_without_waiting(facts: dict[str, Any]) -> None:
    assert "_blocking" in facts["delete"], "serving/app.py (stop) deletes the application and waits for it on its own"


def test_the_interval_of_ray_serves_controller(facts: dict[str, Any]) -> None:
    assert facts["control_loop"] == float(LEAN_SERVE["RAY_SERVE_CONTROL_LOOP_INTERVAL_S"]), (
        "Ray Serve does not read RAY_SERVE_CONTROL_LOOP_INTERVAL_S any more, so its controller takes a fifth of a "
        "core: see cluster.py (LEAN_SERVE)"
    )
