"""Selections in tables, sentences and colours; the figures are those of `selection/compare.py`."""

from __future__ import annotations

from collections.abc import Callable

from atlas_ray.report import explorer, selections
from atlas_ray.report.content import content
from atlas_ray.report.data import RunData
from atlas_ray.report.drawings import selections_plot
from atlas_ray.report.setting import setting
from atlas_ray.report.tables import Table
from atlas_ray.selection.compare import PROFILE_STEPS, shapes_of
from atlas_ray.selection.compare import figures as figures_of
from atlas_ray.selection.method import color_of
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection
from tests.report.synthetic import make_trajectories


def selected(data: RunData, methods: dict[str, str], **steps: Callable[[int], tuple[int, ...]]) -> RunData:
    """The run with other selections: a function of the number of steps by name; methods where not the name itself."""
    rows = {
        name: [
            Selection(trajectory_id=t.trajectory_id, method=methods.get(name, name), ratio=0.3, steps=rule(t.n_steps))
            for t in make_trajectories()
        ]
        for name, rule in steps.items()
    }
    return RunData(**{**vars(data), "selections": rows})


def first_column(shown: Table | None) -> list[str]:
    assert shown is not None
    return [row[0].text for row in shown.rows]


def test_summary(data: RunData) -> None:
    shown = selections.summary_table(data, data.figures())
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in shown.rows}
    assert list(rows) == ["llm", "perplexity", "random"]
    assert rows["llm"][:2] == ["llm (stand-in)", "18"]
    assert rows["llm"][4:] == ["31.0 %", "22 (+2 retries)", "–", "8,400", "$0.0200", "2 × invalid"]
    assert rows["random"][4:] == ["–", "–", "–", "–", "–", "none"]
    assert [row[0].key for row in shown.rows] == ["s0", "s1", "s2"]


def test_step_numbers_end_with_the_longest_trajectory(data: RunData) -> None:
    found = data.figures()
    assert found.selections[0].profile_by_step[PROFILE_STEPS] is None
    shown = selections.step_table(found)
    assert shown is not None
    assert shown.header == ("step", *map(str, range(9)))
    assert (shown.rows[0][1].text, shown.rows[0][1].shade) == ("100 %", 1.0)
    assert selections.step_table(selected(data, {}).figures()) is None


def test_the_truth_of_each_environment_and_steps_that_filters_removed(data: RunData) -> None:
    assert selections.truth_table(data.figures_by_environment()) is None  # nobody recorded any
    recorded = {
        each.trajectory_id: each.model_copy(
            update={"metadata": {"kinds": ["productive" if step % 2 == 0 else "habit" for step in range(each.n_steps)]}}
        )
        for each in make_trajectories()
    }
    every = selected(data, {}, all=lambda n: tuple(range(n)), random=lambda n: (0,))
    masked = [row.model_copy(update={"provenance": {"filtered": {"looks": [1]}}}) for row in every.selections["all"]]
    logged = {"all": {"filtered": {"looks": 20}}}
    known = RunData(
        **{
            **vars(every),
            "trajectories": recorded,
            "selecting": logged,
            "selections": every.selections | {"all": masked},
        }
    )
    shown = selections.truth_table(known.figures_by_environment())
    assert shown is not None
    rows = [[cell.text for cell in row] for row in shown.rows]
    assert [row[:2] for row in rows] == [
        [name, env] for env in ("babyai", "textcraft", "all environments") for name in ("all", "random")
    ]
    assert rows[5][2:4] == ["20", "100.0 [83.9, 100.0]"]
    assert rows[4][4:] == ["100.0 [83.9, 100.0]", "118", "64"]
    assert rows[4][3].startswith("54.2 [")
    table = selections.summary_table(known, known.figures())
    assert table.rows[0][3].text == "118 of 118 (looks: 20 removed)"
    assert known.phrase_of("all") == "all steps but looks"
    assert known.phrase_of("random") == "random steps"
    assert "| all | babyai | 10 | 54.2 [" in selections.comparison(known.figures_by_environment(), {})
    said = content(known, setting(Store(known.url), known))
    titles = [block.title for section in said.sections if section.anchor == "selections" for block in section.blocks]
    assert titles[:2] == [None, "Do they find the steps that matter?"]
    row = explorer.payload(known, known.figures())["trajectories"][0]
    assert row["kinds"][:3] == ["productive", "habit", "productive"]


