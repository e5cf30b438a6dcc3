"""Episodes on Ray: every spec yields one episode, the same values, whatever dies, hangs or leaks. Real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import ray

from atlas_ray.config import RolloutConfig
from atlas_ray.rollout import driver
from atlas_ray.rollout.driver import run_episodes
from atlas_ray.rollout.episode import play
from atlas_ray.rollout.player import ModelSpec
from atlas_ray.rollout.policy import RandomPolicy
from atlas_ray.rollout.process import kill_process
from atlas_ray.rollout.server import EnvironmentActor
from atlas_ray.rollout.spec import EpisodeSpec
from tests.conftest import PYTHONPATH, ROOT
from tests.plugin.faulty import FaultyEnv

TWO = RolloutConfig(servers=2, slots=4, memory_gib=0.5)
ONE = TWO.model_copy(update={"servers": 1})


def specs(count, **options):
    return [
        EpisodeSpec(model="random", model_key="k", env="faulty", task=task, split="train", seed=0, options=options,
                    deadline_s=60.0)
        for task in range(count)
    ]  # fmt: skip


def content(episodes):
    """What must not change, by task."""
    return {episode.task: episode.model_copy(update={"seconds": 0.0}) for episode in episodes}


def undisturbed(work):
    """The episodes as they are in one process, where nothing goes wrong."""

    def alone(spec):
        return play(FaultyEnv(**spec.options), lambda env, spec: RandomPolicy(env, spec.key), spec)

    with ThreadPoolExecutor(64) as pool:
        episodes = content(pool.map(alone, work))
    assert not [episode.error for episode in episodes.values() if episode.error]
    return episodes


def played(work, config=TWO, disturb=None, at=5, on_retry=lambda _: None):
    """All episodes; `disturb` is called once, after `at` of them."""
    episodes = []
    for episode in run_episodes(work, ModelSpec(), config, on_retry=on_retry):
        episodes.append(episode)
        if len(episodes) == at and disturb is not None:
            disturb()
    assert len(episodes) == len({episode.key for episode in episodes}) == len(work)
    return content(episodes)


def busy_server(folder):
    """The process id of a server that is in the midst of task 2, which hangs until it is told otherwise."""
    while not (traces := list(folder.glob("trace-2-1-*"))):
        time.sleep(0.01)
    return int(traces[0].name.rpartition("-")[2])


def hanging(folder, **options):
    """Sixty tasks, the episodes that they must become, and a task 2 that does not end."""
    work = specs(60, folder=str(folder), **options)
    well = undisturbed(work)
    for trace in folder.iterdir():
        trace.unlink()
    (folder / "hang-2").touch()
    return work, well


def test_a_killed_server_loses_and_doubles_nothing(ray_cluster, tmp_path):
    again = []
    work, well = hanging(tmp_path, step_s=0.02)

    def kill():
        os.kill(busy_server(tmp_path), signal.SIGKILL)
        (tmp_path / "hang-2").unlink()

    assert played(work, disturb=kill, on_retry=again.append) == well
    assert 1 <= len(again) <= TWO.slots


@pytest.mark.parametrize("wakes", [True, False])
def test_a_frozen_server_is_given_up_unless_it_wakes_in_time(ray_cluster, monkeypatch, tmp_path, wakes):
    monkeypatch.setattr(driver, "PROBE_AFTER_S", 0.3)
    monkeypatch.setattr(driver, "PROBE_TIMEOUT_S", 60.0 if wakes else 5.0)
    again, frozen = [], []
    work, well = hanging(tmp_path, step_s=0.05)

    def freeze():
        frozen.append(psutil.Process(busy_server(tmp_path)))
        frozen[0].suspend()
        (tmp_path / "hang-2").unlink()
        if wakes:
            threading.Timer(1.5, frozen[0].resume).start()

    assert played(work, disturb=freeze, on_retry=again.append) == well
    assert bool(again) != wakes
    psutil.wait_procs(frozen, timeout=60)
    assert not frozen[0].is_running()  # it would keep its CPU


def test_the_process_of_a_frozen_server_is_killed_where_it_runs(ray_cluster):
    actor = EnvironmentActor.remote(ModelSpec(), ONE)  # nobody calls `ray.kill`, which does not always reach it
    found = ray.get(actor.ping.remote())
    frozen = psutil.Process(found.pid)
    frozen.suspend()
    kill_process(found._replace(created=found.created - 1))  # another process that had its number
    kill_process(found)
    assert psutil.wait_procs([frozen], timeout=60)[0]


def test_a_hung_environment_is_one_error_and_its_neighbours_never_notice(ray_cluster, tmp_path):
    work = specs(24, folder=str(tmp_path))
    well = undisturbed(work)
    for task in (3, 11):
        (tmp_path / f"hang-{task}").touch()
    episodes = played(work, ONE.model_copy(update={"call_deadline_s": 4.0}))
    for task in (3, 11):
        assert (episodes[task].stop, episodes[task].rounds) == ("deadline", 2)  # what it had done is kept
        assert "did not return from a call within 4 s" in episodes.pop(task).error
    assert episodes == {task: well[task] for task in episodes}


def test_an_environment_that_kills_its_server_is_one_error(ray_cluster, tmp_path):
    work = specs(24, folder=str(tmp_path))
    well = undisturbed(work)
    (tmp_path / "die-5").touch()
    episodes = played(work)
    assert "its server was lost 3 times" in episodes.pop(5).error
    assert episodes == {task: well[task] for task in episodes}


@pytest.mark.parametrize(
    ("count", "options", "limit", "at_least"),
    [(24, {}, {"recycle_after": 8}, 3), (14, {"leak_mib": 40, "step_s": 0.2}, {"memory_gib": 0.5}, 2)],
)
def test_a_server_that_leaks_or_has_done_its_share_is_replaced(ray_cluster, tmp_path, count, options, limit, at_least):
    work = specs(count, folder=str(tmp_path), **options)
    episodes = played(work, ONE.model_copy(update=limit))
    assert not [episode.error for episode in episodes.values() if episode.error]
    assert len({name.split("-")[3] for name in os.listdir(tmp_path)}) >= at_least  # processes that have played


def test_a_lost_node_halves_the_capacity_and_nothing_else():
    done = subprocess.run(
        [sys.executable, "-m", "tests.rollout.lost_node"], cwd=ROOT, env=os.environ | {"PYTHONPATH": PYTHONPATH},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    print(facts)
    assert facts["differing"] == []
    assert facts["episodes"] == facts["distinct"] == facts["owed"]
    assert facts["done_again"] > 0
    assert facts["nodes"] == [2, 1, 2]  # before, after the kill, and after one joined, on which a server then played
