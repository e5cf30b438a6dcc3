"""Filters: what is left of a selection's row, and real trajectories whose looks are masked on Ray."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.config import FilterName, PipelineConfig
from atlas_ray.config_files import load
from atlas_ray.environments import make as make_environment
from atlas_ray.environments import registry
from atlas_ray.errors import ConfigError
from atlas_ray.react import NO_ACTION, format_reply
from atlas_ray.roster import Roster
from atlas_ray.selection import run
from atlas_ray.selection.chunks import plan
from atlas_ray.selection.filters import FILTERS, JOURNAL, Judgement, apply
from atlas_ray.selection.method import SelectionContext, make
from atlas_ray.store import Store
from atlas_ray.trajectory import Message, Selection, Trajectory, selection_from_row, to_row
from tests.rollout.experts import styled_trajectory

STEPS = st.sets(st.integers(0, 15))


# -- a row ------------------------------------------------------------------------------------------------------------
@given(STEPS, STEPS, STEPS, st.booleans())
def test_what_filters_leave_of_a_row(chosen: set[int], first: set[int], second: set[int], beside: bool) -> None:
    steps = tuple(sorted(chosen))
    row = Selection(
        trajectory_id="t", method="m", ratio=0.3, steps=steps, scores=tuple(map(float, range(16))), plan="p",
        weights=tuple((step + 1) / 16 for step in steps) if beside else None,
        categories=tuple(f"c{step}" for step in steps) if beside else None, provenance={"seed": 1},
    )  # fmt: skip
    judgements: Any = {"one": {"t": Judgement(frozenset(first))}, "two": {"t": Judgement(frozenset(second))}}
    left = apply(row, judgements)
    assert selection_from_row(to_row(left)) == left  # all that a row must be
    assert set(left.steps) == chosen - first - second
    if beside:
        assert left.weight_of() == {step: (step + 1) / 16 for step in left.steps}
        assert left.categories == tuple(f"c{step}" for step in left.steps)
    else:
        assert left.weights is left.categories is None
    removed = left.provenance["filtered"]
    assert removed == {"one": sorted(chosen & first), "two": sorted((chosen - first) & second)}
    same = {"steps", "weights", "categories", "provenance"}
    assert left.model_dump(exclude=same) == row.model_dump(exclude=same)
    assert left.provenance["seed"] == 1
    assert apply(row, {}) == row


def test_a_judgement_that_failed_is_an_error_row_and_an_error_row_stays_what_it_is() -> None:
    row = Selection(
        trajectory_id="t", method="m", ratio=0.3, steps=(1, 2), weights=(0.5, 1.0), categories=("a", "b"),
        scores=(0.0, 1.0, 2.0),
    )  # fmt: skip
    judgements: Any = {"looks": {"t": Judgement(error="DataError: other words")}}
    failed = apply(row, judgements)
    assert selection_from_row(to_row(failed)) == failed
    assert (failed.error, failed.steps) == ("filter looks: DataError: other words", ())
    assert failed.scores == row.scores
    error = Selection(trajectory_id="t", method="m", ratio=0.3, error="timeout: late")
    assert apply(error, judgements) == error


def test_which_filters_stand_behind_a_selection() -> None:
    values = {
        "filters": ["looks"], "selections": {"every": {"method": "all", "filters": []}, "few": {"method": "random"}}
    }  # fmt: skip
    config = load(None, {"select": values})
    assert {name: config.selection(name).filters for name in ("every", "few", "all")} == {
        "every": (), "few": ("looks",), "all": ("looks",)
    }  # fmt: skip
    assert load(None, {}).selection("all").filters == ()
    assert tuple(FILTERS) == get_args(FilterName)
    for wrong in ({"filters": ["look"]}, {"selections": {"few": {"method": "random", "filters": ["look"]}}}):
        with pytest.raises(ConfigError, match=r"select\..*filters\.0: Input should be .*'looks'.*, found 'look'"):
            load(None, {"select": wrong})


def test_errors_are_the_steps_that_the_environment_refused(tmp_path: Path) -> None:
    draw, env = random.Random(0), make_environment("textcraft", max_rounds=40)
    subjects, refused = [], {}
    for task in range(4):
        turns = [Message(role="user", content=env.reset(options={"task": task})[0])]
        refused[f"t{task}"] = set()
        for step in range(12):
            before, action = env.snapshot().inner, draw.choice([*env.valid_actions(), "sing", "get 1 moon", ""])
            text = format_reply("Hm.", action)
            observation = env.step(action)[0] if action else NO_ACTION
            turns += [Message(role="assistant", content=text, step=step), Message(role="user", content=observation)]
            if env.snapshot().inner == before and action != "inventory":
                refused[f"t{task}"].add(step)
        subjects.append(
            Trajectory(trajectory_id=f"t{task}", env="textcraft", item_id="i", source="file", messages=tuple(turns),
                       n_steps=12)
        )  # fmt: skip
    assert all(refused.values())
    cut = subjects[0].model_copy(update={"trajectory_id": "t4", "messages": subjects[0].messages[:-1]})
    foreign = subjects[0].model_copy(update={"trajectory_id": "t5", "env": "chess"})
    store = Store(str(tmp_path))
    store.write_trajectories([*subjects, cut, foreign])
    config = load(None, {"collect.max_rounds": {"textcraft": 40}})
    found = FILTERS["errors"].judge(SelectionContext(config, store, Roster(config, str, str), {}), plan(store, None, 3))
    assert {name: set(found[name].steps) for name in refused} == refused
    assert set(found["t4"].steps) == refused["t0"] - {11}  # nobody knows what was said at last
    assert found["t5"].error == "there is no environment 'chess' that could tell its errors"


# -- on Ray -----------------------------------------------------------------------------------------------------------
CAPS = {"textcraft": 40, "babyai": 40}
CONFIG: dict[str, Any] = {
    "environments": {env: {"max_rounds": 2} for env in CAPS},
    "collect": {"max_rounds": CAPS},
    "rollout": {"slots": 4, "memory_gib": 0.5},
    "select": {
        "selections": {
            "every": {"method": "all"},
            "but_looks": {"method": "all", "filters": ["looks"]},
            "but_repeats": {"method": "all", "filters": ["errors", "looks", "repeats"]},
            "half": {"method": "random", "ratio": 0.5},
            "half_but_looks": {"method": "random", "ratio": 0.5, "filters": ["looks"]},
            "rest": {"method": "non_critical", "complement_of": "half_but_looks", "filters": ["looks"]},
        }
    },
}


@pytest.fixture
def context(ray_cluster, tmp_path, tiny_model) -> SelectionContext:
    config = PipelineConfig.model_validate(CONFIG | {"model": str(tiny_model)})
    versions = {env: registry.version(env, config.collect_options(env)) for env in CAPS}
    return SelectionContext(config, Store(str(tmp_path)), Roster(config, str, str), versions)


def select(context: SelectionContext, name: str) -> dict[str, Selection]:
    """Make a selection; its rows by trajectory id."""
    run.run(context, make(context.config.selection(name)))
    return {row.trajectory_id: row for row in context.store.read_selections(name)}


def metrics(context: SelectionContext) -> dict[str, Any]:
    return list(context.store.journal("metrics", "select.jsonl"))[-1]


def trajectories() -> list[Trajectory]:
    """Six of each environment by experts who look after every action: too many rounds for the evaluation's cap."""
    played = {env: [styled_trajectory(env, task, "checks", max_rounds=CAPS[env]) for task in range(30)] for env in CAPS}
    return [trajectory for env in CAPS for trajectory in [t for t in played[env] if kinds(t, "habit")][:6]]


