"""Method `verified` on Ray: a random policy's failed episodes, the expert's steps in them, and who finds the result."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.config import PipelineConfig
from atlas_ray.config_files import load
from atlas_ray.environments import make, registry
from atlas_ray.errors import ConfigError
from atlas_ray.hashing import content_hash
from atlas_ray.pipeline.collect import trajectory_of
from atlas_ray.react import format_reply, parse_reply
from atlas_ray.rollout.episode import play
from atlas_ray.rollout.policy import ExpertPolicy
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.roster import Roster
from atlas_ray.selection import compare, export, method, run
from atlas_ray.selection.budget import budget
from atlas_ray.selection.method import SelectionContext
from atlas_ray.selection.methods.verified import JOURNAL, shared_out
from atlas_ray.store import Store
from atlas_ray.training.examples import choose
from atlas_ray.trajectory import Episode, Selection, Trajectory

EASY = {"depths": [1], "distractors": 0, "max_rounds": 4}
"""Goals that a policy which acts at random reaches now and then."""
CONFIG: dict[str, Any] = {
    "environments": {"textcraft": EASY},
    "rollout": {"slots": 8, "memory_gib": 0.5},
    "select": {
        "ratio": 0.5,
        "verified": {"model": "random", "episodes": 2},
        "selections": {
            "few": {"method": "verified", "max_rollouts": 5},
            "sure": {"method": "verified", "rollouts": 2},
            "clean": {"method": "verified", "filters": ["errors", "looks", "repeats"]},
            "rest": {"method": "non_critical", "complement_of": "verified"},
            "by_expert": {"method": "verified", "model": "expert"},
        },
    },
}
OTHER = {"selections": {"few": {"method": "random"}}}
OWN = ["trajectories", "part-0.parquet"]


@given(lengths=st.lists(st.integers(0, 9), max_size=8), total=st.integers(0, 40))
def test_continuations_are_shared_out_evenly(lengths: list[int], total: int) -> None:
    shares = shared_out(lengths, total)
    assert sum(shares) == min(total, sum(lengths))
    assert all(share <= length for share, length in zip(shares, lengths, strict=True))
    short = [share for share, length in zip(shares, lengths, strict=True) if share < length]
    assert not short or max(shares) - min(short) <= 1


@pytest.fixture
def context(ray_cluster, tmp_path, tiny_model) -> SelectionContext:
    config = PipelineConfig.model_validate(CONFIG | {"model": str(tiny_model)})
    versions = {"textcraft": registry.version("textcraft", EASY)}
    return SelectionContext(config, Store(str(tmp_path)), Roster(config, str, str), versions)


def select(context: SelectionContext, name: str) -> dict[str, Selection]:
    """Make a selection; its rows by trajectory id."""
    run.run(context, method.make(context.config.selection(name)))
    return {row.trajectory_id: row for row in context.store.read_selections(name)}


def facts(context: SelectionContext) -> dict[str, Any]:
    return list(context.store.journal("metrics", "select.jsonl"))[-1]


def trajectories() -> list[Trajectory]:
    """The expert's, of eight easy tasks."""
    with contextlib.closing(make("textcraft", **EASY)) as env:
        specs = [EpisodeSpec("expert", "expert", "textcraft", task, "train", 0, options=EASY) for task in range(8)]
        return [trajectory_of(play(env, lambda env, _: ExpertPolicy(env), spec)) for spec in specs]


def failed_episodes(context: SelectionContext) -> dict[str, Episode]:
    """The policy's failed episodes of the journal, by the ids of their trajectories."""
    rows = [row for row in context.store.journal(*JOURNAL) if row["step"] is None]
    episodes = [Episode.model_validate(row["episode"]) for row in rows]
    return {
        f"textcraft_{each.task}_{content_hash([message.model_dump() for message in each.messages])[:8]}": each
        for each in episodes
        if not each.success
    }


def check(trajectory: Trajectory, step: int, failed: Episode) -> None:
    """Play the trajectory of a verified step again, and see that it is what it claims to be."""
    turn = next(turn for turn, message in enumerate(trajectory.messages) if message.step == step)
    assert trajectory.messages[:turn] == failed.messages[:turn]
    instead_of = trajectory.metadata["verified"]["instead_of"]
    assert failed.messages[turn].content == instead_of != trajectory.messages[turn].content
    with contextlib.closing(make("textcraft", **EASY)) as env:
        observation, info = env.reset(seed=failed.seed, options={"task": failed.task})
        for before, message in pairwise(trajectory.messages):
            if message.step is not None:
                assert before.content == observation
                if message.step == step:
                    assert message.content == format_reply(*env.expert().next_action(observation))
                action = parse_reply(message.content, env.card.action_rule).action
                observation, *_, info = env.step(str(action))
    assert info["success"]
    assert (trajectory.success, trajectory.reward, trajectory.source) == (True, 1.0, "policy")


