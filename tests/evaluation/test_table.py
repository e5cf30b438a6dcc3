"""The result table: order, cells, what is missing."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.evaluation.table import NONE, cell, escape, layout, markdown, terminal


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
        "model": model,
        "environments": environments,
        "held_in_average": average,
        "held_out_average": None,
    }


def test_order_of_models_and_environments() -> None:
    base = row("base", 30.0, textcraft=entry(20.0), pddl=entry(30.0), babyai=entry(40.0))
    table = layout([row("tuned", 58.3, textcraft=entry(58.3)), base], CARDS)
    assert table.header == (
        "model",
        "babyai (n=24)",
        "textcraft (n=24)",
        "held-in avg",
        "pddl (n=24)",
        "held-out avg",
    )
    assert [cells[0] for cells in table.rows] == ["tuned", "base"]
    assert table.rows[0] == ("tuned", NONE, "58.3 [38.3, 75.5]", "58.3", NONE, NONE)


def test_n_moves_into_the_cell_where_models_differ() -> None:
    table = layout(
        [row("a", maze=entry(50.0)), row("b", maze=entry(50.0, n=20, errors=4))], {"maze": card("maze", True)}
    )
    assert table.header[1] == "maze"
    assert table.rows[0][1] == "50.0 [30.0, 67.2] (n=24)"
    assert table.rows[1][1] == "50.0 [30.0, 67.2] (n=20, 4 errors)"


def test_errors_only_are_no_result() -> None:
    assert cell(entry(None, n=0, errors=1), with_n=False) == "no result (1 error)"
    assert cell(entry(None, n=0), with_n=True) == "no result"


def test_markdown_is_a_table() -> None:
    text = markdown([row("a|b", 50.0, textcraft=entry(50.0))], CARDS)
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
    assert markdown([], CARDS) == "| model |\n| --- |\n"


def test_terminal_shows_the_same_cells_and_takes_no_markup() -> None:
    console = Console(width=120, record=True, file=None)
    with console.capture() as capture:
        console.print(terminal([row("[red]x", 50.0, textcraft=entry(50.0))], CARDS))
    assert "50.0 [30.0, 67.2]" in capture.get()
    assert "[red]x" in capture.get()


def test_a_terminal_has_room_for_fourteen_environments() -> None:
    names = [f"environment_{n}" for n in range(14)]
    cards = {name: card(name, True) for name in names}
    console = Console(width=110)
    with console.capture() as capture:
        results = [row(model, 50.0, **{name: entry(50.0) for name in names}) for model in ("base", "random", "llm")]
        console.print(terminal(results, cards))
    assert capture.get().count("50.0 [30.0, 67.2]") == 3 * 14
    assert all(name in capture.get() for name in names)
