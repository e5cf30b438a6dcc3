"""The registry of selection methods: order, the table in the docs, and what importing a method loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from atlas_ray import selection
from atlas_ray.config_files import load
from atlas_ray.errors import ConfigError
from atlas_ray.selection.method import color_of, in_order, method_class, phrase_of

ROOT = Path(__file__).parents[2]
OWN = {
    "all",
    "hybrid",
    "llm",
    "non_critical",
    "perplexity",
    "random",
    "value",
    "entropy",
    "gain",
    "grade",
    "pivot",
    "verified",
}


def test_a_selection_comes_after_its_inputs_and_circles_are_refused() -> None:
    config = load(None, {"select.non_critical.complement_of": "hybrid"})
    made = [method.spec.name for method in in_order(config, ["non_critical", "all", "llm"])]
    assert made == ["llm", "perplexity", "hybrid", "non_critical", "all"]
    circle = {
        "one": {"method": "non_critical", "complement_of": "two"},
        "two": {"method": "hybrid", "weights": {"one": 1, "random": 1}},
    }
    with pytest.raises(ConfigError, match="one <- two <- one goes in a circle"):
        in_order(load(None, {"select": {"selections": circle}}), ["one"])


def test_the_table_in_the_docs_is_what_the_command_prints() -> None:
    command = [sys.executable, "-m", "atlas_ray.selection"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "| `random` | steps at random | paper 4.5.3 | nothing |" in printed
    assert printed in (ROOT / "docs" / "selection.md").read_text(), "replace the table by what the command prints"


def test_every_method_describes_itself() -> None:
    assert set(selection.names()) >= OWN
    for name in selection.names():
        found = method_class(name)
        assert found.summary
        assert found.source
        assert found.needs
        assert "|" not in found.summary + found.source + found.needs  # the table's own sign
        for field, option in found.Options.model_fields.items():
            assert option.description, f"{name}: {field} has no line for --help"
    assert phrase_of("all", "all") == "all steps"
    assert phrase_of("masked", "all", ["looks"]) == "all steps but looks (masked)"
    assert phrase_of("llm", "llm", ["looks"]) == "the steps that llm selected"
    assert len({color_of(name) for name in OWN}) == len(OWN)
    assert color_of("of a package that is gone") == color_of("of a package that is gone")


def test_importing_every_method_loads_neither_ray_nor_torch() -> None:
    code = (
        "import sys\nfrom atlas_ray.selection.method import describe\ndescribe()\n"
        "from atlas_ray.selection import agreement, answer, budget, chunks, compare, estimate, export, filters\n"
        "from atlas_ray.selection import limits, prompt\n"
        "print(sorted({'ray', 'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
