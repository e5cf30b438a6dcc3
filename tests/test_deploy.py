"""The cluster files name what is there (scripts, options, one image, the locked Ray), in the form that is asked for."""

from __future__ import annotations

import gzip
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

import atlas_ray
from atlas_ray.cli.options import parse_args
from atlas_ray.config_files import load
from tests.conftest import ROOT

CHECKOUT = "/home/ray/atlas-ray"
"""Where the image holds it."""
CLUSTERS = {"rayjob": "rayClusterSpec", "rayservice": "rayClusterConfig"}
SCHEMAS = ROOT / "tests" / "golden" / "kuberay-1.7.0.json.gz"
"""Of RayJob and RayService: what the CRDs of KubeRay 1.7.0 (Apache-2.0) say of version v1, without the descriptions."""


def spec(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "kuberay" / f"{name}.yaml").read_text())["spec"]
    return found


def containers(name: str) -> Iterator[dict[str, Any]]:
    cluster = spec(name)[CLUSTERS[name]]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield from group["template"]["spec"]["containers"]


def test_the_job_is_a_command_line_of_ours() -> None:
    python, script, *arguments = shlex.split(spec("rayjob")["entrypoint"].replace(CHECKOUT, str(ROOT)))
    assert python == "python"
    assert Path(script).is_file()
    config = parse_args(arguments)
    assert config.run_dir.startswith("/shared/")
    assert config.train.workers == sum(
        int(one["resources"]["limits"].get("nvidia.com/gpu", 0)) for one in containers("rayjob")
    )


def test_the_service_is_a_function_of_ours_and_serves_what_the_job_made() -> None:
    (application,) = yaml.safe_load(spec("rayservice")["serveConfigV2"])["applications"]
    module, function = application["import_path"].split(":")
    assert callable(getattr(importlib.import_module(module), function))
    arguments = application["args"]
    config = load(arguments.pop("config").replace(CHECKOUT, str(ROOT)), arguments)
    assert f"--run_dir {config.run_dir} " in spec("rayjob")["entrypoint"]
    assert config.serve.model == f"checkpoints/{config.train.selections[0]}"


@pytest.mark.parametrize("name", CLUSTERS)
def test_all_nodes_run_one_image_of_this_version_and_the_locked_ray_and_hold_no_secret(name: str) -> None:
    assert spec(name)[CLUSTERS[name]]["rayVersion"] == ray.__version__
    assert f"ARG BASE=docker.io/rayproject/ray:{ray.__version__}-" in (ROOT / "deploy" / "Dockerfile").read_text()
    assert {one["image"] for one in containers(name)} == {f"REGISTRY/atlas-ray:{atlas_ray.__version__}"}
    for place in ("deploy/Dockerfile", "docs/how-to/cluster.md"):
        assert set(re.findall(r"REGISTRY/atlas-ray:(\S+)", (ROOT / place).read_text())) == {atlas_ray.__version__}
    assert all("env" not in one and one["envFrom"][0]["secretRef"] for one in containers(name))


def closed(schema: Any) -> Any:
    """The schema as an API server applies it with strict validation: fields that it does not name are errors."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        found["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        found.setdefault("additionalProperties", False)
    return found


@pytest.mark.parametrize(("name", "kind"), [("rayjob", "RayJob"), ("rayservice", "RayService")])
def test_kuberays_own_schema_takes_the_manifest_and_no_misspelt_one(name: str, kind: str) -> None:
    schema = closed(json.loads(gzip.decompress(SCHEMAS.read_bytes()))[kind])
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own, which a CRD does not describe
    check = jsonschema.Draft4Validator(schema)
    text = (ROOT / "deploy" / "kuberay" / f"{name}.yaml").read_text()
    assert yaml.safe_load(text)["kind"] == kind
    assert [error.message for error in check.iter_errors(yaml.safe_load(text))] == []
    for right, wrong in (
        ("volumeMounts", "volumeMount"),
        ("containerPort: 6379", "containerPort: first"),
        ("replicas: 1", "replicas: one"),
    ):
        if right in text:
            assert list(check.iter_errors(yaml.safe_load(text.replace(right, wrong)))), wrong


def test_rays_launcher_takes_the_cluster_files() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    validate_config(prepare_config(config))
    assert f":{ray.__version__}-" in config["docker"]["image"]
    page = (ROOT / "docs" / "how-to" / "cluster.md").read_text()
    (elsewhere,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    validate_config(prepare_config(config | yaml.safe_load(elsewhere)))
    validate_config(prepare_config(yaml.safe_load((ROOT / "deploy" / "cluster-local.yaml").read_text())))
