"""An experiment's rows, comparisons and page, on rows whose figures are known."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from atlas_ray.config import PipelineConfig
from atlas_ray.environments import registry
from atlas_ray.errors import DataError
from atlas_ray.evaluation.statistics import compare_over_seeds, holm
from atlas_ray.report.experiment import write_experiment
from atlas_ray.report.experiment_charts import forests, key_of, line_charts, scatter
from atlas_ray.report.experiment_comparisons import ALL, arms_of, comparisons, curve_of, success_of
from atlas_ray.report.experiment_page import page, to_html, to_text
from atlas_ray.report.experiment_rows import RunOfGrid, rows_of, truth_of
from atlas_ray.roster import RosterEntry
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode, Message, Selection, Trajectory
from tests.report.synthetic import HOSTILE
from tests.report.test_report import Page as ParsedPage

SETTINGS = {"title": HOSTILE, "question": "Why?", "references": ["all", "random"], "within": {"maze": 3}}
CHANCES = {"all": 0.3, "random": 0.35, "value": 0.9, "value_looks": 0.95}
TASKS = 40


def row(combination: str, selection: str | None, seed: int | None, env: str, chance: float, **changes: Any) -> dict:
    """A model's row; each task is solved with a chance, in one to five rounds."""
    luck = random.Random(f"{combination}{selection}{seed}{env}")
    episodes = [["test", task, 0, luck.randint(1, 5), int(luck.random() < chance), 0.0] for task in range(TASKS)]
    return {
        "combination": combination, "values": {"collect.style": combination}, "kind": "tuned" if selection else "base",
        "model": f"{selection}.s{seed}" if selection else "base", "selection": selection, "training_seed": seed,
        "method": selection and selection.partition("_")[0], "ratio": 0.3 if selection else None,
        "filters": ["looks"] if selection and "looks" in selection else [], "environment": env, "held_in": True,
        "metric": "success_rate", "within": 4, "error": None, "episodes": episodes, "n": TASKS, "errors": 0,
        "score": 50.0, "ci95": [40.0, 60.0], "success_rate": 50.0, "success_within": 50.0, "mean_rounds": 3.0,
        "curve": [{"rounds": i, "success": 0.0, "ci95": [0, 1]} for i in range(1, 7)], "looks": 3, "steps": 30,
        "share_of_looks": 0.1, "labelled_tokens": 1000 if selection else None,
        "training_seconds": 2.5 if selection else None, "optimizer_steps": 4, "precision": 80.0 if selection else None,
        "precision_ci95": None, "recall": None, "recall_ci95": None, "selected": 10 if selection else None,
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    """Two styles, two environments, four selections with three seeds, and the base model."""
    return [
        row(combination, selection, seed, env, chance)
        for combination in ("plain", "checks")
        for selection, chance in CHANCES.items()
        for seed in (0, 1, 2)
        for env in ("maze", "textcraft")
    ] + [row("checks", None, None, env, 0.5) for env in ("maze", "textcraft")]


def test_comparisons_are_those_of_the_statistics_and_corrected_over_a_family(rows: list[dict]) -> None:
    arms = arms_of(rows)
    found = comparisons(arms, ["all", "random"], ["maze", "textcraft"])
    families: dict[tuple[str, str, str], list] = {}
    for each in found:
        families.setdefault((each.combination, each.environment, each.reference), []).append(each)
    assert {key: [each.selection for each in own] for key, own in families.items()} == {
        (combination, env, reference): selections
        for combination in ("plain", "checks")
        for env in (ALL, "maze", "textcraft")
        for reference, selections in (
            ("all", ["random", "value", "value_looks"]),
            ("random", ["value", "value_looks"]),
        )
    }
    for own in families.values():
        assert [each.p_holm for each in own] == holm([each.p_value for each in own])
    by_name = {(arm.combination, arm.name): arm for arm in arms}
    one = next(e for e in found if (e.combination, e.environment, e.selection) == ("checks", "maze", "value"))
    outcomes = [
        [
            {
                ("maze", "test", task): float(bool(success) and used <= 4)
                for _, task, _, used, success, _ in each["episodes"]
            }
            for each in by_name["checks", name].rows
            if each["environment"] == "maze"
        ]
        for name in ("all", "value")
    ]
    direct = compare_over_seeds(*outcomes)
    assert direct is not None
    assert (one.difference, one.ci95, one.p_value) == (direct.difference, direct.ci95, direct.p_value)
    assert one.seeds == (3, 3)
    assert one.tasks == TASKS
    assert next(e for e in found if e.environment == ALL).tasks == 2 * TASKS
    assert one.verdict == "better"


def test_a_curve_grows_to_the_success_within_the_cap(rows: list[dict]) -> None:
    arm = next(arm for arm in arms_of(rows) if arm.name == "value")
    points = curve_of(arm, ALL, 6)
    assert [point.rounds for point in points] == [1, 2, 3, 4, 5, 6]
    assert all(a.success <= b.success for a, b in itertools.pairwise(points))
    success = success_of(arm, ALL)
    assert success is not None
    assert points[3].success == pytest.approx(success.mean)
    assert points[5].success == pytest.approx(100 * sum(e[4] for r in arm.rows for e in r["episodes"]) / 6 / TASKS)


def test_rows_with_an_error_are_in_no_table(rows: list[dict]) -> None:
    broken = [row("checks", "value", 7, env, 0.0, error="it broke", episodes=[], n=None) for env in ("maze",)]
    assert comparisons(arms_of([*rows, *broken]), ["all"], ["maze"]) == comparisons(arms_of(rows), ["all"], ["maze"])


def test_the_page_is_well_formed_escaped_and_says_the_same_in_both_forms(rows: list[dict]) -> None:
    arms = arms_of(rows)
    compared = comparisons(arms, ["all", "random"], ["maze", "textcraft"])
    made = page(SETTINGS, rows, arms, compared, ["plain, x: failed: <b>"], "Power.", "python jobs/x.py")
    html, text = to_html(made), to_text(made, {"Curves": "curves.png"})
    parsed = ParsedPage(html)
    assert parsed.open == []
    assert HOSTILE not in html
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"script", "img", "link"})
    for sentence in made.headline:
        assert " ".join(sentence.split()) in parsed.words()
        assert sentence.split(".")[0] in text
    best = max((e for e in compared if e.environment == ALL and e.reference == "all"), key=lambda e: e.difference)
    assert f"{best.success:.1f} % against {best.reference_success:.1f} %" in made.headline[1]
    assert "plain, x: failed: <b>" in made.notes
    assert "![Curves](curves.png)" in text
    assert html.count("<polyline") == sum(len(chart.lines) for charts in made.curves.values() for chart in charts)
    assert len(made.scatters) == 3