def test_the_experts_step_is_verified_by_what_follows_it(context: SelectionContext) -> None:
    store, subjects = context.store, trajectories()
    store.write_trajectories(subjects)
    rows, found = select(context, "verified"), facts(context)
    made = {each.trajectory_id: each for each in store.read_trajectories("verified")}
    failed, played = failed_episodes(context), list(store.journal(*JOURNAL))
    assert made.keys() == rows.keys()
    assert not [row.error for row in rows.values() if row.error]
    assert (found["episodes"], found["failed"]) == (2 * len(subjects), len(failed))
    assert found["rollouts"] == len(played) == len({row["episode"]["key"] for row in played})
    assert found["steps_tried"] == sum(episode.rounds for episode in failed.values())
    by_failed: dict[str, list[Trajectory]] = {name: [] for name in failed}
    for each in made.values():
        by_failed[each.metadata["verified"].get("failed", each.trajectory_id)].append(each)
    verified = 0
    for name, own in by_failed.items():
        steps = sorted(step for each in own for step in rows[each.trajectory_id].steps)
        known = own[0].metadata["verified"]["verified_steps"]
        assert steps == known[: budget(failed[name].rounds, 0.5)]
        verified += len(steps)
        for each in own:
            reason = rows[each.trajectory_id].reason
            assert reason is None or reason.endswith(each.metadata["verified"]["instead_of"])
            if steps:
                check(each, *rows[each.trajectory_id].steps, failed[name])
            else:
                assert (each.trajectory_id, each.messages, each.success) == (name, failed[name].messages, False)
    assert found["steps_verified"] == verified > 3
    assert any(not row.steps for row in rows.values())

    # whoever reads the selection finds its trajectories
    whole = choose(store.read_trajectories("verified"), list(rows.values()))
    assert sum(map(len, whole.labels.values())) == verified
    target = Path(store.path("exported.jsonl"))
    assert export.export(store, "verified", "messages", str(target), ["of the run"]).rows == verified
    assert len(target.read_text().splitlines()) == verified
    select(context, "all")
    figures = compare.stored(store, ["all", "verified"], None)[-1]
    assert {each.name: each.picked for each in figures.selections}["verified"] == verified
    assert {each.name: each.answered for each in figures.selections}["all"] == len(subjects)
    assert figures.overlaps == ()
    assert len(store.every_trajectory()) == len(subjects) + len(made)
    with pytest.raises(ConfigError, match="rest is made from verified, whose method 'verified' judges trajectories"):
        method.in_order(context.config, ["rest"])

    # a killed run goes on, to the same bytes
    tables = [Path(store.path("selections", "verified", *part)) for part in (["part-0.parquet"], OWN)]
    before, journal = [table.read_bytes() for table in tables], Path(store.path(*JOURNAL))
    lines = journal.read_bytes()
    journal.write_bytes(lines[: len(lines) * 2 // 3])
    assert select(context, "verified") == rows
    assert [table.read_bytes() for table in tables] == before
    assert len(list(store.journal(*JOURNAL))) == len(played)

    # what else is asked of the same episodes
    few = select(context, "few")
    assert facts(context)["steps_tried"] == 5
    assert len(list(store.journal(*JOURNAL))) == len(played)
    assert len(few) >= len(failed)
    clean = select(context, "clean")
    assert clean.keys() == rows.keys()
    assert all(set(row.provenance["filtered"]) == {"errors", "looks", "repeats"} for row in clean.values())
    assert all(set(clean[name].steps) <= set(row.steps) for name, row in rows.items())
    sure = select(context, "sure")
    assert sum(len(row.steps) for row in sure.values()) <= verified

    # another method under its name leaves none of its trajectories behind
    config = context.config.model_copy(update={"select": load(None, {"select": OTHER}).select})
    run.run(replace(context, config=config), method.make(config.selection("few")))
    assert store.trajectory_folder("few") == "trajectories"


def test_a_task_that_is_unknown_here_is_told_and_the_model_counts(context: SelectionContext) -> None:
    known = trajectories()[0]
    foreign = known.model_copy(update={"env": "chess", "trajectory_id": "chess_1", "source": "a file"})
    context.store.write_trajectories([known, foreign])
    select(context, "verified")
    assert (facts(context)["tasks"], facts(context)["tasks_unknown"]) == (1, 1)
    depends = {
        name: method.make(context.config.selection(name)).depends_on(context) for name in ("verified", "by_expert")
    }
    assert depends["verified"]["policy"] != depends["by_expert"]["policy"]
    assert select(context, "by_expert") == {}  # the expert fails in nothing
