"""A run is followed from nothing to its results; what is torn is said, and what was read stays."""

from __future__ import annotations

import pytest

from atlas_ray.config_files import load
from atlas_ray.errors import StoreError
from atlas_ray.report import write_report
from atlas_ray.store import Store
from atlas_ray.viewer.app import View
from atlas_ray.viewer.run import ViewedRun
from tests.report.synthetic import make_episodes, make_selections, make_trajectories, write_model, write_run
from tests.viewer.conftest import OPTIONS, configured, finished


def section(view: View, anchor: str) -> str:
    return next(each.html for each in view.sections if each.anchor == anchor)


def test_a_run_is_followed_from_nothing_on(tmp_path):
    url = str(tmp_path / "run")
    view = View([url])
    view.refresh()
    assert "no run directory yet" in section(view, "runs")
    store = configured(url)
    view.refresh()
    assert view.runs[0].problems == {}
    assert view.trajectories({})["total"] == 0
    store.write_trajectories(make_trajectories())
    store.append([{"checkpoint": "warmup", "step": 3, "loss": 1.25}], "metrics", "train.jsonl")
    view.refresh()
    assert view.trajectories({})["total"] == 20
    assert "train warmup: step 3, loss 1.250" in section(view, "runs")
    rows = [each.model_dump(mode="json") for each in make_episodes("base", "babyai", 0.5, tasks=4)]
    store.append(rows, "evaluation", "base", "babyai.jsonl")
    view.refresh()
    assert view.episodes({"model": "base"})["matched"] == 4
    assert "evaluate base babyai: 4 episodes, 2 solved, 0 errors" in section(view, "runs")
    assert "No model was evaluated yet." in section(view, "results")
    write_model(store, "llm", (0.75, 0.8))
    for name, found in make_selections(make_trajectories()).items():
        store.write_selections(name, found)
    view.refresh()
    assert "79.2" in section(view, "results")
    assert view.trajectories({"selection": "llm"})["matched"] == 20
    assert "perplexity" in section(view, "selections")
    assert ".run0 .s0" in view.colors
    assert view.runs[0].problems == {}


def test_a_torn_file_is_a_line_and_what_was_read_stays(tmp_path):
    store = finished(str(tmp_path / "run"))
    view = View([store.url])
    view.refresh()
    before = section(view, "results")
    whole = store.read_text("evaluation", "llm", "results.json")
    with open(store.path("evaluation", "llm", "results.json"), "w") as file:
        file.write(whole[:100])
    with open(store.path("selections", "llm", "part-0.parquet"), "wb") as file:
        file.write(b"PAR1 and no more")
    store.write_text("half", "trajectories", ".part-1.parquet.1.tmp")
    view.refresh()
    assert section(view, "results") == before
    assert "is not JSON" in section(view, "runs")
    assert "selections: " in section(view, "runs")
    assert view.trajectories({})["total"] == 20
    store.write_text(whole, "evaluation", "llm", "results.json")
    store.write_selections("llm", make_selections(make_trajectories())["llm"])
    view.refresh()
    assert view.runs[0].problems == {}


def test_a_configuration_that_cannot_be_read_is_one_line(tmp_path):
    store = finished(str(tmp_path / "run"))
    text = store.read_text("config.yaml")
    store.write_text(f"{text}\nepochs_of_before: 2\n", "config.yaml")
    view = View([store.url])
    view.refresh()
    assert list(view.runs[0].problems) == ["config"]
    assert "config.yaml: epochs_of_before: unknown option" in section(view, "runs")
    store.write_text(text, "config.yaml")
    view.refresh()
    assert view.runs[0].problems == {}
    assert view.trajectories({})["total"] == 20


def test_the_page_says_what_the_report_says(tmp_path):
    store = finished(str(tmp_path / "run"))
    view = View([store.url])
    view.refresh()
    write_report(load(None, dict(OPTIONS)), store)
    report = store.read_text("report.html")
    for anchor in ("results", "selections", "verification", "training"):
        tables = section(view, anchor).split("<table>")[1:]
        assert tables
        assert all(table.split("</table>")[0] in report for table in tables)


def test_only_what_has_changed_is_read_again(tmp_path):
    run = ViewedRun(finished(str(tmp_path / "run")).url, "run")
    run.refresh()
    run.refresh_figures()
    held, figures, data = run.trajectories, run.figures, run.data
    run.refresh()
    run.refresh_figures()
    assert (run.trajectories, run.figures, run.data) == (held, figures, data)
    run.store.append([{"checkpoint": "llm", "step": 26, "loss": 0.5}], "metrics", "train.jsonl")
    run.refresh()
    run.refresh_figures()
    assert run.trajectories is held
    assert run.figures is figures
    assert run.data is not data


def test_any_file_system_can_be_viewed():
    store = configured("memory://viewed/run")
    write_run(store)
    run = ViewedRun(store.url, "run")
    run.refresh()
    assert run.problems == {}
    assert run.trajectory("textcraft_01")["picks"]["llm"]["steps"] == (0, 1)
    assert run.episode("llm-babyai-3")["exchanges"]
    store.fs.rm(store.root, recursive=True)


def test_tokens_come_with_a_tokenizer_and_its_absence_is_said(stores: list[Store]):
    with_one, without = (ViewedRun(store.url, name) for store, name in zip(stores, ("one", "two"), strict=True))
    for run in (with_one, without):
        run.refresh()
    row = with_one.trajectory("textcraft_01", tokens=True)
    begin, end = row["spans"][0]
    assert "".join(row["tokens"][begin:end]).startswith("Thought: I need 0 planks")
    assert "tokens" not in without.trajectory("textcraft_01")
    with pytest.raises(StoreError, match="two has no checkpoint yet"):
        without.trajectory("textcraft_01", tokens=True)
