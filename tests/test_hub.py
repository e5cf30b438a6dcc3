"""Reading from the Hub: data sets and models by reference, commits that a run keeps to, and what cannot be had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from atlas_ray import models
from atlas_ray.cli.main import main
from atlas_ray.config_files import load
from atlas_ray.errors import DataError, HubError, ModelError
from atlas_ray.evaluation import items
from atlas_ray.formats import files
from atlas_ray.formats.sources import fingerprint
from atlas_ray.hub import parse, pinned
from atlas_ray.pipeline import stages
from atlas_ray.pipeline.keys import Keys
from atlas_ray.pipeline.run import open_run
from tests.hub_server import READER, HubServer, hub

__all__ = ["hub"]


def row(item: int) -> dict:
    turns = [
        {"from": "human", "loss": None, "value": "Craft things."}, {"from": "gpt", "loss": False, "value": "OK."},
        {"from": "human", "loss": None, "value": "Goal: craft oak planks."},
        {"from": "gpt", "loss": True, "value": f"Thought: I need logs.\nAction: get {item} oak logs"},
    ]  # fmt: skip
    return {"item_id": f"textcraft_{item}", "conversations": turns}


def rows(*items: int) -> bytes:
    return json.dumps([row(item) for item in items]).encode()


def ids(source: str) -> list[str]:
    return [each.item_id for each in files.read(source)]


def content(directory: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(directory).iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("below", "found"),
    [
        ("", [1, 2, 3, 4]), ("/textcraft_train.json", [4]), ("/more", [1, 2, 3]), ("/more/*.jsonl", [1]),
        ("/more/**/*.json", [2, 3]), ("/more/[v2]", [3]),
    ],
)  # fmt: skip
def test_a_data_set_its_folders_globs_and_files_are_read(below, found, hub: HubServer):
    data = {
        "textcraft_train.json": rows(4), "README.md": b"A card.", "more/a.jsonl": json.dumps(row(1)).encode(),
        "more/[v2]/b.json": rows(3), "more/[v1]/b.json": rows(2), ".cache/c.json": rows(9),
    }  # fmt: skip
    hub.repository("dataset", "some/traj", data)
    assert sorted(ids(f"hf://datasets/some/traj{below}")) == [f"textcraft_{item}" for item in found]
    assert not any("README" in path for _, path in hub.requests)  # only what is read is fetched


def test_rows_without_a_name_are_of_the_environment_that_the_repository_names(hub: HubServer):
    nameless = row(1) | {"item_id": "7"}
    hub.repository("dataset", "some/babyai-traj", {"data/train-00000-of-00001.json": json.dumps([nameless]).encode()})
    (found,) = files.read("hf://datasets/some/babyai-traj")
    assert found.env == "babyai"


def test_a_run_keeps_to_the_commits_that_it_began_with(hub: HubServer, tmp_path, tiny_model):
    data = hub.repository("dataset", "some/traj", {"textcraft.json": rows(1)})
    model = hub.repository("model", "some/tiny", content(tiny_model))
    given = {
        "model": "some/tiny", "collect.source": "hf://datasets/some/traj", "collect.min_score": 0.0,
        "run_dir": str(tmp_path / "run"),
    }  # fmt: skip
    run = open_run(load(None, given))
    before = Keys(run, planned=True).collect(), Keys(run).roster.base().key
    assert stages.collect(run) == 1
    commit = data.commits[0][0]
    assert run.config.collect.source == f"hf://datasets/some/traj@{commit}"
    assert run.config.model == f"some/tiny@{model.commits[0][0]}"
    assert run.store.facts("collect")["trajectories"]["hub"] == {"source": f"hf://datasets/some/traj@{commit}"}
    assert "source: hf://datasets/some/traj\n" in run.store.read_text("config.yaml")

    data.commit({"textcraft.json": rows(1, 2)})
    model.commit(model.files | {"model.safetensors": b"others"})
    hub.requests.clear()
    again = open_run(load(None, given))
    assert (Keys(again, planned=True).collect(), Keys(again).roster.base().key) == before
    assert hub.requests == []  # a run goes on without the Hub
    fresh = open_run(load(None, given | {"run_dir": str(tmp_path / "fresh")}))
    assert Keys(fresh, planned=True).collect() != before[0]
    assert Keys(fresh).roster.base().key != before[1]
    assert stages.collect(fresh) == 2


def test_items_and_a_survey_are_of_the_hub_too(hub: HubServer, capsys):
    hub.repository("dataset", "some/items", {"maze_test.json": b'[{"item_id": "lmrlgym_maze_3"}]'})
    config = load(None, {"evaluate.items": "hf://datasets/some/items/maze_test.json"})
    assert list(items.find(config, ["maze"]).tasks) == ["maze"]
    hub.repository("dataset", "some/traj", {"textcraft.json": rows(1, 2)})
    main(["import", "hf://datasets/some/traj", "--dry-run"])
    assert "2 rows: 2 trajectories, 0 malformed; 2 are kept" in capsys.readouterr().out


def test_a_model_is_what_its_directory_is(hub: HubServer, tiny_model):
    there = content(tiny_model)
    first = hub.repository("model", "some/tiny", there | {"README.md": b"---\nlicense: mit\n---\n"})
    first.commit(there | {"model.safetensors": b"another"})
    old = f"some/tiny@{first.commits[0][0]}"
    assert models.identity(old) == models.identity(tiny_model) != models.identity("some/tiny")
    assert models.load_tokenizer(models.resolve(old)).chat_template
    assert models.is_model(old)
    assert not models.is_on_hub(tiny_model)
    hub.repository("model", "some/pickled", {name: data for name, data in there.items() if "model." not in name})
    with pytest.raises(ModelError, match=r"'some/pickled': the Hub has no \*.safetensors of it"):
        models.resolve("some/pickled")


@pytest.mark.parametrize(
    ("reference", "token", "says"),
    [
        ("hf://datasets/some/none", None, "no such repository, or a private one; check the name, or set HF_TOKEN"),
        ("hf://datasets/some/private", None, "no such repository, or a private one"),
        ("hf://datasets/some/gated", None, "its owner grants access one by one; ask for it on its page"),
        ("hf://datasets/some/open@v9", None, "no such revision; give a branch, a tag or a commit"),
        ("hf://datasets/some/open/none.json", None, "no such file; give a path"),
        ("hf://datasets/some/open", "wrong", "the Hub refuses (401"),
        ("hf://some/open", None, "a model; of a data set write hf://datasets/some/open"),
        ("hf://buckets/some/open", None, "a bucket on the Hub; give a data set"),
        ("hf://datasets/open", None, "not a reference to the Hub; write hf://datasets/OWNER/NAME"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(reference, token, says, hub: HubServer, monkeypatch):
    hub.repository("dataset", "some/open", {"a.json": rows(1)})
    hub.repository("dataset", "some/private", {"a.json": rows(1)}, private=True)
    hub.repository("dataset", "some/gated", {"a.json": rows(1)}, gated=True)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DataError) as raised:
        fingerprint(reference)
    assert str(raised.value).startswith(f"{reference}: {says}")
    assert "\n" not in str(raised.value)


def test_a_token_opens_what_is_private_or_gated(hub: HubServer, monkeypatch):
    hub.repository("dataset", "some/private", {"textcraft.json": rows(1)}, private=True)
    hub.repository("dataset", "some/gated", {"textcraft.json": rows(2)}, gated=True)
    monkeypatch.setenv("HF_TOKEN", READER)
    assert ids("hf://datasets/some/private") + ids("hf://datasets/some/gated") == ["textcraft_1", "textcraft_2"]


def test_without_the_hub_the_cache_answers_or_a_line_says_why_not(hub: HubServer, tmp_path, monkeypatch):
    reference = "hf://datasets/some/open"
    hub.repository("dataset", "some/open", {"textcraft.json": rows(1)})
    commit = pinned(reference)
    assert ids(commit) == ["textcraft_1"]
    hub.outage = ".", 503
    assert pinned(reference) == commit
    assert ids(commit) == ["textcraft_1"]
    shutil.rmtree(tmp_path / "hf")
    with pytest.raises(HubError, match="^the Hub answers 503; try again later$"):
        pinned(reference)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="^http://127.0.0.1:9 cannot be reached; check the network and HF_ENDPOINT"):
        pinned(reference)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE forbids"):
        pinned(reference)


def test_a_reference_has_kind_revision_and_path():
    uri = parse("hf://datasets/AgentGym/AgentTraj-L@refs/pr/3/alfworld_train.json")
    assert (uri.type, uri.id, uri.revision, uri.path_in_repo) == (
        "dataset", "AgentGym/AgentTraj-L", "refs/pr/3", "alfworld_train.json",
    )  # fmt: skip