def test_charts_hold_what_the_arms_say(rows: list[dict]) -> None:
    arms = arms_of(rows)
    compared = comparisons(arms, ["all"], ["maze", "textcraft"])
    [plain, checks] = forests(compared, ALL, "all")
    assert plain.title == "plain: against all"
    assert [r.difference for r in checks.rows] == sorted((r.difference for r in checks.rows), reverse=True)
    [chart, _] = line_charts(arms, {ALL: 6})[ALL]
    assert [line.key.name for line in chart.lines] == list(CHANCES)
    assert [line.key.dashed for line in chart.lines] == [False, False, False, True]
    assert chart.path(chart.lines[0]).startswith("0.00,")
    kinds = ("policy", "base", "warmup", "endpoint", "directory")
    untuned = [{**rows[-1], "model": kind, "kind": kind} for kind in kinds]
    assert len({key_of(arm).color for arm in arms_of(untuned)}) == 5
    assert scatter(arms, ALL, "t", "x", lambda arm: None) is None
    dots = scatter(arms, ALL, "t", "x", lambda arm: arm.per_training("labelled_tokens"))
    assert dots is not None
    assert {dot.x for dot in dots.dots} == {1000}
    assert all(0 <= dots.at(dot) <= 100 for dot in dots.dots)


# --- rows from a run directory ---------------------------------------------------------------------------------------
CONFIG = PipelineConfig.model_validate(
    {
        "environments": {"textcraft": {"depths": [1], "max_rounds": 5}},
        "select": {
            "selections": {
                "some": {"method": "random", "ratio": 0.5, "filters": ["looks"]},
                "late": {"method": "random"},
            }
        },
        "train": {"selections": [], "seeds": [3, 4]},
        "evaluate": {"models": ["some"], "environments": ["textcraft"], "tasks": 3},
    }
)
ENTRIES = [
    RosterEntry("some", "tuned", "k", selection="some", seed=3),
    RosterEntry("some.s4", "tuned", "k", selection="some", seed=4),
    RosterEntry("base", "base", "k"),
]


