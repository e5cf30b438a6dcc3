"""A small grid on a tiny random Llama: killed in its midst, resumed, and shared work is done once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from atlas_ray.cli.main import main
from atlas_ray.config import PipelineConfig
from atlas_ray.errors import ConfigError
from atlas_ray.pipeline import grid
from atlas_ray.pipeline.adopt import adopt
from atlas_ray.pipeline.experiment import cells_of, runs_of
from atlas_ray.pipeline.run import Run
from atlas_ray.store import Store
from tests.conftest import ROOT

SMALL = ROOT / "configs" / "experiments" / "small.yaml"
RATIO = "select.selections.first.ratio"
MODELS = "evaluate.models"
FIRST, SECOND, BROKEN = "ratio-0.2_max_length-1024", "ratio-0.6_max_length-1024", "ratio-0.2_max_length-16"


def settings(**changes) -> dict:
    """The small experiment with one seed and a third combination that fails: no step fits into its `max_length`."""
    values = yaml.safe_load(SMALL.read_text())
    values["base"]["train"]["seeds"] = [0]  # more seeds: `test_outside.py`, `report/test_experiment.py`
    values["grid"]["train.max_length"] = [1024, 16]
    return values | {"exclude": [{RATIO: 0.6, "train.max_length": 16}]} | changes


@pytest.fixture(scope="module")
def experiment(ray_cluster, tiny_model, tmp_path_factory):
    """`start(*options)` starts the job; `folder` is the experiment's directory."""
    home = tmp_path_factory.mktemp("experiment")
    file = home / "grid.yaml"
    file.write_text(yaml.safe_dump(settings(run_dir=str(home / "out"))))

    class Experiment:
        folder = home / "out"

        def start(self, *options: str) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "jobs" / "experiment.py"), "--config", str(file), "--model", tiny_model,
                 *options],
                env=os.environ | {"RAY_ADDRESS": ray_cluster, "PYTHONPATH": str(ROOT)}, cwd=home, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip

        def __call__(self, *options: str) -> str:
            with self.start(*options) as process:
                out, _ = process.communicate(timeout=400)
            assert process.returncode == 0, out
            return out

        def facts(self, combination: str, stage: str) -> dict:
            return Store(str(self.folder / combination)).facts(stage)

        def data(self) -> dict:
            return json.loads((self.folder / "experiment.json").read_text())

    return Experiment()


@pytest.fixture(scope="module")
def killed(experiment):
    """The whole grid, which was killed in its midst and went on; what was done before, and what the job then said."""
    with experiment.start() as process:
        deadline = time.monotonic() + 300
        while not (experiment.folder / "experiment.json").exists():  # then the second cell is under way
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    before = {stage: experiment.facts(FIRST, stage) for stage in ("collect", "select", "train", "evaluate")}
    assert before["evaluate"]
    return before, experiment()


@pytest.fixture(scope="module")
def finished(experiment, killed):
    """The experiment, done."""
    return experiment


def test_a_killed_grid_goes_on_and_does_nothing_twice(experiment, killed):
    before, out = killed
    for stage, entries in before.items():
        after = experiment.facts(FIRST, stage)
        assert {name: after[name] for name in entries} == entries
    assert "cell 6/6" in out
    again = experiment()
    assert "done in" not in again  # what failed is tried again, and fails again
    assert "4 of 13 different units" in experiment("--plan")  # trainings and evaluations of the broken combination


def test_what_two_combinations_share_is_done_once(finished):
    first, second = (Store(str(finished.folder / name)) for name in (FIRST, SECOND))
    for stage in ("collect", "train", "evaluate", "looks"):
        entries = second.facts(stage)
        assert entries
        assert {entry["adopted_from"] for entry in entries.values()} == {first.url}
        assert {name: entry["key"] for name, entry in entries.items()} == {
            name: entry["key"] for name, entry in first.facts(stage).items()
        }
    selected = second.facts("select")
    assert {name for name, entry in selected.items() if "adopted_from" not in entry} == {"first"}
    weights = [Path(store.path("checkpoints", "all", "model.safetensors")) for store in (first, second)]
    assert weights[0].samefile(weights[1])
    journals = [Path(store.path("evaluation", "all", "textcraft.jsonl")) for store in (first, second)]
    assert not journals[0].samefile(journals[1])  # a journal is appended to
    assert journals[0].read_bytes() == journals[1].read_bytes()
    assert first.read_trajectories() == second.read_trajectories()
    logged = [[row for row in store.journal("metrics", "train.jsonl")] for store in (first, second)]
    assert sorted(map(str, logged[0])) == sorted(map(str, logged[1]))


