"""Episodes on Ray: every spec yields one episode, the same values, whatever dies, hangs or leaks. Real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil

from atlas_ray.config import RolloutConfig
from atlas_ray.rollout import driver
from atlas_ray.rollout.driver import run_episodes
from atlas_ray.rollout.episode import EpisodeSpec
from atlas_ray.rollout.player import Player
from tests.conftest import PYTHONPATH, ROOT

TWO = RolloutConfig(servers=2, slots=4, memory_gib=0.5)


def specs(count, env="faulty", model="random", deadline_s=60.0, **options):
    return [
        EpisodeSpec(model=model, model_key="k", env=env, task=task, split="train", seed=0, options=options,
                    deadline_s=deadline_s)
        for task in range(count)
    ]  # fmt: skip


def servers():
    """Process ids of living environment servers of this driver's cluster."""
    found = []
    for process in psutil.process_iter(["cmdline", "ppid", "status"]):
        line = (process.info["cmdline"] or [""])[0]
        if line.startswith("ray::EnvironmentServer") and process.info["status"] != psutil.STATUS_ZOMBIE:
            raylet = psutil.Process(process.info["ppid"])
            if psutil.Process(os.getpid()) in raylet.parents() or raylet.ppid() == os.getpid():
                found.append(process.pid)
    return sorted(found)


def played(work, config=TWO, disturb=None, at=5):
    """All episodes, as {task: what must not change}; `disturb` is called once, after `at` of them."""
    episodes = []
    for episode in run_episodes(work, Player(), config, on_retry=lambda _: None):
        episodes.append(episode)
        if len(episodes) == at and disturb is not None:
            disturb()
    assert len(episodes) == len({episode.key for episode in episodes}) == len(work)
    return {episode.task: episode.model_copy(update={"seconds": 0.0, "key": ""}) for episode in episodes}


def test_a_killed_server_loses_and_doubles_nothing(ray_cluster):
    work = specs(60, step_s=0.02)
    undisturbed = played(work)
    assert all(episode.error is None for episode in undisturbed.values())
    killed = []

    def kill():
        killed.extend(servers())
        os.kill(killed[0], signal.SIGKILL)

    assert played(work, disturb=kill) == undisturbed
    assert killed


def test_a_frozen_server_is_given_up(ray_cluster, monkeypatch):
    monkeypatch.setattr(driver, "PROBE_AFTER_S", 1.0)
    monkeypatch.setattr(driver, "PROBE_TIMEOUT_S", 4.0)
    work = specs(40, step_s=0.05)
    undisturbed = played(work)
    assert played(work, disturb=lambda: os.kill(servers()[0], signal.SIGSTOP)) == undisturbed


def test_a_hung_environment_is_one_error_and_its_neighbours_never_notice(ray_cluster, tmp_path):
    config, work = TWO.model_copy(update={"call_deadline_s": 2.0, "servers": 1}), specs(24, folder=str(tmp_path))
    well = played(work, config)
    for task in (3, 11):
        (tmp_path / f"hang-{task}").touch()
    episodes = played(work, config)
    for task in (3, 11):
        assert (episodes[task].stop, episodes[task].rounds) == ("deadline", 2)  # what it had done is kept
        assert "did not return from a call within 2 s" in episodes.pop(task).error
    assert episodes == {task: well[task] for task in episodes}


def test_an_environment_that_kills_its_server_is_one_error(ray_cluster, tmp_path):
    work = specs(24, folder=str(tmp_path))
    well = played(work)
    (tmp_path / "die-5").touch()
    episodes = played(work)
    assert "its server was lost 3 times" in episodes.pop(5).error
    assert episodes == {task: well[task] for task in episodes}


def test_a_server_that_leaks_or_has_done_its_share_is_replaced(ray_cluster, tmp_path):
    def processes():
        return len({name.split("-")[3] for name in os.listdir(tmp_path)})

    config = TWO.model_copy(update={"servers": 1})
    played(specs(30, folder=str(tmp_path)), config.model_copy(update={"recycle_after": 8}))
    assert (before := processes()) >= 3
    episodes = played(specs(16, leak_mib=30, step_s=0.3, folder=str(tmp_path)), config)
    assert not [episode.error for episode in episodes.values() if episode.error]
    assert processes() - before >= 2


def test_a_lost_node_halves_the_capacity_and_nothing_else():
    done = subprocess.run(
        [sys.executable, "-m", "tests.rollout.lost_node"], cwd=ROOT, env=os.environ | {"PYTHONPATH": PYTHONPATH},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    print(facts)
    assert facts["identical"]
    assert facts["episodes"] == facts["distinct"] == facts["owed"]
    assert facts["done_again"] > 0
    assert facts["nodes"] == [2, 1, 2]  # before, after the kill, and after one joined
    assert facts["joined"] > 0  # servers on the node that came
