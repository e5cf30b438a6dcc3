"""An evaluation that fails, is repeated and then has nothing to do; the environment is another server's."""

from __future__ import annotations

import socket
import threading

import uvicorn

from atlas_ray.config import PipelineConfig
from atlas_ray.environments import http
from atlas_ray.evaluation.run import evaluate
from atlas_ray.rollout.player import Agent
from atlas_ray.store import Store

NAME = "remote:alfworld"


def test_a_missing_engine_is_errors_with_a_reason_and_the_same_command_tries_again(ray_cluster, tmp_path, capsys):
    store, agent = Store(str(tmp_path)), Agent("random", "random")

    def rows():
        return list(store.journal("evaluation", "random", f"{NAME}.jsonl"))

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = PipelineConfig.model_validate(
            {"environments": {NAME: {"url": url, "max_rounds": 3}}, "rollout": {"memory_gib": 0.5},
             "evaluate": {"environments": [NAME], "tasks": 2}}
        )  # fmt: skip
        entry = evaluate(config, store, agent)["environments"][NAME]  # nobody listens
        assert (entry["errors"], entry["n"], entry["score"]) == (2, 0, None)
        assert f"  evaluate random: {NAME}: 2 of 2 episodes failed: EnvironmentError: {NAME}: {url}" in (
            capsys.readouterr().out
        )
        server = uvicorn.Server(uvicorn.Config(http.make_app("alfworld"), log_level="error"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        entry = evaluate(config, store, agent)["environments"][NAME]
        assert (entry["errors"], entry["n"], entry["mean_rounds"]) == (0, 2, 3)
        assert [row["error"] is None for row in rows()] == [False, False, True, True]
        assert "failed" not in capsys.readouterr().out
        evaluate(config, store, agent)
        assert len(rows()) == 4
        server.should_exit = True
        thread.join(10)
