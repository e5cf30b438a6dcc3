"""The soak of engines, short: one of two is killed while they play, and nothing is lost or changed."""

from __future__ import annotations

from benchmarks import soak


def test_killed_engines_lose_and_change_nothing(ray_cluster, tiny_model):
    found = soak.soak_engines(tiny_model, ("maze", "textcraft"), tasks=4, kills=1, every_s=0.5, seed=0)
    results = {result.claim: result for result in found}
    assert results["engines: killed"].value == 1
    assert results["engines: errors"].value == results["engines: other than undisturbed"].value == 0
