"""Verification of critical steps on Ray, over real trajectories: groups, pairs, resumption."""

from __future__ import annotations

from atlas_ray.config import PipelineConfig
from atlas_ray.environments import registry
from atlas_ray.evaluation.metrics import wilson
from atlas_ray.evaluation.verify import verify
from atlas_ray.roster import RosterEntry
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection
from tests.rollout.experts import OPTIONS, expert_trajectories

RANDOM, EXPERT = RosterEntry("random", "policy", "random"), RosterEntry("expert", "policy", "expert")
CONFIG = PipelineConfig.model_validate({"environments": OPTIONS, "rollout": {"slots": 8, "memory_gib": 0.5}})


def test_verification_pairs_scratch_with_takeovers_after_critical_and_after_other_steps(ray_cluster, tmp_path):
    store, trajectories = Store(str(tmp_path)), expert_trajectories()
    cards = {name: registry.card(name, **OPTIONS[name]) for name in OPTIONS}
    chosen = [
        Selection(trajectory_id=t.trajectory_id, method="llm", ratio=0.3, steps=(0, t.n_steps - 1)[: t.n_steps])
        for t in trajectories
    ]

    def journal():
        return list(store.journal("verification", "random", "llm.jsonl"))

    by_expert = verify(CONFIG, store, EXPERT, trajectories, chosen, cards)["environments"]["textcraft"]
    assert by_expert["from_scratch"]["score"] == by_expert["from_critical"]["score"] == 100
    assert by_expert["critical_last_steps"] == 6  # nothing is left to play after those
    assert by_expert["episodes"] == {"from_scratch": 6, "from_critical": 6, "from_other": 6}
    result = verify(CONFIG, store, RANDOM, trajectories, chosen, cards)
    by_chance = result["environments"]["textcraft"]
    assert by_chance["from_scratch"]["ci95"] == list(wilson(round(by_chance["from_scratch"]["score"] * 6 / 100), 6))
    assert by_chance["from_scratch"]["score"] < 100
    assert by_chance["critical_against_scratch"]["n"] == by_chance["tasks"] == 6
    assert (result["model"], result["kind"], result["selection"]) == ("random", "policy", "llm")
    before = journal()
    assert len(before) == sum(sum(entry["episodes"].values()) for entry in result["environments"].values())
    assert verify(CONFIG, store, RANDOM, trajectories, chosen, cards) == result
    assert journal() == before
    assert store.read_json("verification", "random", "llm.json") == result
