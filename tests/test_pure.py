"""Pure modules stay pure: a fresh interpreter that imports them loads neither ray nor torch, not even indirectly."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys

import pytest

from tests.conftest import PYTHONPATH

GROUPS = {
    "ground": ["trajectory", "errors", "hashing", "section", "plugins", "config", "roster", "store", "react", "chat"],
    "environments": ["environments.*", "formats.*"],
    "rollout": [
        "inference.refusals", "inference.types", "rollout.spec", "rollout.episode", "rollout.policy", "rollout.replay",
        "rollout.task",
        "rollout.isolated", "rollout.sessions", "evaluation.metrics", "evaluation.ledger", "evaluation.compare",
        "evaluation.grouped", "evaluation.statistics",
    ],
    "selection": [
        "selection.method", "selection.methods.*", "selection.budget", "selection.answer", "selection.prompt",
        "selection.agreement", "selection.chunks", "selection.limits", "selection.adaptive",
    ],
    "training and report": ["training.examples", "training.packing", "report.*"],
}  # fmt: skip
CODE = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    impure = sorted({"ray", "torch"} & sys.modules.keys())
    assert not impure, f"importing {name} loads {', '.join(impure)}"
"""


def modules(pattern: str) -> list[str]:
    """The modules that a pattern names; `a.*` is the package `a` with all modules below."""
    name = f"atlas_ray.{pattern.removesuffix('.*')}"
    if not pattern.endswith(".*"):
        return [name]
    folder = name.replace(".", "/")
    below = [module.name for module in pkgutil.walk_packages([folder], f"{name}.")]
    assert below, f"{name} has no modules"
    return [name, *(module for module in below if not module.endswith(".__main__"))]


@pytest.mark.parametrize("group", GROUPS)
def test_pure_modules_load_neither_ray_nor_torch(group):
    found = [name for pattern in GROUPS[group] for name in modules(pattern)]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *found], capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]


def test_every_environment_class_is_imported_without_ray_or_torch():
    code = (
        "import sys; from atlas_ray.environments import registry;"
        "[registry.option_names(name) for name in registry.names()];"
        "assert not {'ray', 'torch'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]
