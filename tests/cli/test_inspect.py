"""`atlas-ray inspect` over a finished run, and over one that is under way."""

from __future__ import annotations

import pytest
import yaml
from rich.console import Console

from atlas_ray.cli.inspect import Inspected
from atlas_ray.cli.main import main
from atlas_ray.config_files import load
from atlas_ray.errors import DataError
from atlas_ray.store import EDITION, Store
from tests.report.synthetic import make_episodes, write_run

CONFIG = {
    "train.warmup": {}, "evaluate.models": ["random", "base", "warmup", "llm"], "environments": {},
    "select.methods": ["llm", "perplexity", "random"], "evaluate.environments": ["babyai", "textcraft"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal with room for every column."""
    monkeypatch.setenv("COLUMNS", "150")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    store = Store(str(tmp_path_factory.mktemp("inspected") / "run"))
    write_run(store)
    text = yaml.safe_dump(load(None, dict(CONFIG)).model_dump(mode="json"))
    store.write_text(f"{EDITION}\n{text}", "config.yaml")
    return store.url


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["inspect", *words]) == 0
    return capsys.readouterr().out


def drawn(run: Inspected) -> str:
    console = Console(width=140)
    with console.capture() as captured:
        console.print(run.overview())
    return captured.get()


def test_the_overview_has_stages_selections_and_results(run, capsys):
    text = shown(capsys, run)
    for part in ("collect", "trajectories", "warmup", "perplexity", "79.2", "31 %"):
        assert part in text
    assert "loss" not in text  # all training is finished


def test_trajectories_show_who_chose_what(run, capsys):
    listed = shown(capsys, run, "--trajectories", "--env", "textcraft", "--limit", "3")
    assert "textcraft_00" in listed
    assert "babyai_00" not in listed
    assert "3 of 10" in listed
    text = shown(capsys, run, "--trajectory", "textcraft_00")
    assert "step 0  [llm]" in text
    assert "perplexity: steps" in text
    assert "<script>" in text  # a text is a text
    assert "[random]" not in shown(capsys, run, "--trajectory", "textcraft_00", "--selection", "llm")


def test_episodes_are_listed_and_shown(run, capsys):
    listed = shown(capsys, run, "--episodes", "warmup", "--failed", "--env", "babyai")
    assert "engine: died" in listed
    text = shown(capsys, run, "--episodes", "llm", "--episode", "llm-babyai-3")
    assert "llm  babyai test task 3, seed 0" in text
    assert "step 1" in text


def test_the_loss_mask_is_shown_on_tokens(run, capsys, monkeypatch, tiny_model):
    monkeypatch.setenv("NO_COLOR", "1")
    file = Store(run).path("config.yaml")
    with open(file) as stream:
        text = stream.read()
    try:
        with open(file, "w") as stream:
            stream.write(text.replace("model: smollm2-135m-instruct", f"model: {tiny_model}"))
        text_shown = shown(capsys, run, "--trajectory", "textcraft_01", "--selection", "llm", "--tokens")
    finally:
        with open(file, "w") as stream:
            stream.write(text)
    assert "⟦" in text_shown
    assert "tokens carry loss, steps [0, 1]" in text_shown


def test_what_is_not_there_is_said(run):
    inspected = Inspected(run)
    for ask in (
        lambda: inspected.trajectory("textcraft_99", []), lambda: inspected.trajectory("textcraft_00", ["lmm"]),
        lambda: inspected.episodes("bese", None, failed=False, limit=5), lambda: inspected.episode("base", "x"),
        lambda: inspected.trajectories("chess", 5),
    ):  # fmt: skip
        with pytest.raises(DataError) as error:
            ask()
        assert "\n" not in str(error.value)
        assert run in str(error.value)


def test_the_overview_follows_a_run(tmp_path):
    store = Store(str(tmp_path / "run"))
    store.claim(load(None, dict(CONFIG)).model_dump(mode="json"))
    run = Inspected(store.url)
    assert "nothing is finished yet" in drawn(run)
    store.append([{"checkpoint": "warmup", "step": 3, "loss": 1.25}], "metrics", "train.jsonl")
    rows = [each.model_dump(mode="json") for each in make_episodes("base", "babyai", 0.5, tasks=4, errors=1)]
    store.append(rows[:2], "evaluation", "base", "babyai.jsonl")
    assert "train warmup: step 3, loss 1.250" in drawn(run)
    assert "evaluate base babyai: 2 episodes" in drawn(run)
    store.append(rows[2:], "evaluation", "base", "babyai.jsonl")
    assert "evaluate base babyai: 4 episodes, 2 solved, 1 errors" in drawn(run)
    store.finish("train", "warmup", "k", seconds=1.0)
    assert "loss" not in drawn(run)
