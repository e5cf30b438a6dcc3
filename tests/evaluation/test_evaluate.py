"""Evaluation on Ray: what is played again and why, and that every reader counts the same episodes."""

from __future__ import annotations

import socket
import threading

import pytest
import uvicorn

from atlas_ray.config import PipelineConfig
from atlas_ray.environments import http
from atlas_ray.errors import StoreError
from atlas_ray.evaluation import ledger
from atlas_ray.evaluation.compare import against, contrast
from atlas_ray.evaluation.evaluate import cards, episode_specs, evaluate
from atlas_ray.roster import RosterEntry
from atlas_ray.store import Store

NAME = "remote:alfworld"
RANDOM, EXPERT = RosterEntry("random", "policy", "random"), RosterEntry("expert", "policy", "expert")


def test_a_missing_engine_is_errors_with_a_reason_and_the_same_command_tries_again(ray_cluster, tmp_path, capsys):
    store = Store(str(tmp_path))

    def rows():
        return list(store.journal("evaluation", "random", f"{NAME}.jsonl"))

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = PipelineConfig.model_validate(
            {"environments": {NAME: {"url": url, "max_rounds": 3}}, "rollout": {"memory_gib": 0.5},
             "evaluate": {"environments": [NAME], "tasks": 2}}
        )  # fmt: skip
        entry = evaluate(config, store, RANDOM)["environments"][NAME]  # nobody listens
        assert (entry["errors"], entry["n"], entry["score"]) == (2, 0, None)
        assert f"  evaluate random: {NAME}: 2 of 2 episodes failed: EnvironmentError: {NAME}: {url}" in (
            capsys.readouterr().out
        )
        server = uvicorn.Server(uvicorn.Config(http.make_app("alfworld"), log_level="error"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        entry = evaluate(config, store, RANDOM)["environments"][NAME]
        assert (entry["errors"], entry["n"], entry["mean_rounds"]) == (0, 2, 3)
        assert [row["error"] is None for row in rows()] == [False, False, True, True]
        assert "failed" not in capsys.readouterr().out
        evaluate(config, store, RANDOM)
        assert len(rows()) == 4
        server.should_exit = True
        thread.join(10)


def test_stale_lines_of_a_journal_count_nowhere(ray_cluster, tmp_path):
    """Faults that a journal keeps: a line of other settings, and a failed line, after those that count."""
    store = Store(str(tmp_path))
    config = PipelineConfig.model_validate(
        {"environments": {"textcraft": {"depths": [1], "max_rounds": 4}}, "rollout": {"memory_gib": 0.5},
         "evaluate": {"environments": ["textcraft"], "tasks": 3}}
    )  # fmt: skip
    known = cards(config, ["textcraft"])
    tables = {entry.name: evaluate(config, store, entry) for entry in (RANDOM, EXPERT)}
    counted = ledger.counted(store, "random")
    assert [episode.task for episode in counted] == [0, 1, 2]
    for row in list(store.journal("evaluation", "random", "textcraft.jsonl")):
        stale = row | {"key": f"{row['key']}-before", "score": 1.0, "success": True, "stop": "done"}
        failed = row | {"error": "engine: gone", "stop": "error"}
        store.append([stale, failed], "evaluation", "random", "textcraft.jsonl")
    assert ledger.counted(store, "random") == counted
    assert evaluate(config, store, RANDOM) == tables["random"]
    compared = against(store, "random", "expert", known)
    assert [each.comparison.n for each in compared] == [3]
    for name, first_or_second in (("random", compared[0].comparison.first), ("expert", compared[0].comparison.second)):
        assert tables[name]["environments"]["textcraft"]["score"] == pytest.approx(first_or_second)
    assert compared[0] == contrast(counted, ledger.counted(store, "expert"), "textcraft", known)
    assert compared[0].line.startswith("expert - random, textcraft: +")
    assert contrast(counted, [], None, known) is None
    assert tables["expert"].items() >= EXPERT.facts().items()


def test_results_whose_episodes_are_gone_are_one_line(tmp_path):
    store = Store(str(tmp_path))
    store.write_json({"model": "random"}, "evaluation", "random", "results.json")
    with pytest.raises(StoreError, match="has no episode_keys"):
        ledger.counted(store, "random")
    store.write_json({"episode_keys": {"maze": ["k"]}}, "evaluation", "random", "results.json")
    with pytest.raises(StoreError, match=r"counts episode k, which maze\.jsonl lacks"):
        ledger.counted(store, "random")


@pytest.mark.parametrize(
    ("change", "is_owed"),
    [
        ({"engine": {"max_model_len": 8192}}, True),  # "ended with a full context" must be played again
        ({"engine": {"dtype": "bfloat16"}}, True),
        ({"evaluate": {"max_new_tokens": 512}}, True),
        ({"environments": {"textcraft": {"max_rounds": 9}}}, True),
        ({"engine": {"replicas": 2, "max_num_seqs": 8}}, False),
        ({"rollout": {"servers": 3, "deadline_s": 10.0}}, False),
    ],
)
def test_what_changes_an_episode_changes_its_key(change, is_owed):
    base = {"evaluate": {"environments": ["textcraft"], "tasks": 1}}
    model = RosterEntry("llm", "tuned", "weights", selection="llm", seed=0, directory="/models/llm")

    def keys(values):
        config = PipelineConfig.model_validate(values)
        return [spec.key for spec in episode_specs(config, model, cards(config, ["textcraft"]))]

    changed = {name: base.get(name, {}) | change.get(name, {}) for name in {*base, *change}}
    assert (keys(changed) != keys(base)) is is_owed
