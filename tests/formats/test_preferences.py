"""Step preferences as other projects' rows, each against what its project reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from atlas_ray.formats.preferences import one_a_state, to_llamafactory, to_pivot, to_trl, to_verl
from atlas_ray.selection.export import PREFERENCE_FORMATS, SUFFIXES, export_preferences
from atlas_ray.selection.rollout_preferences import Established
from atlas_ray.trajectory import Alternative, Message, StepPreference
from tests.selection.data import trajectory
from tests.tokenizers import tokenizer


def preference(step: int = 1, worse: str = "Thought: Überall {x}\n\u2028\nAction: wait", system: bool = False) -> Any:
    one = trajectory(7, 3)
    turn = next(turn for turn, message in enumerate(one.messages) if message.step == step)
    history = one.messages[:turn]
    if system:
        history = (Message(role="system", content="Be brief."), *history)
    return StepPreference(
        trajectory_id=one.trajectory_id, env="textcraft", item_id=one.item_id, step=step, history=history,
        better=Alternative(reply=one.messages[turn], action=f"get {step} logs", value=1.0, count=5, by="expert"),
        worse=Alternative(
            reply=Message(role="assistant", content=worse, step=step), action="wait", value=0.2, count=5, by="policy"
        ),
        p_value=0.02,
    )  # fmt: skip


FOUND = Established(
    [preference(), preference(worse="no action"), preference(2, system=True)], 3, rules={"textcraft": "one"}
)


@pytest.fixture(params=PREFERENCE_FORMATS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, list[dict[str, Any]]]:
    path = tmp_path / f"out.{SUFFIXES.get(request.param, 'jsonl')}"
    count = export_preferences(FOUND, request.param, str(path))
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    elif path.suffix == ".json":
        rows = json.loads(path.read_text())
    else:
        rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    assert count == len(rows)
    return request.param, rows


def test_every_row_says_which_step_it_is_of_and_how_sure_it_is(written: tuple[str, list[dict[str, Any]]]) -> None:
    form, rows = written
    assert len(rows) == (2 if form in ("pivot", "verl") else 3)  # one a state, or one a pair
    for row in rows:
        facts = row["extra_info"] if form == "verl" else row
        assert (facts["trajectory_id"], facts["count_better"], facts["p_value"]) == ("t0007", 5, 0.02)
    assert sorted({(row.get("extra_info") or row)["step"] for row in rows}) == [1, 2]


def test_trl_rows() -> None:
    row = to_trl(preference(system=True))
    assert [turn["role"] for turn in row["prompt"]] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert row["chosen"][0]["content"].endswith("Action: get 1 logs")
    assert row["rejected"] == [{"role": "assistant", "content": "Thought: Überall {x}\n\u2028\nAction: wait"}]
    assert (row["score_chosen"], row["score_rejected"]) == (1.0, 0.2)


def test_trls_own_functions_read_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    utils = pytest.importorskip("trl.data_utils", reason="TRL is not installed")
    export_preferences(FOUND, "dpo", str(tmp_path / "dpo.jsonl"))
    rows = datasets.load_dataset("json", data_files=str(tmp_path / "dpo.jsonl"), split="train", cache_dir=str(tmp_path))
    assert len(rows) == 3
    own = tokenizer("chatml")
    for row in rows:
        assert utils.is_conversational(row)
        example = {name: row[name] for name in ("prompt", "chosen", "rejected")}
        assert utils.maybe_extract_prompt(example) == example  # the prompt stands apart already
        texts = utils.apply_chat_template(example, own)
        assert texts["prompt"] == own.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
        assert texts["chosen"].startswith(row["chosen"][0]["content"])
        assert texts["rejected"].startswith(row["rejected"][0]["content"])


def test_axolotls_own_loader_reads_them() -> None:
    strategy = pytest.importorskip("axolotl.prompt_strategies.dpo.chat_template", reason="axolotl is not installed")
    import yaml
    from axolotl.utils.dict import DictDefault

    from atlas_ray.formats.preferences import AXOLOTL_DPO

    options = yaml.safe_load(AXOLOTL_DPO.format(path="x"))
    transform, _ = strategy.default(DictDefault({"chat_template": "tokenizer_default", **options}))
    row = transform(to_trl(preference()), tokenizer=tokenizer("chatml"))
    assert row["chosen"].startswith("Thought: ")
    assert "Action: wait" in row["rejected"]
    assert "<|im_start|>assistant" in row["prompt"]


def test_llamafactory_rows() -> None:
    row = to_llamafactory(preference(system=True))
    assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt", "human", "gpt", "human"]
    assert row["system"] == "Be brief."
    assert to_llamafactory(preference())["system"] == ""
    assert (row["chosen"]["from"], row["rejected"]["from"]) == ("gpt", "gpt")
    assert row["chosen"]["value"].endswith("Action: get 1 logs")


def test_pivot_rows_are_responses_with_an_expected_call() -> None:
    from openai.types.responses import FunctionToolParam, ResponseInputParam
    from pydantic import TypeAdapter

    row = to_pivot(preference(2, system=True), "one")
    request = row["responses_create_params"]
    TypeAdapter(ResponseInputParam).validate_python(request["input"])
    [tool] = request["tools"]
    TypeAdapter(FunctionToolParam).validate_python(tool)
    kinds = [(item["type"], item.get("role")) for item in request["input"]]
    assert kinds == [
        ("message", "system"), ("message", "user"), ("message", "assistant"), ("message", "user"),
        ("message", "assistant"), ("function_call", None), ("function_call_output", None),
        ("message", "assistant"), ("function_call", None), ("function_call_output", None),
    ]  # fmt: skip
    calls = [item for item in request["input"] if item["type"] == "function_call"]
    answers = [item for item in request["input"] if item["type"] == "function_call_output"]
    assert [call["call_id"] for call in calls] == [answer["call_id"] for answer in answers]
    assert [json.loads(call["arguments"]) for call in calls] == [{"action": "get 0 logs"}, {"action": "get 1 logs"}]
    assert row["expected_action"] == {
        "type": "function_call", "name": tool["name"], "arguments": json.dumps({"action": "get 2 logs"})
    }  # fmt: skip
    assert (row["worse_action"], row["value_expected"], row["value_worse"]) == ("wait", 1.0, 0.2)
    assert row["agent_ref"]["type"] == "responses_api_agents"


def test_a_step_without_an_action_stays_a_text_in_a_pivot_row() -> None:
    one = preference(2)
    said = tuple(
        message.model_copy(update={"content": "I do not know."}) if message.step == 0 else message
        for message in one.history
    )
    items = to_pivot(one.model_copy(update={"history": said}), "one")["responses_create_params"]["input"]
    assert [item["type"] for item in items[:5]] == ["message"] * 5
    assert items[4]["role"] == "user"  # what answered it is no call's output


def test_verl_rows_have_the_documented_fields() -> None:
    row = to_verl(preference(), 4)
    assert set(row) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    assert row["reward_model"] == {"style": "rule", "ground_truth": "get 1 logs"}
    assert (row["extra_info"]["index"], row["extra_info"]["worse_action"]) == (4, "wait")
    assert row["prompt"][-1]["role"] == "user"


def test_one_preference_a_state_is_that_of_the_worst_action() -> None:
    assert [each.worse.reply.content for each in one_a_state(FOUND.preferences)] == [
        FOUND.preferences[0].worse.reply.content, FOUND.preferences[2].worse.reply.content
    ]  # fmt: skip