def trajectory(number: int, kinds: list[str]) -> Trajectory:
    steps = [Message(role="assistant", content="Action: x", step=i) for i in range(len(kinds))]
    return Trajectory(
        trajectory_id=f"t{number}", env="textcraft", item_id=f"t{number}", source="expert", messages=tuple(steps),
        n_steps=len(kinds), metadata={"kinds": kinds},
    )  # fmt: skip


@pytest.fixture
def store(tmp_path) -> Store:
    """A run directory with one evaluated model of three; the second failed, the third has not been run."""
    store = Store(str(tmp_path / "runs" / "one"))
    store.write_trajectories([trajectory(1, ["productive", "habit"]), trajectory(2, ["slip", "recovery"])])
    store.write_selections(
        "some",
        [
            Selection(trajectory_id="t1", method="random", ratio=0.5, steps=(0, 1)),
            Selection(trajectory_id="t2", method="random", ratio=0.5, steps=(1,)),
        ],
    )
    store.write_selections("late", [Selection(trajectory_id="t2", method="random", ratio=0.3, steps=(0,))])
    for step, labelled in ((1, 30), (2, 12)):
        store.append(
            [{"checkpoint": "some", "step": step, "labelled_tokens": labelled, "seconds": 0.5}],
            "metrics",
            "train.jsonl",
        )
    played = [(0, 2, True), (1, 5, True), (2, 5, False)]
    for task, rounds, success in played:
        episode = Episode(
            key=f"e{task}", model="some", env="textcraft", task=task, split="test", seed=0, messages=(), score=success,
            success=success, rounds=rounds, stop="done",
        )  # fmt: skip
        store.append([episode.model_dump(mode="json")], "evaluation", "some", "textcraft.jsonl")
    entry = {"score": 66.7, "ci95": [20.8, 93.9], "success_rate": 66.7, "mean_rounds": 4.0, "n": 3, "errors": 0}
    store.write_json(
        ENTRIES[0].facts() | {"environments": {"textcraft": entry}, "episode_keys": {"textcraft": ["e0", "e1", "e2"]}},
        "evaluation", "some", "results.json",
    )  # fmt: skip
    store.finish("looks", "some", "k", environments={"textcraft": {"looks": 3, "steps": 12}})
    return store


def grid_of(store: Store) -> RunOfGrid:
    card = registry.card("textcraft", depths=[1], max_rounds=5)
    failures = {"some.s4": "the loss is not finite"}
    return RunOfGrid("one", {}, CONFIG, store, {"textcraft": card}, ENTRIES, failures)


def test_a_row_says_what_the_model_is_and_how_it_did(store: Store) -> None:
    run = grid_of(store)
    first, failed, alone = rows_of(run, {"textcraft": 3}, truth_of(run))
    assert first["within"] == 3
    assert first["success_within"] == pytest.approx(100 / 3)
    assert first["score"] == 66.7
    assert [point["success"] for point in first["curve"]] == pytest.approx([0, 100 / 3, 100 / 3, 100 / 3, 200 / 3])
    assert first["episodes"] == [
        ["test", 0, 0, 2, 1, 1.0], ["test", 1, 0, 5, 1, 1.0], ["test", 2, 0, 5, 0, 0.0],
    ]  # fmt: skip
    assert (first["labelled_tokens"], first["optimizer_steps"], first["training_seconds"]) == (42, 2, 1.0)
    assert first["share_of_looks"] == 0.25
    assert first["precision"] == pytest.approx(200 / 3)
    assert first["recall"] == 100
    assert first["selected"] == 3
    assert (first["method"], first["ratio"], first["filters"], first["training_seed"]) == ("random", 0.5, ["looks"], 3)
    assert (failed["model"], failed["error"]) == ("some.s4", "the loss is not finite")
    assert failed["n"] is None
    assert failed["episodes"] == []
    assert set(failed) == set(first) == set(alone)
    assert (alone["kind"], alone["model"], alone["selection"], alone["method"]) == ("selection", None, "late", "random")
    assert (alone["precision"], alone["recall"], alone["selected"], alone["episodes"]) == (0, 0, 1, [])