def test_the_file_has_a_row_for_every_cell_and_failed_ones_have_their_error(finished):
    data = finished.data()
    assert [(row["combination"], row["model"]) for row in data["rows"]] == [
        (combination, model) for combination in (FIRST, BROKEN, SECOND) for model in ("all", "random_steps", None)
    ]
    for row in data["rows"]:
        assert row["environment"] == "textcraft"
        assert set(row) == set(data["rows"][0])
    alone = [row for row in data["rows"] if row["kind"] == "selection"]
    assert {row["selection"] for row in alone} == {"first"}
    assert all(0 < row["precision"] <= 100 and row["n"] is None and not row["episodes"] for row in alone)
    rows = [row for row in data["rows"] if row not in alone]
    for row in rows:
        if row["combination"] == BROKEN:
            assert "lie beyond train.max_length=16" in row["error"]
            assert row["n"] is None
            continue
        assert row["error"] is None
        assert row["n"] == len(row["episodes"]) == 4
        assert row["labelled_tokens"] > 0
        assert row["training_seconds"] > 0
        assert [point["rounds"] for point in row["curve"]] == [1, 2, 3, 4]
        assert row["within"] == 3
        assert 0 <= row["share_of_looks"] <= 1
        assert 0 < row["precision"] < 100 if row["model"] == "all" else row["precision"] is not None
        assert row["recall"] == 100 or row["selection"] != "all"
    assert {row["training_seed"] for row in rows} == {0}
    assert str(finished.folder) not in json.dumps(data)  # it is given to others
    assert [(c["combination"], c["reference"], c["selection"]) for c in data["comparisons"]] == [
        (FIRST, "all", "random"), (SECOND, "all", "random"),
    ]  # fmt: skip
    assert all(c["seeds"] == [1, 1] and c["tasks"] == 4 for c in data["comparisons"])
    assert finished.data() == data


def test_errors_of_cells_are_kept_for_a_later_page(finished):
    kept = json.loads((finished.folder / "failures.json").read_text())
    assert set(kept) == {BROKEN}
    assert set(kept[BROKEN]) == {"all", "random_steps"}
    data = finished.data()
    assert "rows" in finished("--report", "--train.max_length", "16")
    assert {row["combination"] for row in finished.data()["rows"]} == {BROKEN}
    finished("--report")
    assert finished.data() == data


def test_the_page_says_what_failed_and_leaves_it_out_of_the_tables(finished):
    html, text = ((finished.folder / f"experiment.{kind}").read_text() for kind in ("html", "md"))
    for said in (html, text):
        assert "failed and is left out of every table" in said
        assert "lie beyond train.max" in said.replace("\\", "")
    assert f"<td>{BROKEN}" not in html
    assert "<script" not in html
    assert "default-src 'none'" in html
    assert "http" not in html.replace('http-equiv="Content-Security-Policy"', "")
    for picture in ("curves", "forest", "causes"):
        assert (finished.folder / f"experiment-{picture}.png").read_bytes().startswith(b"\x89PNG")
        assert f"experiment-{picture}.png" in text


def test_the_time_that_is_left_is_told_by_finished_units(finished):
    out = finished("--plan", "--train.epochs", "2")
    assert "to be done: about" in out


# --- bad input -------------------------------------------------------------------------------------------------------
def written(tmp_path: Path, values: dict) -> str:
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(values | {"run_dir": str(tmp_path / "out")}))
    return str(file)


