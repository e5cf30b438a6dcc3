"""Pushing a run: what goes to the Hub and comes back, what is not sent twice, and a token that is seen nowhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from atlas_ray import models
from atlas_ray.cli.main import main
from atlas_ray.config_files import load
from atlas_ray.pipeline import stages
from atlas_ray.pipeline.run import open_run
from atlas_ray.store import Store
from tests.hub_server import READER, WRITER, HubServer, Refused, hub
from tests.report.synthetic import ENVIRONMENTS, RATES, write_run

__all__ = ["hub"]
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
CANARY = "hf_canary-1f0b"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Path:
    """A finished run with a tuned model; tests copy it."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    config = load(
        None,
        {
            "run_dir": str(folder), "train.warmup": {}, "evaluate.models": list(RATES), "train.lora": {"rank": 4},
            "select.methods": ["llm", "perplexity", "random"], "evaluate.environments": list(ENVIRONMENTS),
            "select.llm.base_url": "http://me:secret@127.0.0.1:9/v1", "select.llm.model": "m",
        },
    )  # fmt: skip
    store = Store(str(folder))
    store.claim(config.model_dump(mode="json"))
    write_run(store)
    for name in ("llm", "warmup"):
        shutil.copytree(tiny_model, folder / "checkpoints" / name)
    (folder / "checkpoints/llm/training_state").mkdir()
    (folder / "checkpoints/llm/training_state/run.json").write_text("{}")
    adapter = folder / "checkpoints/llm/adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/home/me/base", "r": 4}))
    shutil.copy(folder / "checkpoints/llm/model.safetensors", adapter / "adapter_model.safetensors")
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "mine"))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["push", *map(str, words)])
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_a_pushed_run_is_read_again_from_the_hub(run, hub: HubServer, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", WRITER)
    main(["push", str(run), "--to", "me/agent", "--private"])
    assert "hf://datasets/me/agent: pushed, http" in (said := capsys.readouterr().out)
    assert "hf://me/agent: pushed, http" in said
    model, data = hub.repositories["model", "me/agent"], hub.repositories["dataset", "me/agent"]
    assert model.private
    assert data.private
    here = {path.name for path in (run / "checkpoints/llm").iterdir() if path.is_file()}
    assert set(model.files) == {*here, ".gitattributes", "README.md", "atlas-ray.yaml"}
    selected = {f"selections/{name}/part-0.parquet" for name in ("llm", "perplexity", "random")}
    wanted = {*selected, "trajectories/part-0.parquet", ".gitattributes", "README.md", "atlas-ray.yaml"}
    assert set(data.files) == wanted

    again = open_run(
        load(None, {
            "model": "me/agent", "collect.source": "hf://datasets/me/agent/trajectories",
            "run_dir": str(tmp_path / "again"),
        })
    )  # fmt: skip
    assert stages.collect(again) == 20
    assert again.store.read_trajectories() == Store(str(run)).read_trajectories()
    assert models.identity(again.config.model) == models.identity(str(run / "checkpoints/llm"))
    assert models.load_tokenizer(models.resolve(again.config.model)).chat_template


def test_cards_say_what_was_tuned_on_what(run, hub: HubServer, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", WRITER)
    main(["push", str(run), "--to", "me/agent"])
    files = hub.repositories["model", "me/agent"].files
    card = files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata == {
        "base_model": BASE, "base_model_relation": "finetune", "datasets": ["me/agent"], "library_name": "transformers",
        "license": "apache-2.0", "pipeline_tag": "text-generation",
        "tags": ["atlas-ray", "agent", "critical-steps"],
    }  # fmt: skip
    assert "selection `llm` by method `llm`, whose selector was a stand-in, seed 0" in card
    assert "| llm | " in card  # results, with intervals
    assert "79.2 [59.5, 90.8] (n=24)" in card
    assert "| babyai | 2 |" in card  # the environment's version
    assert "python jobs/train.py --config my.yaml" in card
    assert "transformers 5" in card
    config = yaml.safe_load(files["atlas-ray.yaml"])
    assert config["select"]["llm"] == {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
    assert "run_dir" not in config
    assert load(None).model_validate(config).train.lora is not None
    described = hub.repositories["dataset", "me/agent"].files["README.md"].decode()
    configs = yaml.safe_load(described.split("---\n")[1])["configs"]
    assert {"config_name": "llm", "data_files": "selections/llm/*.parquet"} in configs
    assert "10 of babyai, 10 of textcraft" in described
    monkeypatch.setattr("sys.argv", ["atlas-ray"])
    capsys.readouterr()
    main(["push", str(run), "--to", "me/agent", "--dry-run"])
    assert card in capsys.readouterr().out


def test_nothing_is_sent_twice_and_a_push_that_was_cut_off_goes_on(run, hub: HubServer, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", WRITER)
    hub.outage = "/api/models/me/agent/commit/", 403
    assert "me/agent: the Hub refuses (403" in refused(capsys, run, "--to", "me/agent", "--what", "model")
    assert list(hub.repositories["model", "me/agent"].files) == [".gitattributes"]  # all of it or nothing
    assert len(hub.objects) == 1
    hub.outage = None
    hub.requests.clear()
    main(["push", str(run), "--to", "me/agent", "--what", "model"])
    assert [method for method, _ in hub.written()] == ["POST"]  # the weights were there already
    hub.requests.clear()
    capsys.readouterr()
    main(["push", str(run), "--to", "me/agent", "--what", "model"])
    assert hub.written() == []
    assert "hf://me/agent: nothing to send" in capsys.readouterr().out

    weights = run / "checkpoints/llm/model.safetensors"
    weights.rename(weights.with_name("model-00001-of-00001.safetensors"))
    main(["push", str(run), "--to", "me/agent", "--what", "model"])
    now = [name for name in hub.repositories["model", "me/agent"].files if name.endswith(".safetensors")]
    assert now == ["model-00001-of-00001.safetensors"]


def test_an_adapter_names_its_base_model_on_the_hub(run, hub: HubServer, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", WRITER)
    line = refused(capsys, run, "--to", "me/agent", "--what", "adapter")
    assert "it belongs to a model that is not on the Hub; push the model, merged" in line
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(_without_warmup(text))
    main(["push", str(run), "--to", "me/agent", "--what", "adapter"])
    files = hub.repositories["model", "me/agent"].files
    assert json.loads(files["adapter_config.json"]) == {
        "base_model_name_or_path": BASE, "r": 4
    }  # fmt: skip
    assert "adapter_model.safetensors" in files
    assert "model.safetensors" not in files
    assert "library_name: peft" in files["README.md"].decode()


def _without_warmup(text: str) -> str:
    first, _, rest = text.partition("\n")
    config = yaml.safe_load(rest)
    config["train"]["warmup"] = None
    return f"{first}\n{yaml.safe_dump(config)}"


@pytest.mark.parametrize(
    ("token", "words", "says"),
    [
        (None, (), "me/agent: no token; set HF_TOKEN to one with write rights, or run `hf auth login`"),
        (READER, (), "me/agent: the Hub refuses (403: You don't have the rights to create it); set HF_TOKEN"),
        (WRITER, ("--what", "modle"), "--what modle: unknown; give some of model, adapter, selections"),
        (WRITER, ("--what", "model,adapter"), "push one of them"),
        (WRITER, ("--model", "random"), "--model random: this run has not trained it"),
        (WRITER, ("--model", "perplexity"), "train 'perplexity' has not been run"),
        (WRITER, ("--to", "agent"), "--to agent: no name of a repository; give OWNER/NAME"),
    ],
)
def test_what_cannot_be_pushed_is_one_line(token, words, says, run, hub: HubServer, monkeypatch, capsys):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert says in refused(capsys, run, "--to", "me/agent", *words)
    assert hub.written() == []


def test_a_run_that_is_none_is_one_line(tmp_path, capsys):
    assert "no run directory (it has no config.yaml)" in refused(capsys, tmp_path, "--to", "me/agent")


def test_a_token_is_seen_nowhere(run, hub: HubServer, tmp_path, monkeypatch, capfd):
    """A good push in a process of its own, as a user calls it; a refused one; a server that repeats the token."""
    words = ["push", str(run), "--to", "me/agent", "--what", "model"]
    monkeypatch.setenv("HF_TOKEN", WRITER)
    code = f"from atlas_ray.cli.main import main; main({words})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert "hf://me/agent: pushed" in done.stdout
    monkeypatch.setenv("HF_TOKEN", READER)
    said = refused(capfd, *words[1:])
    hub.outage = "create", 418
    monkeypatch.setattr(Refused, "MESSAGE", f"no coffee for {CANARY}")
    monkeypatch.setenv("HF_TOKEN", CANARY)
    assert "no coffee for ..." in (repeated := refused(capfd, *words[1:]))
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    sent = b"".join(data for each in hub.repositories.values() for _, files in each.commits for data in files.values())
    for token in (WRITER, READER, CANARY):
        assert token not in done.stdout + done.stderr + said + repeated
        assert token.encode() not in written + sent


def test_selections_of_a_run_that_is_on_no_disk_are_tables_of_their_own(hub: HubServer, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", WRITER)
    store = Store("memory://pushed")
    store.claim(load(None, {"evaluate.environments": list(ENVIRONMENTS)}).model_dump(mode="json"))
    write_run(store)
    main(["push", "memory://pushed", "--to", "me/agent", "--what", "selections"])
    assert ("model", "me/agent") not in hub.repositories
    file = tmp_path / "llm.parquet"
    file.write_bytes(hub.repositories["dataset", "me/agent"].files["selections/llm/part-0.parquet"])
    assert pq.read_table(file).num_rows == 20
