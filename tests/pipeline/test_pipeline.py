"""The whole road on a tiny random Llama: real jobs, Ray, vLLM and HTTP. (Killed and gone on: `test_chaos.py`.)"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from atlas_ray.chat import encode
from atlas_ray.store import Store
from tests.conftest import ROOT
from tests.pipeline.conftest import SECRET, TINY, command


def episodes(run_dir: str) -> list[dict]:
    return [json.loads(line) for path in sorted(Path(run_dir).glob("evaluation/*/*.jsonl")) for line in path.open()]


def test_a_finished_pipeline_has_nothing_to_do(run, finished, done):
    after, asked = episodes(finished), run.server.calls
    assert "7 calls, 0 retries, 0 from the journal" in done.stdout  # one question per trajectory of the tuning set
    assert len({e["key"] for e in after}) == len(after) == 3 * 2 * 4  # models x environments x tasks, none twice
    assert not [e["error"] for e in after if e["error"]]

    again = run("pipeline")
    assert again.returncode == 0, again.stderr
    assert "train llm: current, skipped" in again.stdout
    assert "running" not in again.stdout
    assert episodes(finished) == after
    assert run.server.calls == asked


def test_the_run_directory_has_every_file_of_the_contract(finished):
    store = Store(finished)
    for path in (
        "config.yaml", "collect/manifest.json", "select/manifest.json", "train/manifest.json", "evaluate/manifest.json",
        "metrics/train.jsonl", "metrics/select.jsonl", "report.html", "report.md",
        "checkpoints/llm/model.safetensors", "checkpoints/llm/tokenizer.json", "checkpoints/warmup/config.json",
    ):  # fmt: skip
        assert store.exists(*path.split("/")), path
    trajectories = store.read_trajectories()
    assert len(trajectories) == 14
    assert all(t.success and t.source == "expert" and t.n_steps for t in trajectories)
    for method in ("llm", "perplexity", "random", "non_critical", "all", "hybrid"):
        rows = store.read_selections(method)
        assert len(rows) == 7  # half went into the warm-up
        assert not [row.error for row in rows if row.error]
        assert all(row.steps for row in rows) or method == "non_critical"
    results = store.read_json("evaluation", "llm", "results.json")
    assert set(results) >= {"model", "config_hash", "environments", "held_in_average", "held_out_average"}
    entry = results["environments"]["textcraft"]
    assert set(entry) >= {
        "metric", "score", "ci95", "n", "success_rate", "errors", "mean_rounds", "prompt_tokens", "completion_tokens",
    }  # fmt: skip
    assert entry["n"] == 4


def test_a_secret_of_the_environment_is_written_nowhere(run, finished, done, ray_folder):
    """Not in the run directory, not in what the job says, not in anything that Ray wrote about it."""
    for place in (Path(finished), Path(ray_folder)):
        files = [file for file in place.rglob("*") if file.is_file()]
        assert len(files) > 20
        assert not [file for file in files if SECRET.encode() in file.read_bytes()]
    assert SECRET not in done.stdout + done.stderr
    assert run.env["OPENAI_API_KEY"] == SECRET


def test_warmup_and_tuning_sets_are_disjoint_and_only_selected_steps_are_trained(finished):
    store = Store(finished)
    rows = list(store.journal("metrics", "train.jsonl"))
    tuned = [row for row in rows if row["checkpoint"] == "llm"]
    assert tuned
    facts = store.facts("train")
    assert facts["warmup"]["trajectories"] == facts["llm"]["trajectories"] == 7


def test_perplexities_are_those_of_a_plain_forward_pass(finished):
    store = Store(finished)
    path = store.path("checkpoints", "warmup")  # what tuning starts from scores
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path)
    trajectories = {each.trajectory_id: each for each in store.read_trajectories()}
    rows = [row for row in store.read_selections("perplexity") if "windows" not in row.provenance]
    assert len(rows) >= 4  # Wordle's instruction is longer than the context in the tiny tokenizer's tokens
    for row in rows:
        encoded = encode(trajectories[row.trajectory_id], tokenizer)
        with torch.no_grad():
            logits = model(torch.tensor([encoded.ids])).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(encoded.ids[1:]), reduction="none")
        expected = [losses[start - 1 : end - 1].mean().item() for start, end in encoded.spans]
        assert [math.log(score) for score in row.scores] == pytest.approx(expected, abs=1e-3)


def test_a_changed_stage_alone_runs_again(run, finished, tmp_path):
    copy = str(shutil.copytree(finished, tmp_path / "run"))
    done = run("select", "--run_dir", copy, "--select.methods", "random", "--select.ratio", "0.5")
    assert done.returncode == 0, done.stderr
    assert "train warmup: current, skipped" in done.stdout
    assert "select random: running" in done.stdout
    assert {row.ratio for row in Store(copy).read_selections("random")} == {0.5}


def test_an_episode_that_the_disk_has_lost_is_played_again(run, finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "run")
    journal = copy / "evaluation" / "random" / "textcraft.jsonl"
    os.truncate(journal, journal.stat().st_size - 7)
    done = run("evaluate", "--run_dir", str(copy))
    assert done.returncode == 0, done.stderr
    assert "evaluate random: some of what it had made is lost" in done.stdout
    assert "evaluate llm: current, skipped" in done.stdout
    before, after = (
        [row | {"seconds": 0} for row in Store(str(folder)).journal("evaluation", "random", "textcraft.jsonl")]
        for folder in (finished, copy)
    )
    assert after == before
    assert Store(str(copy)).read_json("evaluation", "random", "results.json") == (
        Store(finished).read_json("evaluation", "random", "results.json")
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--train.lr", "1"], "unknown option '--train.lr'"),
        (["--config", "none.yaml"], "none.yaml: No such file"),
        (["--seed", "7"], "another experiment (seed was 0, is 7)"),
        (["--select.methods", "magic"], "selection 'magic': no such method"),
        (["--evaluate.environments", "chess"], "no environment 'chess'"),
        (["--run_dir", "/proc/no"], "cannot write"),
    ],
)
def test_bad_input_is_one_line_and_code_2(run, finished, options, says):
    done = run("evaluate", *options)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert says in lines[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_a_model_without_tokenizer_is_refused(run, tiny_model, tmp_path):
    (tmp_path / "m").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "m" / name).write_bytes((Path(tiny_model) / name).read_bytes())
    done = run("pipeline", "--model", str(tmp_path / "m"), "--run_dir", str(tmp_path / "run"))
    assert done.returncode == 2
    assert "no tokenizer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path):
    done = subprocess.run(
        command("collect", "--config", TINY, "--run_dir", str(tmp_path / "run")),
        env=os.environ | {"RAY_ADDRESS": "127.0.0.1:1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "RAY_ADDRESS=127.0.0.1:1: nothing answers there" in done.stderr
    assert not (tmp_path / "run").exists()
