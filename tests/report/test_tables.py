"""Tables: one layout in three forms; the table of results with its groups of training seeds."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.evaluation.grouped import grouped
from atlas_ray.evaluation.metrics import results
from atlas_ray.report.results import cell_text, layout, result_table
from atlas_ray.report.tables import NONE, Table, escape, table, to_markdown, to_terminal
from atlas_ray.report.verification import verification_table
from atlas_ray.store import Store
from tests.report.synthetic import facts_of, make_card, make_episodes, make_verification, write_model


def texts(shown: Table) -> list[tuple[str, ...]]:
    """The rows without their drawing."""
    return [tuple(cell.text for cell in row) for row in shown.rows]


def card(name: str, held_in: bool) -> EnvironmentCard:
    return EnvironmentCard(
        name=name,
        held_in=held_in,
        metric="success_rate",
        max_rounds=9,
        instruction="Play.",
        n_train=9,
        n_test=9,
        source="test",
        action_rule="one",
    )


CARDS = {"textcraft": card("textcraft", True), "babyai": card("babyai", True), "pddl": card("pddl", False)}


def entry(score: float | None, n: int = 24, errors: int = 0) -> dict[str, Any]:
    interval = None if score is None else [score - 20, score + 17.2]
    return {"score": score, "ci95": interval, "n": n, "errors": errors}


def row(model: str, average: float | None = None, **environments: dict[str, Any]) -> dict[str, Any]:
    return {
        **facts_of(model),
        "environments": environments,
        "held_in_average": average,
        "held_out_average": None,
    }


def test_order_of_models_and_environments() -> None:
    base = row("base", 30.0, textcraft=entry(20.0), pddl=entry(30.0), babyai=entry(40.0))
    shown = layout([row("tuned", 58.3, textcraft=entry(58.3)), base], CARDS)
    assert shown.header == (
        "model",
        "babyai (n=24)",
        "textcraft (n=24)",
        "held-in avg",
        "pddl (n=24)",
        "held-out avg",
    )
    assert [cells[0] for cells in texts(shown)] == ["tuned", "base"]
    assert texts(shown)[0] == ("tuned", NONE, "58.3 [38.3, 75.5]", "58.3", NONE, NONE)


def test_n_moves_into_the_cell_where_models_differ() -> None:
    shown = layout(
        [row("a", maze=entry(50.0)), row("b", maze=entry(50.0, n=20, errors=4))], {"maze": card("maze", True)}
    )
    assert shown.header[1] == "maze"
    assert texts(shown)[0][1] == "50.0 [30.0, 67.2] (n=24)"
    assert texts(shown)[1][1] == "50.0 [30.0, 67.2] (n=20, 4 errors)"


def test_errors_only_are_no_result() -> None:
    assert cell_text(entry(None, n=0, errors=1), with_n=False) == "no result (1 error)"
    assert cell_text(entry(None, n=0), with_n=True) == "no result"


def test_markdown_is_a_table() -> None:
    text = to_markdown(layout([row("a|b", 50.0, textcraft=entry(50.0))], CARDS))
    assert text.splitlines() == [
        "| model | textcraft (n=24) | held-in avg |",
        "| --- | ---: | ---: |",
        "| a\\|b | 50.0 [30.0, 67.2] | 50.0 |",
    ]


def test_markdown_escapes_what_it_would_interpret() -> None:
    assert escape("a | *b* `c` [d](e) <f> 3 < 4 g_h _i_\n# j 5.0 [1, 2] (n=3)") == (
        "a \\| \\*b\\* \\`c\\` \\[d](e) \\<f> 3 < 4 g_h \\_i\\_ \\# j 5.0 [1, 2] (n=3)"
    )


def test_nothing_evaluated_is_an_empty_table() -> None:
    assert to_markdown(layout([], CARDS)) == "| model |\n| --- |\n"


def test_terminal_shows_the_same_cells_and_takes_no_markup() -> None:
    console = Console(width=120, record=True, file=None)
    with console.capture() as capture:
        console.print(to_terminal(layout([row("[red]x", 50.0, textcraft=entry(50.0))], CARDS)))
    assert "50.0 [30.0, 67.2]" in capture.get()
    assert "[red]x" in capture.get()


def test_a_terminal_has_room_for_fourteen_environments() -> None:
    names = [f"environment_{n}" for n in range(14)]
    cards = {name: card(name, True) for name in names}
    console = Console(width=110)
    with console.capture() as capture:
        rows = [row(model, 50.0, **{name: entry(50.0) for name in names}) for model in ("base", "random", "llm")]
        console.print(to_terminal(layout(rows, cards)))
    assert capture.get().count("50.0 [30.0, 67.2]") == 3 * 14
    assert all(name in capture.get() for name in names)


def test_a_row_that_does_not_fit_its_header_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells under a header of 2"):
        table(["a", "b"], [["1"]])


def test_trainings_with_several_seeds_are_followed_by_their_mean(tmp_path) -> None:
    store = Store(str(tmp_path))
    cards = {name: make_card(name) for name in ("babyai", "textcraft")}
    models = {"base": 0.0, "llm": 0.5, "random_steps": 0.25, "llm.s1": 0.75, "llm.s2": 1.0}
    for model, rate in models.items():
        write_model(store, model, (rate, rate))
    found = [store.read_json("evaluation", model, "results.json") for model in models]
    shown = result_table(store, found, cards)
    assert [cells[0] for cells in texts(shown)] == [*models, "llm, mean of 3 seeds"]
    assert shown.strong == {1, 2, 3, 4, 5}
    mean = texts(shown)[-1]
    assert shown.header[2] == "textcraft (n=24)"
    expected = grouped([make_episodes(m, "textcraft", models[m]) for m in ("llm", "llm.s1", "llm.s2")], "success_rate")
    assert expected["score"] == pytest.approx(75.0)
    assert mean[2] == f"75.0 [{expected['ci95'][0]:.1f}, {expected['ci95'][1]:.1f}]"
    assert mean[3] == f"{(float(mean[1].split()[0]) + 75.0) / 2:.1f}"  # of the two environments


def test_one_seed_has_no_mean_and_neither_has_what_was_not_tuned(tmp_path) -> None:
    store = Store(str(tmp_path))
    cards = {"textcraft": make_card("textcraft")}
    found = [
        results(facts_of(model), "abc", {"textcraft": make_episodes(model, "textcraft", 0.5)}, cards)
        for model in ("base", "gpt", "mine", "llm", "random_steps")
    ]
    assert len(result_table(store, found, cards).rows) == 5


def test_verification_says_what_is_not_known() -> None:
    shown = verification_table(make_verification("base", "llm"), make_verification("warmup", "critical"))
    assert [cells[:4] for cells in texts(shown)] == [
        ("base", "llm", "babyai", "12"), ("base", "llm", "textcraft", "12 (1 error)"),
        ("warmup", "critical", "babyai", "12"), ("warmup", "critical", "textcraft", "12 (1 error)"),
    ]  # fmt: skip
    assert texts(shown)[0][6:] == (NONE, "+33.3 [+8.3, +58.3], p = 0.030 (n=12)", NONE)
    assert texts(shown)[1][4:7] == ("25.0 [8.9, 53.2]", "58.3 [32.0, 80.7]", "41.7 [19.3, 68.0]")