def checked(file: str, **overrides) -> grid.Experiment:
    found = grid.read_experiment(file, overrides)
    grid.check(found)
    assert cells_of(found, runs_of(found))
    return found


BAD = [
    ({"grid": {"collect.styl": ["plain", "checks"]}}, "unknown option"),
    ({"grid": {"collect.rate": [0.5, 1.5]}}, r"combination collect.rate=1.5: collect.rate"),
    ({"grid": {"collect.rate": []}}, "give one or more different values"),
    ({"grid": {"collect.rate": [1.0, 1.0]}}, "give one or more different values"),
    ({"grid": {"run_dir": ["a", "b"]}}, "a run directory of its own"),
    ({"grid": {RATIO: [0.2]}, "exclude": [{"collect.rate": 1}]}, "is no option of the grid"),
    ({"grid": {RATIO: [0.2]}, "exclude": [{RATIO: 0.3}]}, "has no value 0.3"),
    ({"grid": {RATIO: [0.2]}, "exclude": [{RATIO: 0.2}]}, "leaves no combination"),
    ({"grid": {RATIO: [0.2]}, "exclude": [{RATIO: 0.2, MODELS: "all"}]}, "takes a list of models, found 'all'"),
    ({"grid": {RATIO: [0.2]}, "exclude": [{RATIO: 0.2, MODELS: ["al"]}]}, "'al' is not in evaluate.models"),
    ({"grid": {"collect.trajectories": [{"textcraft": 10_000}]}}, "10000 tasks asked for"),
    ({"grid": {"collect.trajectories": [{"textcraft": 1}], "train.warmup.fraction": [0.5]}}, "both need one or more"),
    ({"grid": {"collect.trajectories": [{"webshop": 2}], "collect.style": ["checks"]}}, "no listed action fits"),
    ({"grid": {"evaluate.tasks": [1]}}, "a comparison needs 2"),
    ({"references": ["value"]}, "'value' is not evaluated"),
    ({"within": {"maze": 3}}, "'maze' is not evaluated"),
    ({"titel": "x"}, "titel"),
    ({"grid": {"select.selections": [{"first": {"method": "magic"}}]}}, "no such method"),
    ({"grid": {"evaluate.models": [["all", "alll"]]}}, "'alll'"),
]


@pytest.mark.parametrize(("changes", "says"), BAD)
def test_what_cannot_be_run_is_refused_before_anything_is_written(tmp_path, changes, says):
    values = {**settings(), "exclude": [], "grid": {}} | changes
    with pytest.raises(ConfigError, match=says):
        checked(written(tmp_path, values))
    assert not (tmp_path / "out").exists()


def test_an_option_on_the_command_line_takes_the_place_of_the_grids_values(tmp_path):
    file = written(tmp_path, settings(grid={"collect.style": ["plain", "checks"], "train.epochs": [1, 2]}, exclude=[]))
    assert [each.name for each in checked(file).combinations] == [
        "style-plain_epochs-1", "style-plain_epochs-2", "style-checks_epochs-1", "style-checks_epochs-2",
    ]  # fmt: skip
    narrowed = checked(file, **{"collect.style": "checks", "evaluate.tasks": 9})
    assert [each.name for each in narrowed.combinations] == [
        "style-checks_epochs-1", "style-checks_epochs-2",
    ]  # fmt: skip
    assert {each.config.collect.style for each in narrowed.combinations} == {"checks"}
    assert {each.config.evaluate.tasks for each in narrowed.combinations} == {9}
    assert narrowed.combinations[0].config.run_dir.endswith("/out/style-checks_epochs-1")


def test_joining_is_refused_before_a_night_is_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "--config", str(SMALL), "--run_dir", str(tmp_path / "out"), "--join", "rows.json"])
    assert ended.value.code == 2
    assert "--join belongs to --report" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_experiment_stands_for_its_base(tmp_path):
    written(tmp_path, settings())
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({"title": "t", "base": "grid.yaml", "grid": {"evaluate.tasks": [3]}}))
    [found] = checked(str(other), run_dir=str(tmp_path / "out")).combinations
    assert found.config.evaluate.tasks == 3
    assert found.config.collect.style == "checks"
    other.write_text(yaml.safe_dump({"title": "t", "base": "other.yaml"}))
    with pytest.raises(ConfigError, match=r"other.yaml: its base leads back to it"):
        checked(str(other))


