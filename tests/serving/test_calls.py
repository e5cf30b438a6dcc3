"""Adapters, tool calls and answers in a given form, through the served application."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from atlas_ray.config_files import load
from atlas_ray.errors import ConfigError
from atlas_ray.models import load_tokenizer
from atlas_ray.pipeline.run import Run
from atlas_ray.pipeline.serve import served_adapters
from atlas_ray.store import Store

SCHEMA = {"enum": [{"where": "up"}, {"where": "down"}]}
"""Leaves no place for white space, which a random model would write for ever."""
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "Looks.", "parameters": SCHEMA, "strict": True}}
    for name in ("look", "listen")
]
QUESTION = [{"role": "user", "content": "craft paper"}]


@pytest.fixture
def client(served: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)


def test_adapters_of_one_base_answer_by_their_names(served: Any, client: openai.OpenAI, tiny_model: str) -> None:
    tokenizer, prompt = load_tokenizer(tiny_model), "craft 4 oak planks using"
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    said = {}
    for name, folder in {"base": None, **served.adapters}.items():
        model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        if folder is not None:
            model = peft.PeftModel.from_pretrained(model, str(folder))
        expected = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
        answer = client.completions.create(model=name, prompt=prompt, max_tokens=8, temperature=0)
        said[name] = answer.choices[0].text
        assert said[name] == tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.model == name
    assert len(set(said.values())) == 3
    session = served.open(model="two")
    assert served.call(session["id"], "POST", "/act").json()["rounds"][0]["by"] == "agent"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "listen"}}])
def test_calls_that_are_demanded_are_made_and_answered(client: openai.OpenAI, choice: Any) -> None:
    answer = client.chat.completions.create(
        model="base", messages=QUESTION, tools=TOOLS, tool_choice=choice, max_tokens=200, temperature=0
    )
    [call, *_] = answer.choices[0].message.tool_calls or []
    assert call.function.name in (("look", "listen") if choice == "required" else ("listen",))
    assert json.loads(call.function.arguments)["where"] in ("up", "down")
    made = {"role": "assistant", "tool_calls": [call.model_dump()]}
    heard = {"role": "tool", "tool_call_id": call.id, "content": "nothing"}
    after = client.chat.completions.create(model="base", messages=[*QUESTION, made, heard], tools=TOOLS, max_tokens=4)
    assert after.choices[0].finish_reason in ("length", "stop")


def test_an_answer_has_the_form_that_is_asked_for(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="llm", messages=QUESTION, max_tokens=200, temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}},
    )  # fmt: skip
    assert json.loads(answer.choices[0].message.content or "")["where"] in ("up", "down")
    for wrong in ({"type": "json_schema"}, {"type": "xml"}):
        with pytest.raises(openai.UnprocessableEntityError, match="response_format"):
            client.chat.completions.create(model="llm", messages=QUESTION, response_format=wrong)


@pytest.mark.parametrize(
    ("named", "base", "says"),
    [
        ({"mine": "checkpoints/llm"}, True, "serve.adapters.mine: .*/llm/adapter has no adapter_config.json"),
        ({"base": "x"}, True, "'base' is no name, or that of a model"),
        ({"a:b": "x"}, True, "'a:b' is no name"),
        ({"mine": "x"}, False, "they belong to the base model"),
    ],
)
def test_adapters_that_cannot_be_served_are_refused(
    tmp_path: Path, tiny_model: str, named: dict[str, str], base: bool, says: str
) -> None:
    options = {"run_dir": str(tmp_path), "model": tiny_model, "serve.model": tiny_model, "serve.base": base}
    with pytest.raises(ConfigError, match=says):
        served_adapters(Run(load(None, options | {"serve.adapters": named}), Store(str(tmp_path))))
