"""Models, data and journals from elsewhere: they run no code, they end, and what is wrong with them is one line."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from atlas_ray import models, template_check
from atlas_ray.errors import AtlasError, ModelError, StoreError
from atlas_ray.formats.files import BadRow, read
from atlas_ray.store import Store

BOMBS = {
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}"
    "{% endfor %}{% endfor %}",
    "a text times a number": "{{ 'a' * 10 ** 11 }}",
    "a text that doubles": "{% set ns = namespace(a='a') %}{% for i in range(99) %}{% set ns.a = ns.a ~ ns.a %}"
    "{% endfor %}",
    "a macro that calls itself": "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
}


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def model(tiny_model: str, tmp_path: Path) -> Path:
    """A copy of a model directory, to be spoilt."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLAS_CACHE", str(tmp_path / "cache"))


def changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_pickled_weights_are_refused_unread(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious(tmp_path / "ran")))
    for use in (models.resolve, models.load_tokenizer, models.identity):
        with pytest.raises(ModelError, match=r"its weights are a pickle \(pytorch_model.bin\).*convert them"):
            use(str(model))
    assert not (tmp_path / "ran").exists()


def test_a_models_own_code_is_not_run_unless_the_user_asks(model: Path, tmp_path: Path) -> None:
    from atlas_ray.training.model import config_of

    (model / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    named = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    changed(model / "config.json", model_type="evil", auto_map=named)
    changed(model / "tokenizer_config.json", tokenizer_class="T", auto_map={"AutoTokenizer": ["evil.T", "evil.T"]})
    for use in (config_of, models.load_tokenizer):
        with pytest.raises(ModelError, match=r"^model [^\n]+$"):
            use(str(model))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", BOMBS)
def test_a_chat_template_that_does_not_end_is_refused(kind: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (model / "chat_template.jinja").write_text(BOMBS[kind])
    with pytest.raises(ModelError, match=f"^model {model}: its chat template took more than"):
        models.load_tokenizer(str(model))


def test_a_chat_template_reaches_nothing_of_python(model: Path, tmp_path: Path) -> None:
    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.system('touch X') }}"
    (model / "chat_template.jinja").write_text(escape.replace("X", str(tmp_path / "ran")))
    tokenizer = models.load_tokenizer(str(model))
    with pytest.raises(Exception, match="unsafe"):
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert not (tmp_path / "ran").exists()


def test_a_verdict_is_kept(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models.load_tokenizer(str(model))
    monkeypatch.setattr(template_check.subprocess, "run", lambda *_, **__: pytest.fail("tried again"))
    models.load_tokenizer(str(model))


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, '{"a":' * 200_000, "[1e999999]", '["\\ud800"]', "\0\0\0", '{"conversations": ' + "9" * 5000 + "}"],
    ids=["arrays", "objects", "infinity", "half a character", "zeros", "a long number"],
)
def test_a_data_file_that_is_a_trap_is_one_line(text: str, tmp_path: Path) -> None:
    for name in ("rows.json", "rows.jsonl"):
        (tmp_path / name).write_text(text)
        try:
            said = [str(bad) for bad in read(str(tmp_path / name)) if isinstance(bad, BadRow)]
        except AtlasError as error:
            said = [str(error)]
        assert said
        assert not [line for line in said if "\n" in line or len(line) > 1000]


@pytest.mark.parametrize("line", ["[" * 200_000, "3", "[]", '"x"', "{", "\xff\xfe", "\0"])
def test_a_journals_line_that_is_no_row_is_left_out(line: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.append([{"a": 1}], "journal.jsonl")
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(line.encode("latin-1"))
    store.append([{"a": 2}], "journal.jsonl")
    assert list(store.journal("journal.jsonl")) == [{"a": 1}, {"a": 2}]


def test_a_manifest_that_is_a_trap_is_one_line(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_text("[" * 200_000, "train", "manifest.json")
    with pytest.raises(StoreError, match=r"is not JSON [^\n]+; delete it"):
        store.facts("train")
