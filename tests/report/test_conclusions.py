"""What the report concludes: findings, overlap against chance, choices of what is shown, drawings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.config import PipelineConfig, load
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.report import explorer, findings, overview, view
from atlas_ray.report.charts import MAX_POINTS, curve, nice
from atlas_ray.report.data import RunData, in_order, model_name, read
from atlas_ray.report.html import duration, facts
from atlas_ray.store import Store
from atlas_ray.trajectory import Message, Selection
from tests.report.synthetic import ENVIRONMENTS, TASKS, make_card, make_episodes, make_trajectories, write_model


@pytest.fixture(scope="module")
def data(run: Store, config: PipelineConfig, cards: dict[str, EnvironmentCard]) -> RunData:
    """The finished run."""
    return read(config, run, cards)


@pytest.fixture
def outcome(tmp_path: Path, cards: dict[str, EnvironmentCard]) -> Callable[..., RunData]:
    """A run of which only the evaluation matters: success rates per model."""

    def make(**rates: float) -> RunData:
        store = Store(str(tmp_path / "run"))
        for model, rate in rates.items():
            write_model(store, model, (rate, rate))
        options: dict[str, object] = {"train.warmup": {}} if "warmup" in rates else {}
        wanted = {"evaluate.environments": list(ENVIRONMENTS), "evaluate.models": list(rates)}
        return read(load(None, options | wanted), store, cards)

    return make


# --- findings -----------------------------------------------------------------------------------------------------
def test_small_differences_are_not_established(outcome: Callable[..., RunData]) -> None:
    base, warmup = findings.headline(outcome(base=0.4, warmup=0.45, llm=0.5))
    assert base.endswith("Luck can explain this difference: it is not established.")
    assert "not established, so this run does not show that tuning on the selected steps adds to it" in warmup


def test_harm_is_called_harm(outcome: Callable[..., RunData]) -> None:
    base, warmup = findings.headline(outcome(base=0.9, warmup=0.9, llm=0.1))
    assert base.endswith("Tuning made it worse, and this is more than luck.")
    assert "tuning on the selected steps lost part of what the warm-up had taught" in warmup


def test_without_warmup_there_is_one_sentence(outcome: Callable[..., RunData]) -> None:
    assert len(findings.headline(outcome(base=0.0, llm=0.5))) == 1


def test_a_lead_over_chance_must_be_established(outcome: Callable[..., RunData]) -> None:
    data = outcome(random=0.5, base=0.0, llm=0.5)
    assert any("the lead of llm over it is not established" in note for note in findings.notes(data))
    assert any("nothing here says that these steps are better than others" in note for note in findings.notes(data))


def test_other_selections_are_compared(outcome: Callable[..., RunData]) -> None:
    data = outcome(base=0.0, llm=0.1, all=0.9)
    assert data.tuned == ["llm", "all"]
    note = next(note for note in findings.notes(data) if "Tuned on all steps instead" in note)
    assert "solved 44 of 48 test tasks" in note
    assert "is established" in note
    verdicts = {(c.first, c.second, c.env): c.verdict for c in findings.contrasts(data)}
    assert verdicts["all", "llm", "all"] == "worse"
    assert verdicts["base", "all", "textcraft"] == "better"
    assert verdicts["base", "llm", "textcraft"] == "not established"


def test_contrasts_use_the_metric_of_the_environment(data: RunData) -> None:
    metrics = {c.env: c.metric for c in findings.contrasts(data)}
    assert metrics == {"all": "success_rate", "babyai": "mean_reward", "textcraft": "success_rate"}


@pytest.mark.parametrize(("p", "text"), [(0.0004, "p < 0.001"), (0.0123, "p = 0.012"), (1.0, "p = 1.000")])
def test_p_text(p: float, text: str) -> None:
    assert findings.p_text(p) == text


# --- reading ------------------------------------------------------------------------------------------------------
def test_episodes_that_the_config_no_longer_asks_for_are_left_out(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_model(store, "base", (0.5, 0.5))
    again = make_episodes("base", "textcraft", 1.0)[:1]
    store.append([again[0].model_dump(mode="json")], "evaluation", "base", "textcraft.jsonl")
    cards = {name: make_card(name) for name in ENVIRONMENTS}
    fewer = load(None, {"evaluate.tasks": 5, "evaluate.models": ["base"]})
    episodes = read(fewer, store, cards).models["base"].episodes
    assert [(e.env, e.task) for e in episodes] == [(env, task) for env in ENVIRONMENTS for task in range(5)]
    assert next(e for e in episodes if e.env == "textcraft").success  # the later line counts
    assert read(load(None, {"seed": 7}), store, cards).models["base"].episodes == []


def test_an_evaluation_in_other_environments_is_named_and_left_out(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_model(store, "base", (0.5, 0.5))
    found = read(load(None), store, {"textcraft": make_card("textcraft")})
    assert found.models == {}
    assert "Model base: its evaluation is of other environments (babyai)." in found.missing


def test_names() -> None:
    assert in_order(["b", "c", "a"], ["c", "x"]) == ["c", "a", "b"]
    assert [model_name(name) for name in ("llm", "models/tuned/", "/a/b")] == ["llm", "tuned", "b"]


# --- selections ---------------------------------------------------------------------------------------------------
def selected(data: RunData, **steps: Callable[[int], tuple[int, ...]]) -> RunData:
    """The run with other selections: a function of the number of steps for each method."""
    selections = {
        method: [
            Selection(trajectory_id=t.trajectory_id, method=method, ratio=0.3, steps=rule(t.n_steps))
            for t in make_trajectories()
        ]
        for method, rule in steps.items()
    }
    return RunData(**{**vars(data), "selections": selections})


def test_overlap_verdicts(data: RunData) -> None:
    (same,) = overview.overlaps(selected(data, llm=lambda n: (0,), perplexity=lambda n: (0,)))
    assert (same.jaccard, same.verdict, same.trajectories) == (1.0, "more than chance", 20)
    (forced,) = overview.overlaps(selected(data, llm=lambda n: tuple(range(n)), perplexity=lambda n: (0,)))
    assert forced.verdict == "no more than chance"
    (apart,) = overview.overlaps(selected(data, llm=lambda n: (0, 1), perplexity=lambda n: (n - 1,)))
    assert (apart.jaccard, apart.verdict) == (0.0, "less than chance")


def test_methods_that_cannot_differ_are_not_compared(data: RunData) -> None:
    rules = {name: (lambda n: (0,)) for name in ("llm", "all", "non_critical")}
    assert overview.overlaps(selected(data, **rules)) == []


def test_method_rows(data: RunData) -> None:
    rows = {row.method: row for row in overview.method_rows(data)}
    assert list(rows) == ["llm", "perplexity", "random"]
    llm = rows["llm"]
    assert (llm.trajectories, llm.errors, llm.stand_in) == (18, {"invalid": 2}, True)
    assert (llm.profile[0], llm.favourite) == (1.0, (0, 1.0))
    assert llm.profile[overview.PROFILE_STEPS] is None  # no trajectory is that long
    assert (llm.token_share, rows["random"].token_share) == (0.31, None)
    assert llm.tokens == 8400
    assert llm.cost_usd == pytest.approx(0.02)
    everything = overview.method_rows(selected(data, all=lambda n: tuple(range(n))))[0]
    assert everything.step_share == 1.0
    assert {value for value in everything.profile if value is not None} == {1.0}


def test_worth_is_one_sentence_that_says_what_is_not_known(data: RunData) -> None:
    sentence = overview.worth(data)
    assert sentence.startswith("The model on board as selector (llm): overlap with perplexity 0.17, where chance gives")
    assert "so no more than chance" in sentence
    assert "its most frequent pick is step 0, in 100% of the trajectories" in sentence
    assert sentence.endswith("not to be trusted as critical steps.")
    assert overview.worth(selected(data)) == "No selector answered, so there is nothing to judge."
    assert "no other method to compare it with" in overview.worth(selected(data, llm=lambda n: (0,)))


# --- what is shown ------------------------------------------------------------------------------------------------
def test_conversation_becomes_rounds() -> None:
    talk = view.conversation(
        [
            Message(role="user", content="Play."),
            Message(role="assistant", content="OK."),
            Message(role="user", content="You see a door."),
            Message(role="assistant", content="Thought: open it\nAction: open door", step=0),
            Message(role="user", content="It opens."),
            Message(role="assistant", content="I do not know", step=1),
        ],
        "one",
    )
    assert talk.opening == "Play.\n\nOK.\n\nYou see a door."
    assert talk.rounds == [
        view.Round(0, "open it", "open door", "Thought: open it\nAction: open door", "It opens."),
        view.Round(1, "I do not know", None, "I do not know", ""),
    ]


def test_the_explorer_has_every_trajectory_and_every_pair_failures_first(data: RunData) -> None:
    known = explorer.payload(data)
    assert len(known["trajectories"]) == len(data.trajectories)
    assert known["said"] == ""
    first = known["trajectories"][0]
    assert set(first["picks"]) == {"llm", "perplexity", "random"}
    assert first["picks"]["llm"]["steps"] == (0,)
    assert len(first["picks"]["perplexity"]["scores"]) == first["n"] == len(first["rounds"])
    assert 0 <= first["disagreement"] <= 1
    outcomes = [pair["sides"][1]["solved"] for pair in known["episodes"]]
    assert outcomes == sorted(outcomes)
    assert {False, True} == set(outcomes)
    assert all([side["model"] for side in pair["sides"]] == ["base", "llm"] for pair in known["episodes"])
    assert len(known["episodes"]) == TASKS * len(ENVIRONMENTS)


def test_a_large_run_is_sampled_and_says_so(data: RunData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "MOST_ROWS", 7)
    known = explorer.payload(data)
    assert len(known["trajectories"]) == len(known["episodes"]) == 7
    assert f"7 of {len(data.trajectories)} trajectories are here" in known["said"]
    assert {row["env"] for row in known["trajectories"]} == set(ENVIRONMENTS)
    monkeypatch.setattr(explorer, "MOST_BYTES", 3000)
    assert 0 < len(explorer.payload(data)["trajectories"]) < 7


@given(st.text(max_size=200))
def test_embedded_text_cannot_end_its_element(text: str) -> None:
    embedded = explorer.embed({"text": text})
    assert not set("<>&\u2028\u2029") & set(embedded)
    assert json.loads(embedded) == {"text": text}


@given(st.lists(st.integers(), max_size=30), st.integers(-2, 40))
def test_spread_keeps_order_and_count(items: list[int], count: int) -> None:
    places = view.spread(range(len(items)), count)
    assert len(places) == max(0, min(count, len(items)))
    assert places == sorted(set(places))
    assert not places or places[0] == 0


# --- drawings -----------------------------------------------------------------------------------------------------
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_curve_stays_in_its_box(values: list[float]) -> None:
    drawn = curve(range(len(values)), values)
    assert drawn is not None
    points = [tuple(map(float, point.split(","))) for point in drawn.points.split()]
    assert len(points) == len(values)
    assert all(0 <= x <= 100 and -0.01 <= y <= 100.01 for x, y in points)
    assert points[0][0] == 0
    assert points[-1][0] == 100
    assert all(-0.01 <= tick.at <= 100.01 for tick in drawn.x_ticks + drawn.y_ticks)


def test_curve_of_too_little_or_too_much() -> None:
    assert curve([1.0], [2.0]) is None
    assert curve([1.0, 2.0, 3.0], [float("nan"), 1.0, float("inf")]) is None
    tiny = curve([0.0, 1.0], [0.0, 5e-324])
    assert tiny is not None
    assert tiny.points == "0.00,100.00 100.00,100.00"
    drawn = curve(range(10_001), range(10_001))
    assert drawn is not None
    assert len(drawn.points.split()) == MAX_POINTS
    assert drawn.points.endswith("100.00,0.00")


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_nice_ticks_cover_the_range(low: float, span: float) -> None:
    ticks = nice(low, low + span)
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(ticks)
    slack = 1e-6 * max(abs(low), abs(low + span), 1)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack


def test_durations_and_facts() -> None:
    assert [duration(s) for s in (None, 4.21, 59.4, 200, 7505)] == ["–", "4.2 s", "59 s", "3 min 20 s", "2 h 05 min"]
    assert facts({"trajectories": 12, "dropped": {"maze": 3}, "none": {}, "share": 0.123456}) == (
        "trajectories = 12, dropped (maze = 3), none none, share = 0.1235"
    )
