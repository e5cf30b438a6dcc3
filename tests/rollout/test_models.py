"""Models that play: engines that die or answer garbage, endpoints with every fault; nothing is lost or changed."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
import ray

from atlas_ray.config import EndpointConfig, EngineConfig, Playing, RolloutConfig
from atlas_ray.errors import EndpointError
from atlas_ray.inference.types import Generation
from atlas_ray.rollout import watch
from atlas_ray.rollout.driver import Rollouts, run_episodes
from atlas_ray.rollout.player import Engines, ModelSpec, endpoint_model, engines
from atlas_ray.rollout.spec import EpisodeSpec
from tests.endpoint_server import Answer, EndpointServer, Raw, Reset, Status

ONE = RolloutConfig(slots=4)


FIELDS = {
    "model": "tiny", "model_key": "k", "env": "textcraft", "split": "train", "seed": 0,
    "options": {"depths": [1], "distractors": 2, "max_rounds": 3}, "deadline_s": 120.0,
}  # fmt: skip


def specs(count, sample=0, **playing):
    playing = Playing(**({"max_new_tokens": 8} | playing))
    return [EpisodeSpec(task=task, sample=sample, playing=playing, **FIELDS) for task in range(count)]


def played(work, model):
    return taken(work, run_episodes(work, model, ONE, on_retry=lambda _: None))


def taken(work, results):
    """One episode of each task, by its number."""
    episodes = list(results)
    assert {episode.key for episode in episodes} == {spec.key for spec in work}
    assert len(episodes) == len(work)
    return {episode.task: episode for episode in episodes}


def texts(episodes):
    return {task: (episode.messages, episode.stop, episode.error) for task, episode in episodes.items()}


def engine_pids():
    lines = {process.pid: (process.info["cmdline"] or [""])[0] for process in psutil.process_iter(["cmdline"])}
    mine = {child.pid for child in psutil.Process().children(recursive=True)}
    return [pid for pid, line in lines.items() if line.startswith("ray::EngineActor") and pid in mine]


@pytest.fixture(scope="module")
def rollouts(ray_cluster, tiny_model):
    """An engine, and a server that plays with it."""
    with (
        engines(EngineConfig(max_model_len=1024, cpu_kv_cache_gib=1, dtype="float32"), "tiny", tiny_model) as model,
        Rollouts(model, ONE) as rollouts,
    ):
        yield rollouts


def by_model(rollouts, work):
    rollouts.add(work)
    return taken(work, rollouts)


@pytest.mark.parametrize("calls", [1, 2])
def test_a_model_plays_and_plays_the_same_again(rollouts, calls):
    work = specs(4, calls_per_step=calls)
    first = by_model(rollouts, work)
    assert texts(by_model(rollouts, work)) == texts(first)
    for episode in first.values():
        assert episode.error is None
        assert episode.completion_tokens > 0
        assert 0 < episode.cached_tokens < episode.prompt_tokens  # a turn reads what the turn before left
        if calls == 2:
            assert all("\nAction:" in m.content for m in episode.messages if m.step is not None)


def test_samples_differ_and_repeat(rollouts):
    def sampled(sample):
        return texts(by_model(rollouts, specs(2, temperature=1.0, sample=sample)))

    assert sampled(0) == sampled(0)
    assert sampled(0) != sampled(1)


def test_a_full_context_is_counted_not_cut(rollouts):
    episode = by_model(rollouts, specs(1, max_new_tokens=600))[0]
    assert (episode.stop, episode.error) == ("context", None)
    assert "Goal: craft" in episode.messages[2].content  # the task is whole


def test_a_killed_engine_is_restarted_and_nobody_notices(rollouts):
    work = specs(24)
    undisturbed = texts(by_model(rollouts, work))
    rollouts.add(work)
    episodes = {}
    for episode in rollouts:
        episodes[episode.task] = episode
        if len(episodes) == 3:
            os.kill(engine_pids()[0], signal.SIGKILL)
    assert texts(episodes) == undisturbed


def test_a_frozen_engine_is_killed_and_its_episodes_go_on(rollouts, monkeypatch):
    monkeypatch.setattr(watch, "MOST_SILENT", 5)
    work = specs(24)
    undisturbed = texts(by_model(rollouts, work))
    rollouts.add(work)
    episodes, frozen = {}, []
    for episode in rollouts:
        episodes[episode.task] = episode
        if len(episodes) == 3:
            frozen.append(psutil.Process(engine_pids()[0]))
            frozen[0].suspend()
    assert texts(episodes) == undisturbed
    assert not frozen[0].is_running()


def test_an_engine_that_freezes_between_two_models_is_replaced(ray_cluster, tiny_model, monkeypatch):
    monkeypatch.setattr(watch, "MOST_SILENT", 5)
    others = set(engine_pids())
    with Engines(EngineConfig(max_model_len=1024, cpu_kv_cache_gib=1, dtype="float32")) as kept:
        kept.of("first", tiny_model)
        psutil.Process(*set(engine_pids()) - others).suspend()
        assert played(specs(2), kept.of("second", tiny_model))[1].error is None


class DyingEngine:
    """An engine whose process ends whenever it is asked."""

    async def ready(self) -> int:
        return 1024

    async def generate(self, ids, **sampling):
        os._exit(1)


class GarbageEngine(DyingEngine):
    """An engine that answers with what is no generation."""

    def __init__(self, answers):
        self.answers = list(answers)

    async def generate(self, ids, **sampling):
        return self.answers.pop()


def test_an_engine_that_dies_for_ever_becomes_errors(ray_cluster, tiny_model):
    engine = ray.remote(DyingEngine).options(num_cpus=0, max_restarts=10).remote()
    episodes = played(specs(8), ModelSpec(directory=tiny_model, engines=(engine,), max_len=1024))
    for episode in episodes.values():
        assert "every engine died 3 times" in episode.error
    ray.kill(engine)


def test_garbage_from_an_engine_is_an_error_of_its_episode(ray_cluster, tiny_model):
    garbage = [None, "Action: go", Generation([1, -5], "x", True, 1, 0), Generation("ids", "x", True, 1, 0)]
    engine = ray.remote(GarbageEngine).options(num_cpus=0).remote(garbage)
    episodes = played(specs(len(garbage)), ModelSpec(directory=tiny_model, engines=(engine,), max_len=1024))
    for episode in episodes.values():
        assert episode.error.startswith("EngineError: the engine answered with")
    assert len({episode.error for episode in episodes.values()}) == len(garbage)
    ray.kill(engine)


def reply(body):
    """A deterministic agent."""
    return Answer("Thought: look\nAction: " + ("inventory" if len(body["messages"]) % 4 == 1 else "get 1 \ud83d stick"))


def test_an_endpoint_with_faults_plays_as_one_without(ray_cluster):
    work = specs(8)
    with EndpointServer(default=reply) as server:
        model = endpoint_model(EndpointConfig(base_url=server.url, model="m", timeout_s=2.0), "")
        with Rollouts(model, ONE) as rollouts:
            undisturbed = texts(by_model(rollouts, work))
            assert not [error for *_, error in undisturbed.values() if error]
            slow = Answer("late", delay_s=30.0)
            now = {"Retry-After": "0"}
            server.script.extend([Status(429, headers=now), Status(500), Raw(b"<html>"), Reset(), slow, Status(503)])
            assert texts(by_model(rollouts, work)) == undisturbed
        assert not server.script


def test_an_endpoint_that_stays_ill_becomes_errors_and_one_that_refuses_ends_the_run(ray_cluster):
    work = specs(3)
    with EndpointServer(default=Status(500)) as server:
        config = EndpointConfig(base_url=server.url, model="m", max_retries=1)
        episodes = played(work, endpoint_model(config, ""))
        assert all(episode.error.startswith("CallError: server") for episode in episodes.values())
    with EndpointServer(default=Status(400, {"message": "too long", "code": "context_length_exceeded"})) as server:
        config = EndpointConfig(base_url=server.url, model="m", max_retries=1)
        assert {e.stop for e in played(work, endpoint_model(config, "")).values()} == {"context"}
    with EndpointServer(default=reply, key="sk-right") as server:
        config = EndpointConfig(base_url=server.url, model="m", max_retries=1)
        with pytest.raises(EndpointError, match="key was refused"):
            played(work, endpoint_model(config, "sk-wrong"))
