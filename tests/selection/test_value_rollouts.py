"""Method `value` on Ray, over real trajectories: forks, resumption, an adaptive run, and trajectories that fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atlas_ray.config import PipelineConfig
from atlas_ray.environments import registry
from atlas_ray.roster import Roster
from atlas_ray.selection import run
from atlas_ray.selection.method import SelectionContext, make
from atlas_ray.selection.methods.value import JOURNAL
from atlas_ray.store import Store
from atlas_ray.trajectory import Message
from tests.rollout.experts import OPTIONS, expert_trajectories

CONFIG = {
    "environments": OPTIONS,
    "rollout": {"slots": 8, "memory_gib": 0.5},
    "select": {
        "ratio": 1.0,
        "value": {"rollouts": 4, "model": "random"},
        "selections": {
            "strict": {"method": "value", "threshold": 0.5},
            "adaptive": {"method": "value", "adaptive": True},
            "by_expert": {"method": "value", "model": "expert"},
            "warm": {"method": "value", "temperature": 0.5},
            "pivot": {"method": "pivot", "ratio": 0.5},
        },
    },
}


@pytest.fixture
def context(ray_cluster, tmp_path, tiny_model):
    config = PipelineConfig.model_validate(CONFIG | {"model": str(tiny_model)})
    versions = {env: registry.version(env, OPTIONS[env]) for env in OPTIONS}
    return SelectionContext(config, Store(str(tmp_path)), Roster(config, not_trained, not_trained), versions)


def not_trained(name):
    raise AssertionError(f"{name} is no model of this test")


def select(context, name):
    """Make a selection; its rows."""
    run.run(context, make(context.config.selection(name)))
    return context.store.read_selections(name)


def played(context):
    return list(context.store.journal(*JOURNAL))


def facts(context):
    return list(context.store.journal("metrics", "select.jsonl"))[-1]


def test_rollouts_fork_before_every_step_and_a_rerun_plays_what_the_journal_lacks(context):
    store, trajectories = context.store, expert_trajectories()
    store.write_trajectories(trajectories)
    done = select(context, "value")
    rows = played(context)
    n_steps = {trajectory.trajectory_id: trajectory.n_steps for trajectory in trajectories}
    forks = {(row["trajectory_id"], row["step"], row["sample"]) for row in rows}
    assert forks == {(name, t, k) for name, n in n_steps.items() for t in range(n) for k in range(4)}
    assert len(rows) == len(forks)
    assert not [row.error for row in done if row.error]
    for selection in done:
        returns = selection.provenance["returns"]
        assert len(returns) == n_steps[selection.trajectory_id]
        own = [row["episode"]["score"] for row in rows if row["trajectory_id"] == selection.trajectory_id]
        assert sum(own) / 4 == pytest.approx(sum(returns))
        assert selection.provenance["policy"] == "random"
    assert facts(context)["rollouts"] == len(rows)
    assert facts(context)["replay_steps"] == sum(n_steps.values())

    table = Path(store.path("selections", "value", "part-0.parquet"))
    before, journal = table.read_bytes(), Path(store.path(*JOURNAL))
    whole = journal.read_bytes()
    journal.write_bytes(whole[: len(whole) * 2 // 3])  # as a kill would leave it, within a line
    assert select(context, "value") == done
    assert table.read_bytes() == before
    again = played(context)
    assert len(again) == len({row["episode"]["key"] for row in again}) == len(rows)

    pivots = select(context, "pivot")  # and another method none either
    assert len(played(context)) == len(rows)
    assert "rollouts" not in facts(context)
    for row, value in zip(pivots, done, strict=True):
        own = {step: [] for step in range(n_steps[row.trajectory_id])}
        for each in rows:
            if each["trajectory_id"] == row.trajectory_id:
                own[each["step"]].append(each["episode"]["score"])
        assert row.scores == pytest.approx([np.var(rewards) for rewards in own.values()])
        assert all(row.scores[step] > 0 and value.provenance["returns"][step] < 0.6 for step in row.steps)
    assert any(row.steps for row in pivots)

    strict = select(context, "strict")  # another threshold needs no rollout of its own
    assert [row.scores for row in strict] == [row.scores for row in done]
    assert sum(len(row.steps) for row in strict) < sum(len(row.steps) for row in done)
    select(context, "adaptive")
    assert len(played(context)) == len(rows)
    saving = facts(context)["adaptive"]
    assert saving["audited"] >= 1
    assert saving["of"] + saving["audited_of"] == len(rows)
    assert 0 < saving["saved"] + saving["audited_saved"] < len(rows)


def test_trajectories_that_cannot_be_forked_are_error_rows_and_hold_up_no_adaptive_run(context):
    first, second, *_ = expert_trajectories()
    turns = list(first.messages)
    turns[4] = Message(role="user", content="Something else.")
    changed = first.model_copy(update={"messages": tuple(turns), "trajectory_id": "textcraft_changed"})
    no_task = (*second.messages[:2], Message(role="user", content="Goal: craft the moon."), *second.messages[3:])
    unknown = second.model_copy(
        update={"trajectory_id": "unknown", "source": "file", "metadata": {}, "item_id": "textcraft_x",
                "messages": no_task}
    )  # fmt: skip
    idle = second.model_copy(
        update={"trajectory_id": "z", "messages": second.messages[:3], "n_steps": 0, "reward": None, "source": "file"}
    )
    context.store.write_trajectories([second, changed, unknown, idle])
    found = {row.trajectory_id: row for row in select(context, "adaptive")}
    assert found[second.trajectory_id].error is None
    assert "replay: DataError: step 1: the environment says" in found["textcraft_changed"].error
    assert found["unknown"].error.startswith("replay: EnvironmentError")
    assert (found["z"].error, found["z"].steps) == (None, ())
    assert len({row["trajectory_id"] for row in played(context)}) == 1


def test_the_policy_and_how_it_plays_are_what_a_selection_depends_on(context):
    depends = {
        name: make(context.config.selection(name)).depends_on(context)
        for name in ("value", "strict", "by_expert", "warm")
    }
    assert depends["value"] == depends["strict"]
    assert depends["by_expert"]["policy"] != depends["value"]["policy"]
    assert depends["warm"]["playing"] != depends["value"]["playing"]
    assert depends["value"]["environments"] == dict(context.environment_versions)
