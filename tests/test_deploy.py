"""The cluster files name what is there: scripts, options, one image, the locked Ray."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from atlas_ray.cli.options import parse_args
from atlas_ray.config_files import load
from tests.conftest import ROOT

CHECKOUT = "/home/ray/atlas-ray"
"""Where the image holds it."""
CLUSTERS = {"rayjob": "rayClusterSpec", "rayservice": "rayClusterConfig"}


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
def test_all_nodes_run_one_image_of_the_locked_ray_and_hold_no_secret(name: str) -> None:
    assert spec(name)[CLUSTERS[name]]["rayVersion"] == ray.__version__
    assert f"FROM rayproject/ray:{ray.__version__}-" in (ROOT / "deploy" / "Dockerfile").read_text()
    assert {one["image"] for one in containers(name)} == {"REGISTRY/atlas-ray:0.1.0"}
    assert all("env" not in one and one["envFrom"][0]["secretRef"] for one in containers(name))


def test_rays_launcher_takes_the_cluster_file() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    validate_config(prepare_config(config))
    assert f":{ray.__version__}-" in config["docker"]["image"]