def test_models_are_left_out_of_the_combinations_that_match(tmp_path):
    exclude = [{"collect.style": "plain", MODELS: ["all"]}]
    file = written(tmp_path, settings(grid={"collect.style": ["plain", "checks"]}, exclude=exclude, references=[]))
    found = {each.values["collect.style"]: each.config.evaluate.models for each in checked(file).combinations}
    assert found == {"plain": ("random_steps",), "checks": ("all", "random_steps")}
    # Named on the command line, the models are those that it names: what the file leaves out need not be there.
    named = checked(file, **{"collect.style": "checks", MODELS: ("random_steps",)})
    assert [each.config.evaluate.models for each in named.combinations] == [("random_steps",)]


@pytest.mark.parametrize("file", sorted(SMALL.parent.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_experiments_in_the_repository_can_be_run(file, tiny_model, tmp_path):
    found = checked(str(file), model=tiny_model, run_dir=str(tmp_path / "out"))
    assert found.combinations


def test_a_cell_is_one_model_of_one_seed(tiny_model, tmp_path):
    found = grid.read_experiment(str(SMALL), {"model": tiny_model, "run_dir": str(tmp_path / "out")})
    assert [(cell.combination.name, cell.entry.name) for cell in cells_of(found, runs_of(found))] == [
        (name, model) for name in ("ratio-0.2", "ratio-0.6")
        for model in ("all", "all.s1", "random_steps", "random_steps.s1")
    ]  # fmt: skip


# --- taking over -----------------------------------------------------------------------------------------------------
def test_a_unit_is_taken_over_from_a_store_that_is_no_local_one():
    first, second = Store("memory://adopt-a"), Store("memory://adopt-b")
    first.write_text("weights", "checkpoints", "all", "model.bin")
    first.write_text("state", "checkpoints", "all", "training_state", "run.json")
    first.append([{"checkpoint": "all", "step": 1}, {"checkpoint": "other", "step": 1}], "metrics", "train.jsonl")
    second.write_text("old", "checkpoints", "all", "old.bin")
    second.append([{"checkpoint": "all", "step": 9}, {"checkpoint": "mine", "step": 1}], "metrics", "train.jsonl")
    first.finish("train", "all", "k", seconds=3.0)
    run = Run(PipelineConfig(), second, (second, first))
    run.once("train", "all", "k", lambda: pytest.fail("done again"))
    assert second.names("checkpoints", "all") == ["model.bin"]
    assert [(row["checkpoint"], row["step"]) for row in second.journal("metrics", "train.jsonl")] == [
        ("mine", 1), ("all", 1),
    ]  # fmt: skip
    assert second.facts("train")["all"]["adopted_from"] == first.url
    assert second.facts("train")["all"]["seconds"] == 3.0


def test_a_torn_take_over_is_made_good(tmp_path):
    first, second = Store(str(tmp_path / "a")), Store(str(tmp_path / "b"))
    first.write_text("rows", "selections", "all", "part-0.parquet")
    first.append([{"selection": "all"}], "metrics", "select.jsonl")
    second.write_text("half", ".adopting-selections-all", "part-0.parquet")  # what a kill leaves
    adopt(second, first, "select", "all")
    adopt(second, first, "select", "all")
    assert second.read_text("selections", "all", "part-0.parquet") == "rows"
    assert list(second.journal("metrics", "select.jsonl")) == [{"selection": "all"}]
    assert [name for name in second.names() if name.startswith(".")] == []


def test_an_incomplete_unit_is_not_taken_over(tmp_path):
    first, second = Store(str(tmp_path / "a")), Store(str(tmp_path / "b"))
    Run(PipelineConfig(), first).once("select", "all", "k", lambda: {"errors": 2})
    done = []
    Run(PipelineConfig(), second, (first,)).once("select", "all", "k", lambda: done.append(1) or {})
    assert done == [1]