def kinds(trajectory: Trajectory, kind: str) -> set[int]:
    return {step for step, each in enumerate(trajectory.metadata["kinds"]) if each == kind}


def test_looks_are_masked_behind_any_method_and_trajectories_are_replayed_once(context) -> None:
    subjects = trajectories()
    assert len(subjects) == 12
    assert all(subject.n_steps > 2 for subject in subjects)
    context.store.write_trajectories(subjects)
    masked, metrics_of_masked = select(context, "but_looks"), metrics(context)
    for subject in subjects:
        row = masked[subject.trajectory_id]
        assert set(row.steps) == kinds(subject, "productive")
        assert row.provenance["filtered"] == {"looks": sorted(kinds(subject, "habit"))}
    n_looks = sum(len(kinds(subject, "habit")) for subject in subjects)
    assert metrics_of_masked["filtered"] == {"looks": n_looks}
    truth = metrics_of_masked["truth"]
    assert (truth["precision"], truth["recall"], truth["trajectories"]) == (100, 100, len(subjects))
    journal = Path(context.store.path(*JOURNAL))
    whole = journal.read_bytes()
    assert whole.count(b"\n") == len(subjects)

    every = select(context, "every")
    assert metrics(context)["filtered"] == {}
    n_productive = sum(len(kinds(subject, "productive")) for subject in subjects)
    assert metrics(context)["truth"]["precision"] == pytest.approx(100 * n_productive / (n_productive + n_looks))
    assert metrics(context)["truth"]["recall"] == 100
    assert all("filtered" not in row.provenance for row in every.values())

    repeats = select(context, "but_repeats")  # no expert is refused; some looked twice, which `looks` has removed
    for subject in subjects:
        row = repeats[subject.trajectory_id]
        assert set(row.steps) == kinds(subject, "productive")
        assert row.provenance["filtered"] == {"errors": [], "looks": sorted(kinds(subject, "habit")), "repeats": []}
    assert journal.read_bytes() == whole  # one replay finds both

    half, half_masked = select(context, "half"), select(context, "half_but_looks")
    rest = select(context, "rest")
    for subject in subjects:
        name = subject.trajectory_id
        assert set(half_masked[name].steps) == set(half[name].steps) - kinds(subject, "habit")
        assert half_masked[name].ratio == 0.5
        assert not set(rest[name].steps) & (kinds(subject, "habit") | set(half_masked[name].steps))
    assert any(half_masked[name].steps != half[name].steps for name in half)
    assert journal.read_bytes() == whole  # one pass for all selections

    table = Path(context.store.path("selections", "but_looks", "part-0.parquet"))
    before = table.read_bytes()
    journal.write_bytes(whole[: len(whole) * 2 // 3])  # as a kill would leave it, within a line
    assert select(context, "but_looks") == masked
    assert table.read_bytes() == before
    rows = list(context.store.journal(*JOURNAL))
    assert len(rows) == len({row["key"] for row in rows}) == len(subjects)


def test_what_cannot_be_played_again_is_an_error_row_and_is_tried_again(context) -> None:
    sound, other = (styled_trajectory("textcraft", task, "checks", max_rounds=40) for task in (1, 2))
    turns = list(other.messages)
    turns[4] = Message(role="user", content="Something else.")
    changed = other.model_copy(update={"messages": tuple(turns), "trajectory_id": "textcraft_changed"})
    foreign = other.model_copy(update={"env": "chess", "trajectory_id": "chess_1", "source": "a file"})
    idle = other.model_copy(update={"trajectory_id": "z", "messages": other.messages[:3], "n_steps": 0})
    only_looks = other.model_copy(
        update={
            "trajectory_id": "y", "n_steps": 2, "source": "a file", "reward": None,
            "messages": tuple(
                Message(role="assistant", content="Thought: I look.\nAction: inventory", step=step) for step in range(2)
            ),
        }
    )  # fmt: skip
    context.store.write_trajectories([sound, changed, foreign, only_looks, idle])
    for _ in range(2):
        found = select(context, "but_looks")
        assert found[sound.trajectory_id].error is None
        assert found["textcraft_changed"].error.startswith("filter looks: DataError: step 1: the environment says")
        assert found["chess_1"].error == "filter looks: there is no environment 'chess' to play it again in"
        assert (found["y"].error, found["y"].steps) == (None, ())
        assert (found["z"].error, found["z"].steps) == (None, ())
        assert metrics(context)["errors"] == {"filter looks": 2}
        assert {row["trajectory_id"] for row in context.store.journal(*JOURNAL)} == {sound.trajectory_id, "y"}
