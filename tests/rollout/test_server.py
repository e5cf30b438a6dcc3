"""Episodes on Ray: every spec yields one episode, whatever dies. Real actors, killed by signal."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from atlas_ray.config import EngineConfig
from atlas_ray.inference.engine import EngineActor
from atlas_ray.rollout.episode import EpisodeSpec
from atlas_ray.rollout.server import Player, run_episodes


def specs(model, count, **options):
    return [
        EpisodeSpec(model=model, model_key="k", env="textcraft", task=task, split="train", seed=0,
                    options={"max_rounds": 3}, max_new_tokens=8, **options)
        for task in range(count)
    ]  # fmt: skip


def server_pids():
    lines = {process.pid: (process.info["cmdline"] or [""])[0] for process in psutil.process_iter(["cmdline"])}
    return [pid for pid, line in lines.items() if line.startswith("ray::EnvironmentServer")]


def strip(episodes):
    return {episode.key: episode.model_copy(update={"seconds": 0.0}) for episode in episodes}


def test_a_killed_server_loses_and_doubles_nothing(ray_cluster):
    work = specs("random", 60)
    undisturbed = strip(run_episodes(work, Player(), servers=2, slots=4, on_retry=print))
    assert len(undisturbed) == 60
    retries, episodes, killed = [], [], False
    for episode in run_episodes(work, Player(), servers=2, slots=4, on_retry=retries.append):
        episodes.append(episode)
        if len(episodes) == 5 and not killed:
            os.kill(server_pids()[0], signal.SIGKILL)
            killed = True
    assert len(episodes) == 60
    assert strip(episodes) == undisturbed


@pytest.mark.timeout(300)
def test_a_killed_engine_becomes_errors_not_zeros(ray_cluster, tiny_model):
    engine = EngineActor.options(num_cpus=1).remote(tiny_model, EngineConfig(max_model_len=1024, cpu_kv_cache_gib=1))
    import ray

    player = Player(tiny_model, (engine,), ray.get(engine.ready.remote()))
    first = list(run_episodes(specs("tiny", 2), player, servers=1, slots=2, on_retry=print))
    assert [episode.error for episode in first] == [None, None]
    assert all(episode.completion_tokens > 0 for episode in first)
    again = list(run_episodes(specs("tiny", 2), player, servers=1, slots=2, on_retry=print))
    assert strip(again) == strip(first)  # greedy: the same episode again
    ray.kill(engine)
    broken = list(run_episodes(specs("tiny", 3), player, servers=1, slots=2, on_retry=print))
    assert len(broken) == 3
    assert all(episode.stop == "error" and "ActorDiedError" in episode.error for episode in broken)