def test_what_cannot_differ_is_not_compared(data: RunData) -> None:
    found = selected(data, {}, llm=lambda n: (0,), all=lambda n: tuple(range(n)), non_critical=lambda n: (1,)).figures()
    assert selections.overlap_table(found.overlaps) is None
    assert selections.category_table(found) is None


def test_two_selections_by_one_method_are_two_selections(data: RunData) -> None:
    names = {"random_10": "random", "random_30": "random"}
    other = selected(data, names, random_10=lambda n: (0,), random_30=lambda n: (0, 1), llm=lambda n: (0,))
    found = other.figures()
    assert first_column(selections.overlap_table(found.overlaps)) == [
        "random_10 and random_30", "random_10 and llm", "random_30 and llm"
    ]  # fmt: skip
    colors = selections.colors(found)
    assert colors["random_10"] == (*color_of("random"), 100)
    assert colors["random_30"] == (*color_of("random"), 75)
    assert colors["llm"] == (*color_of("llm"), 100)
    assert selections.worth(other, found).startswith("The selection llm: overlap with random_10 1.00, where chance")


def test_many_selections_are_compared_in_a_matrix(data: RunData) -> None:
    rules = {"random_10": 0, "random_20": 0, "random_30": 1, "random_40": 1, "llm": 0}
    found = selected(
        data,
        dict.fromkeys(list(rules)[:4], "random"),
        **{name: lambda n, at=at: (min(at, n - 1),) for name, at in rules.items()},
    ).figures()
    shown = selections.overlap_table(found.overlaps)
    assert shown is not None
    assert shown.header[1:] == ("random_10", "random_20", "random_30", "random_40")
    assert first_column(shown) == ["random_20", "random_30", "random_40", "llm"]
    cells = [[cell.text for cell in row[1:]] for row in shown.rows]
    assert cells[0] == ["+1.00", "–", "–", "–"]
    assert (cells[2][2], cells[3][:2]) == ("+1.00", ["+1.00", "+1.00"])
    assert all(cell.startswith(("-", "(")) for cell in (*cells[1][:2], *cells[3][2:]))


def test_worth_is_one_sentence_that_says_what_is_not_known(data: RunData) -> None:
    sentence = selections.worth(data, data.figures())
    assert sentence.startswith("The model on board as selector (llm): overlap with perplexity 0.17, where chance gives")
    assert "so no more than chance" in sentence
    assert "its most frequent choice is step 0, in 100% of the trajectories" in sentence
    assert sentence.endswith("not to be trusted as critical steps.")
    nothing, alone = selected(data, {}), selected(data, {}, llm=lambda n: (0,))
    assert selections.worth(nothing, nothing.figures()) == "No selector answered, so there is nothing to judge."
    assert "no other selection to compare it with" in selections.worth(alone, alone.figures())


def test_the_page_of_comparison_and_its_plot(data: RunData) -> None:
    def count(batch: list[str]) -> list[int]:
        return [len(text.split()) for text in batch]

    found = figures_of(data.selections, shapes_of(data.trajectories.values(), count))
    rollouts = {
        "rollouts": 40, "environment_steps": 90, "prefill_tokens_computed": 1000, "prefill_tokens_reused": 500,
        "generated_tokens": 70, "prompt_tokens": 1500, "seconds": 61.4,
    }  # fmt: skip
    text = selections.comparison(found, {"random": rollouts, "llm": {"calls": 3, "cache_hits": 2, "cost_usd": 0.5}})
    assert "| random | nothing | – | 40 | 90 | 1,500 | 70 | – | 61 |" in text
    assert "| llm | one question per trajectory | 5 | – | – | – | – | 0.5000 | – |" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Costs", "## babyai (10 trajectories)", "## textcraft (10 trajectories)",
        "## all environments (20 trajectories)",
    ]  # fmt: skip
    assert text.count("| chosen of the steps in each tenth | 0-10 % |") == 3
    assert text.count("| llm and perplexity |") == 3
    assert "| llm | llm | 18 |" in text
    assert selections_plot(found)[:8] == b"\x89PNG\r\n\x1a\n"
