"""Headline, notes and comparisons: true in every combination of models."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from atlas_ray.config import PipelineConfig
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.report.comparisons import contrast_table, contrasts, headline, model_comparisons, notes, pairs
from atlas_ray.report.data import RunData
from atlas_ray.store import Store
from tests.report.synthetic import RATES

ALONE = "No model was tuned on other steps"


def test_small_differences_are_not_established(outcome: Callable[..., RunData]) -> None:
    base, warmup = headline(outcome({"base": 0.4, "warmup": 0.45, "llm": 0.5}))
    assert base.endswith("Luck can explain this difference: it is not established.")
    assert "not established, so this run does not show that tuning on these steps adds to it" in warmup


def test_harm_is_called_harm(outcome: Callable[..., RunData]) -> None:
    base, warmup = headline(outcome({"base": 0.9, "warmup": 0.9, "llm": 0.1}))
    assert base.endswith("Tuning made it worse, and this is more than luck.")
    assert "tuning on these steps lost part of what the warm-up had taught" in warmup


def test_a_lead_over_chance_must_be_established(outcome: Callable[..., RunData]) -> None:
    found = notes(outcome({"random": 0.5, "base": 0.0, "llm": 0.5}))
    assert found[0].startswith("A random policy solved 24 of 48 test tasks; the difference to llm is not established (")
    assert any(line.startswith(ALONE) for line in found)


def test_other_selections_are_compared(outcome: Callable[..., RunData]) -> None:
    data = outcome({"base": 0.0, "llm": 0.1, "all": 0.9})
    assert list(data.tuned) == ["llm", "all"]
    first, *_ = headline(data)
    assert first.startswith(
        "Tuned on the steps that llm selected, the model solved 4 of 48 test tasks within the cap of 20 rounds; tuned "
        "on all steps it solved 44. All steps win, and this is more than luck (-83.3 points"
    )
    assert not any("Tuned on all steps" in note for note in notes(data))
    assert notes(data)[0].startswith(
        "The untuned model solved 0 of 48 test tasks; the difference to llm is not establi"
    )
    verdicts = {(c.first, c.second, c.env): c.verdict for c in contrasts(data)}
    assert verdicts["all", "llm", "all"] == "worse"
    assert verdicts["base", "all", "textcraft"] == "better"
    assert verdicts["base", "llm", "textcraft"] == "not established"


def test_a_model_tuned_on_random_steps_is_a_model_tuned_on_other_steps(outcome: Callable[..., RunData]) -> None:
    data = outcome({"random": 0.02, "base": 0.0, "llm": 0.8, "random_steps": 0.4})
    assert {name: [model.name for model in models] for name, models in data.tuned.items()} == {
        "llm": ["llm"], "random": ["random_steps"]
    }  # fmt: skip
    found = notes(data)
    assert not any(line.startswith(ALONE) for line in found)
    [note] = [line for line in found if line.startswith("Tuned on random steps instead")]
    assert "the model random_steps solved 20 of 48 test tasks; llm is better, and this is established" in note
    assert ("random_steps", "llm", "all") in {(c.first, c.second, c.env) for c in contrasts(data)}
    assert [line for line in found if "A random policy" in line] == [found[0]]


OTHERS = {
    "none": {}, "random_steps": {"random_steps": 0.4}, "all": {"all": 0.3}, "random_10": {"random_10": 0.2},
    "both": {"random_steps": 0.4, "all": 0.3},
}  # fmt: skip
PHRASES = {
    "random_steps": "random steps instead", "random_10": "random steps (random_10) instead"
}  # fmt: skip


@pytest.mark.parametrize(
    ("references", "others", "seeds"),
    product([(), ("random",), ("base",), ("random", "base", "warmup", "gpt", "mine")], OTHERS, [(0,), (0, 1, 2)]),
)
def test_every_combination_of_models(
    outcome: Callable[..., RunData], references: tuple[str, ...], others: str, seeds: tuple[int, ...]
) -> None:
    rates = dict(zip(references, (0.02, 0.0, 0.3, 0.6, 0.5), strict=False))
    for seed in seeds:
        for name, rate in {"llm": 0.7, **OTHERS[others]}.items():
            rates[name if seed == 0 else f"{name}.s{seed}"] = rate
    data = outcome(rates, train__seeds=list(seeds), select__selections={"random_10": {"method": "random"}})

    first, *more = headline(data)
    beside_all = "all" in OTHERS[others]
    assert first.startswith(
        "Tuned on the steps that llm selected, the model solved"
        if beside_all or "base" in references
        else "The model tuned on the steps that llm selected cannot be compared with the untuned one: base was not"
    )
    assert ("tuned on all steps it solved" in first) == beside_all
    assert [line.startswith("Why: the ") for line in more] == [True] * beside_all + [False] * ("warmup" in references)
    found = notes(data)
    assert sum(line.startswith("The untuned model") for line in found) == (beside_all and "base" in references)
    assert sum("A random policy solved" in line for line in found) == ("random" in references)
    for name in ("gpt", "mine"):
        assert sum(line.startswith(f"{name}, which was not tuned here") for line in found) == (name in references)
    assert any(line.startswith(ALONE) for line in found) == (others == "none")
    instead = [line for line in found if "instead" in line]
    for name, line in zip((name for name in OTHERS[others] if name != "all"), instead, strict=True):
        assert PHRASES[name] in line
        assert f"the model {name} solved" in line
    assert sum("with 3 training seeds, the models solved" in line for line in found) == (len(seeds) > 1) * (
        1 + len(OTHERS[others])
    )
    assert ("One training run with one seed" in found[-1]) == (len(seeds) == 1)

    compared = {(a.name, b.name) for a, b in pairs(data)}
    tuned = [model.name for model in data.of_kind("tuned")]
    for reference in {"random", "base", "warmup"} & set(references):
        assert {(reference, name) for name in tuned} <= compared
    for a, b in pairs(data):
        assert a.kind != "tuned" or (a.seed == b.seed and a.selection != b.selection)


def test_further_training_seeds_are_compared_over_all_environments_only(outcome: Callable[..., RunData]) -> None:
    data = outcome({"base": 0.1, "llm": 0.9, "llm.s1": 0.5}, train__seeds=[0, 1])
    assert [(c.second, c.env) for c in contrasts(data)] == [
        ("llm", "all"), ("llm.s1", "all"), ("llm", "babyai"), ("llm", "textcraft")
    ]  # fmt: skip
    assert any("the models solved 44 of 48 (seed 0) and 24 of 48 (seed 1) test tasks." in line for line in notes(data))


def test_without_a_tuned_model_others_are_compared_with_the_base(outcome: Callable[..., RunData]) -> None:
    data = outcome({"base": 0.1, "gpt": 0.9, "mine": 0.5})
    assert headline(data) == ["No tuned model was evaluated, so there is no result yet."]
    assert notes(data) == []
    assert [(c.first, c.second) for c in contrasts(data) if c.env == "all"] == [("base", "gpt"), ("base", "mine")]


def test_repeated_tasks_are_called_episodes(outcome: Callable[..., RunData]) -> None:
    assert "of 48 test episodes" in headline(outcome({"base": 0.1, "llm": 0.9}, evaluate__repeats=2))[0]


def test_contrasts_use_the_metric_of_the_environment(data: RunData) -> None:
    metrics = {c.env: c.metric for c in contrasts(data)}
    assert metrics == {"all": "success_rate", "babyai": "mean_reward", "textcraft": "success_rate"}


def test_the_table_of_contrasts_shows_verdicts_in_colour(data: RunData) -> None:
    shown = contrast_table(contrasts(data))
    rows = {(row[0].text, row[1].text): row[-1] for row in shown.rows}
    assert (rows["base → llm", "all"].text, rows["base → llm", "all"].tone) == ("better", "good")
    assert len(shown.rows) == len(contrasts(data))


def test_lines_compare_every_model_with_the_first_that_is_no_policy(
    run: Store, config: PipelineConfig, cards: dict[str, EnvironmentCard]
) -> None:
    found = [run.read_json("evaluation", model, "results.json") for model in RATES]
    lines = model_comparisons(run, found, cards)
    assert len(lines) == 2 * 3
    assert [line.split(":")[0] for line in lines if "textcraft" in line] == [
        "random - base, textcraft", "warmup - base, textcraft", "llm - base, textcraft"
    ]  # fmt: skip
    assert model_comparisons(run, found[:1], cards) == []
