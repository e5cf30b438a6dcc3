"""Forks of real trajectories on Ray: value estimates that resume, an adaptive run, and the verification of steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atlas_ray import value
from atlas_ray.collect import _trajectory
from atlas_ray.config import PipelineConfig
from atlas_ray.environments import registry
from atlas_ray.evaluation.metrics import wilson
from atlas_ray.evaluation.verify import markdown, verify
from atlas_ray.rollout.episode import EpisodeSpec, play
from atlas_ray.rollout.player import Agent
from atlas_ray.rollout.policy import ExpertPolicy
from atlas_ray.store import Store
from atlas_ray.trajectory import Message, Selection

OPTIONS = {"textcraft": {"depths": [2], "distractors": 2, "max_rounds": 8}, "wordle": {"max_rounds": 6}}
RANDOM, EXPERT = Agent("random", "random"), Agent("expert", "expert")
CONFIG = PipelineConfig.model_validate(
    {"environments": OPTIONS, "rollout": {"slots": 8, "memory_gib": 0.5},
     "select": {"ratio": 1.0, "value": {"rollouts": 4, "estimate": "mean"}}}
)  # fmt: skip


@pytest.fixture(scope="module")
def trajectories():
    def collected(name, task):
        spec = EpisodeSpec("expert", "expert", name, task, "train", 0, OPTIONS[name])
        return _trajectory(play(registry.make(name, **OPTIONS[name]), lambda env, _: ExpertPolicy(env), spec))

    crafted = [trajectory for task in range(20) if (trajectory := collected("textcraft", task)).success]
    return crafted[:6] + [collected("wordle", task) for task in range(2)]


def rows(store, *place):
    path = Path(store.path(*place))
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_value_rollouts_fork_before_every_step_and_a_rerun_plays_what_is_owed(ray_cluster, tmp_path, trajectories):
    store = Store(str(tmp_path))
    done = value.select(CONFIG, store, trajectories, RANDOM)
    played = rows(store, "select", "value.jsonl")
    n_steps = {trajectory.trajectory_id: trajectory.n_steps for trajectory in trajectories}
    places = {(row["trajectory_id"], row["step"], row["sample"]) for row in played}
    assert places == {(name, t, k) for name, n in n_steps.items() for t in range(n) for k in range(4)}
    assert len(played) == len(places)
    assert not [row.error for row in done if row.error]
    for selection in done:
        returns = selection.provenance["returns"]
        assert len(returns) == n_steps[selection.trajectory_id]
        own = [row["episode"]["score"] for row in played if row["trajectory_id"] == selection.trajectory_id]
        assert sum(own) / 4 == pytest.approx(sum(returns))
        assert selection.provenance["policy"] == "random"
    facts = rows(store, "metrics", "select.jsonl")[-1]
    assert facts["rollouts"] == len(played)
    assert facts["replay_steps"] == sum(n_steps.values())

    table = Path(store.path("selections", "value", "part-0.parquet")).read_bytes()
    journal = Path(store.path("select", "value.jsonl"))
    whole = journal.read_bytes()
    journal.write_bytes(whole[: len(whole) * 2 // 3])  # as a kill would leave it, in the midst of a line
    assert value.select(CONFIG, store, trajectories, RANDOM) == done
    assert Path(store.path("selections", "value", "part-0.parquet")).read_bytes() == table
    again = list(store.journal("select", "value.jsonl"))
    assert len(again) == len({row["episode"]["key"] for row in again}) == len(played)

    adaptive = CONFIG.model_copy(deep=True)
    config = adaptive.select.value.model_copy(update={"adaptive": True})
    adaptive = adaptive.model_copy(update={"select": adaptive.select.model_copy(update={"value": config})})
    value.select(adaptive, store, trajectories, RANDOM)
    assert len(list(store.journal("select", "value.jsonl"))) == len(played)  # every rollout was there
    saving = rows(store, "metrics", "select.jsonl")[-1]["adaptive"]
    assert saving["audited"] >= 1
    assert saving["of"] + saving["audited_of"] == len(played)
    assert 0 < saving["saved"] + saving["audited_saved"] < len(played)


def test_a_trajectory_that_cannot_be_replayed_is_an_error_row(ray_cluster, tmp_path, trajectories):
    turns = list(trajectories[0].messages)
    turns[4] = Message(role="user", content="Something else.")
    changed = trajectories[0].model_copy(update={"messages": tuple(turns), "trajectory_id": "changed"})
    unknown = trajectories[6].model_copy(
        update={"trajectory_id": "unknown", "source": "file", "metadata": {}, "item_id": "wordle_x"}
    )
    good, bad, lost = sorted(
        value.select(CONFIG, Store(str(tmp_path)), [trajectories[1], changed, unknown], RANDOM),
        key=lambda row: ("textcraft", "changed", "unknown").index(row.trajectory_id.split("_")[0]),
    )
    assert good.error is None
    assert "replay: DataError: step 1: the environment says" in bad.error
    assert lost.error.startswith("replay: EnvironmentError")


def test_verification_pairs_scratch_with_takeovers_after_critical_and_after_other_steps(
    ray_cluster, tmp_path, trajectories
):
    store = Store(str(tmp_path))
    cards = {name: registry.card(name, **OPTIONS[name]) for name in OPTIONS}
    chosen = [
        Selection(trajectory_id=t.trajectory_id, method="llm", ratio=0.3, steps=(0, t.n_steps - 1)[: t.n_steps])
        for t in trajectories
    ]
    by_expert = verify(CONFIG, store, EXPERT, trajectories, chosen, cards)["environments"]["textcraft"]
    assert by_expert["from_scratch"]["score"] == by_expert["from_critical"]["score"] == 100
    assert by_expert["critical_last_steps"] == 6  # nothing is left to play after those
    assert by_expert["episodes"] == {"from_scratch": 6, "from_critical": 6, "from_other": 6}
    result = verify(CONFIG, store, RANDOM, trajectories, chosen, cards)
    by_chance = result["environments"]["textcraft"]
    assert by_chance["from_scratch"]["ci95"] == list(wilson(round(by_chance["from_scratch"]["score"] * 6 / 100), 6))
    assert by_chance["from_scratch"]["score"] < 100
    assert by_chance["critical_against_scratch"]["n"] == by_chance["tasks"] == 6
    before = rows(store, "verification", "random", "llm.jsonl")
    assert verify(CONFIG, store, RANDOM, trajectories, chosen, cards) == result
    assert rows(store, "verification", "random", "llm.jsonl") == before
    assert store.read_json("verification", "random", "llm.json") == result
    assert markdown(result).count("\n") == 4