def test_the_precision_of_a_selection_counts_steps_not_environments(rows: list[dict]) -> None:
    few, many = row("a", "value", 0, "maze", 1, precision=100.0, selected=1), row("a", "value", 0, "textcraft", 1)
    [arm] = arms_of([few, many, row("a", "late", None, "maze", 1, kind="selection", model=None)])
    assert arm.precision() == pytest.approx((100 + 10 * 80) / 11)


def test_rows_of_another_machine_are_joined_and_rows_from_here_count_first(store: Store, tmp_path: Path) -> None:
    settings = SETTINGS | {"within": {}, "references": ["all"]}
    elsewhere = [
        row("one", "some", 3, "textcraft", 1.0, model="some"), row("one", "all", 3, "textcraft", 0.5, model="all"),
    ]  # fmt: skip
    file = tmp_path / "elsewhere.json"
    file.write_text(json.dumps({"format": 1, "rows": elsewhere}))
    written = write_experiment(Store(str(tmp_path / "out")), settings, [grid_of(store)], "", "x", [str(file)])
    path, html = written.data, written.page
    solved = sum(success and rounds <= 4 for _, _, _, rounds, success, _ in elsewhere[1]["episodes"])
    shown = [[cell.text for cell in line] for line in written.success.rows]
    assert shown == [["some", "66.7"], ["all", f"{100 * solved / TASKS:.1f}"]]
    found = {(each["model"], each["selection"]): each for each in json.loads(Path(path).read_text())["rows"]}
    assert list(found) == [("some", "some"), ("some.s4", "some"), (None, "late"), ("all", "all")]
    assert found["some", "some"]["score"] == 66.7
    assert found["all", "all"] == elsewhere[1] | {"episodes": found["all", "all"]["episodes"]}
    words = ParsedPage(Path(html).read_text()).words()
    assert "one: not run yet: base." in words
    assert "Selections against the truth" in words
    # The joined file can be joined again: nothing of it is lost.
    again = write_experiment(Store(str(tmp_path / "again")), settings, [grid_of(store)], "", "x", [path])
    assert Path(again.data).read_text() == Path(path).read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"format": 2, "rows": []}, "expected an experiment.json of format 1"),
        ([1], "expected an experiment.json of format 1"),
        ({"format": 1}, "rows.: Input should be a valid list"),
        ({"format": 1, "rows": [{"combination": "one"}]}, "rows.0.values: Field required"),
        ({"format": 1, "rows": [row("one", None, None, "maze", 1.0, kind="odd")]}, "rows.0.kind"),
        ({"format": 1, "rows": [row("two", "some", 3, "maze", 1.0)]}, "combination 'two'"),
    ],
)
def test_a_file_that_cannot_be_joined_is_named(store: Store, tmp_path: Path, content: object, said: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="other.json") as error:
        write_experiment(Store(str(tmp_path / "out")), SETTINGS, [grid_of(store)], "", "x", [str(file)])
    assert said in str(error.value)


def test_the_file_is_deterministic_and_says_what_is_missing(store: Store, tmp_path) -> None:
    out = Store(str(tmp_path / "out"))
    settings = SETTINGS | {"within": {}, "references": ["all"]}
    written = write_experiment(out, settings, [grid_of(store)], "Power.", "python jobs/experiment.py")
    path, html = written.data, written.page
    first = Path(path).read_text()
    write_experiment(out, settings, [grid_of(store)], "Power.", "python jobs/experiment.py")
    assert Path(path).read_text() == first
    data = json.loads(first)
    assert data["format"] == 1
    assert len(data["rows"]) == 3
    words = ParsedPage(Path(html).read_text()).words()
    assert "one, some.s4: failed and is left out of every table: the loss is not finite" in words
    assert "one: not run yet: base." in words


def test_an_experiment_without_a_finished_cell_has_a_page_too(tmp_path) -> None:
    empty = dataclasses.replace(grid_of(Store(str(tmp_path / "none"))), failures={})
    written = write_experiment(Store(str(tmp_path / "out")), SETTINGS, [empty], "Power.", "x")
    assert json.loads(Path(written.data).read_text())["rows"] == []
    assert "nothing to compare yet" in Path(written.page).read_text()
    assert "\n- one: not run yet.\n" in (tmp_path / "out" / "experiment.md").read_text()
