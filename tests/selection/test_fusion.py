"""Rank fusion, comparison and the bill before the meal: what is made of other methods' results."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.config import HybridConfig, LlmSelectorConfig, PipelineConfig, SelectConfig
from atlas_ray.errors import ConfigError, ModelError
from atlas_ray.models import load_tokenizer, token_counter
from atlas_ray.report.selections import plot, table
from atlas_ray.selection import all as every
from atlas_ray.selection import hybrid, llm, perplexity, random
from atlas_ray.selection.budget import budget
from atlas_ray.selection.compare import OVERALL, compare
from atlas_ray.selection.estimate import estimate
from atlas_ray.selection.journal import Journal, question_key
from atlas_ray.stages import selection_order
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection
from tests.selection.data import trajectory
from tests.selection.test_answer import reply

SCORES = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12)


class TestHybrid:
    @given(scores=SCORES, ratio=st.sampled_from([0.1, 0.3, 1.0]), data=st.data())
    def test_alone_a_method_keeps_its_choice_whatever_its_weight(
        self, scores: list[float], ratio: float, data: st.DataObject
    ) -> None:
        subject = trajectory(1, len(scores))
        alone = perplexity.select(subject, ratio, 0, scores)
        fused = hybrid.select(subject, ratio, 0, {"perplexity": alone}, {"perplexity": data.draw(st.floats(0.1, 9))})
        assert fused.steps == alone.steps

    @given(one=SCORES, data=st.data(), ratio=st.sampled_from([0.1, 0.3, 1.0]))
    def test_only_ranks_count_the_budget_holds_and_a_step_ahead_everywhere_wins(
        self, one: list[float], data: st.DataObject, ratio: float
    ) -> None:
        n = len(one)
        other = data.draw(st.lists(st.floats(-1, 1), min_size=n, max_size=n))
        subject = trajectory(1, n)
        weights = {"perplexity": 2.0, "value": 1.0}
        rows = {
            "perplexity": perplexity.select(subject, ratio, 0, one),
            "value": perplexity.select(subject, ratio, 0, other),
        }
        fused = hybrid.select(subject, ratio, 0, rows, weights)
        assert len(fused.steps) == budget(n, ratio)
        stretched = rows | {"perplexity": perplexity.select(subject, ratio, 0, [7 * score**3 + 1 for score in one])}
        assert hybrid.select(subject, ratio, 0, stretched, weights) == fused
        assert fused.scores is not None
        assert all(0 <= score <= 1 for score in fused.scores)
        for a in range(n):
            for b in range(n):
                if one[a] > one[b] and other[a] > other[b]:
                    assert fused.scores[a] > fused.scores[b]

    def test_weights_decide_between_a_choice_and_scores(self) -> None:
        subject = trajectory(1, 4)
        chosen = Selection(trajectory_id="t0001", method="llm", ratio=0.3, steps=(0,))
        scored = perplexity.select(subject, 0.3, 0, [1.0, 2.0, 3.0, 9.0])
        rows = {"llm": chosen, "perplexity": scored}
        assert hybrid.select(subject, 0.3, 0, rows, {"llm": 3.0, "perplexity": 1.0}).steps == (0,)
        assert hybrid.select(subject, 0.3, 0, rows, {"llm": 1.0, "perplexity": 3.0}).steps == (3,)

    def test_an_error_takes_no_part_and_errors_alone_are_an_error(self) -> None:
        subject = trajectory(1, 4)
        failed = Selection(trajectory_id="t0001", method="llm", ratio=0.3, error="timeout: late")
        scored = perplexity.select(subject, 0.3, 0, [1.0, 2.0, 3.0, 9.0])
        fused = hybrid.select(subject, 0.3, 0, {"llm": failed, "perplexity": scored}, {"llm": 9.0, "perplexity": 1.0})
        assert (fused.steps, fused.error) == ((3,), None)
        assert fused.provenance == {"weights": {"perplexity": 1.0}, "left_out": {"llm": "timeout: late"}}
        fused = hybrid.select(subject, 0.3, 0, {"llm": failed}, {"llm": 1.0})
        assert (fused.steps, fused.error) == ((), "inputs: no selection has a row without an error (timeout: late)")

    def test_no_steps(self) -> None:
        nothing = every.select(trajectory(1, 0), 0.3, 0)
        assert hybrid.select(trajectory(1, 0), 0.3, 0, {"all": nothing}, {"all": 1.0}).steps == ()


def test_a_method_comes_after_its_parts_and_circles_are_refused() -> None:
    config = PipelineConfig(select=SelectConfig(complement_of="hybrid"))
    assert selection_order(config, ["non_critical", "all", "llm"]) == [
        "llm",
        "perplexity",
        "hybrid",
        "non_critical",
        "all",
    ]
    circle = SelectConfig(complement_of="hybrid", hybrid=HybridConfig(weights={"non_critical": 1.0}))
    with pytest.raises(ConfigError, match="hybrid <- non_critical <- hybrid"):
        selection_order(PipelineConfig(select=circle), ["hybrid"])
    with pytest.raises(ValueError, match="weight above 0"):
        HybridConfig(weights={"llm": 0.0})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    subjects = [trajectory(n, 10) for n in range(40)]
    subjects = [s.model_copy(update={"env": "maze" if n % 4 == 0 else "textcraft"}) for n, s in enumerate(subjects)]
    found = Store(str(tmp_path_factory.mktemp("run")))
    found.write_trajectories(subjects)
    found.write_selections("random", [random.select(s, 0.3, 0) for s in subjects])
    found.write_selections("all", [every.select(s, 0.3, 0) for s in subjects])
    first = [
        Selection(trajectory_id=s.trajectory_id, method="llm", ratio=0.3, steps=(0, 9),
                  categories=("plan creation", "critical action"))
        for s in subjects
    ]  # fmt: skip
    first[0] = Selection(trajectory_id="t0000", method="llm", ratio=0.3, error="timeout: late")
    found.write_selections("llm", first)
    return found


def test_comparison_per_environment_and_over_all(store: Store, tiny_model: Path) -> None:
    figures = compare(store, ["all", "llm", "random"], token_counter(str(tiny_model)))
    assert list(figures["environments"]) == ["maze", "textcraft", OVERALL]
    maze = figures["environments"]["maze"]
    assert (maze["trajectories"], maze["methods"]["llm"]["answered"], maze["methods"]["llm"]["errors"]) == (10, 9, 1)
    found = figures["environments"][OVERALL]["methods"]
    assert found["all"]["share_of_steps"] == found["all"]["share_of_tokens"] == 1
    assert found["random"]["share_of_steps"] == pytest.approx(0.3)
    assert 0.15 < found["random"]["share_of_tokens"] < 0.45
    assert found["llm"]["profile"] == [1.0, *[0.0] * 8, 1.0]
    assert found["llm"]["categories"] == {"plan creation": 0.5, "critical action": 0.5}
    assert found["random"]["categories"] == {}
    pairs = {(p["first"], p["second"]): p for p in figures["environments"][OVERALL]["pairs"]}
    assert pairs["all", "random"]["jaccard"] == pytest.approx(0.3)
    assert pairs["llm", "random"]["n"] == 39
    text = table(figures)
    assert "| llm | 39 | 1 | 20 % |" in text
    assert plot(figures)[:4] == b"\x89PNG"


def test_a_dry_run_counts_what_the_journal_lacks(
    store: Store, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    config = PipelineConfig(model=str(tiny_model), select=SelectConfig(llm=LlmSelectorConfig()))
    found = estimate(config, store)
    assert (found.model, found.trajectories, found.calls, found.cache_hits) == ("gpt-4o", 40, 40, 0)
    assert found.cost_usd_at_most == pytest.approx((found.prompt_tokens * 2.5 + 40 * 1024 * 10) / 1e6)
    question = llm.ask_for(trajectory(5, 10), 3, 400_000, stand_in=False).question
    key = question_key("gpt-4o", question, {"temperature": 0.0, "max_tokens": 1024})
    asyncio.run(Journal(store).write(key, reply("x"), 0.25))
    assert (estimate(config, store).calls, estimate(config, store).cache_hits) == (39, 1)
    assert Journal(store).spent_usd() == 0.25
    unpriced = config.model_copy(update={"select": SelectConfig(llm=LlmSelectorConfig(prices={}))})
    assert "price unknown" in estimate(unpriced, store).text()
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert "not to be trusted" in estimate(config, store).text()


def test_tokens_are_counted_as_the_tokenizer_would(tiny_model: Path) -> None:
    texts = ["Thought: I need it.\nAction: get 1 log", "", "日本 \n\n <|im_end|>", "a" * 5000]
    ids = load_tokenizer(str(tiny_model))(texts, add_special_tokens=False)["input_ids"]
    assert token_counter(str(tiny_model))(texts) == [len(each) for each in ids]
    assert token_counter(str(tiny_model))([]) == []


def test_a_tokenizer_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(ModelError, match=r"tokenizer.json cannot be read: [^\n]+$"):
        token_counter(str(tmp_path))
