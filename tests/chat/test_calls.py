"""Tool calls through chat templates: shown as at inference, read as they are written, played token for token."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from atlas_ray.chat import encode, loss_mask
from atlas_ray.chat.template import template_of
from atlas_ray.config import Playing
from atlas_ray.environments import make
from atlas_ray.errors import ModelError
from atlas_ray.inference.call_parser import CallParser, fitting
from atlas_ray.inference.types import Generation
from atlas_ray.models import TEMPLATE_DATE
from atlas_ray.pipeline.collect import trajectory_of
from atlas_ray.rollout.episode import play
from atlas_ray.rollout.policy import ExpertPolicy, ModelPolicy
from atlas_ray.rollout.spec import EpisodeSpec
from atlas_ray.tool_calls import chat_turns, offered
from atlas_ray.trajectory import Message, Trajectory
from tests.tokenizers import CHATML, of_kind

HERMES = (
    "{% if tools %}{{ '<|im_start|>system\nTools:\n' }}{% for t in tools %}{{ t | tojson + '\n' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>\n' + m['content'] + '\n</tool_response><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}{% for c in m.get('tool_calls', []) %}"
    "{{ ('\n' if m['content'] or not loop.first else '') + '<tool_call>\n{\"name\": \"' + c.function.name + "
    "'\", \"arguments\": ' + c.function.arguments | tojson + '}\n</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n' }}"
    "{{ 'Environment: ipython\nToday Date: ' + strftime_now('%d %b %Y') + '\n\n' + tools | tojson + '<|eot_id|>' }}"
    "{% for m in messages %}{% if m['role'] == 'tool' %}"
    "{{ '<|start_header_id|>ipython<|end_header_id|>\n\n' + m['content'] | tojson + '<|eot_id|>' }}"
    "{% else %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}{% if m.get('tool_calls') %}"
    "{% set c = m['tool_calls'][0].function %}"
    "{{ '{\"name\": \"' + c.name + '\", \"parameters\": ' + c.arguments | tojson + '}' }}"
    "{% else %}{{ m['content'] | trim }}{% endif %}{{ '<|eot_id|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ '<s>' }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{% if tools and loop.first %}{{ '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{{ '[INST] ' + m['content'] + '[/INST]' }}"
    "{% elif m['role'] == 'tool' %}"
    "{% if m['tool_call_id'] | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}"
    "{{ '[TOOL_RESULTS]' + {'content': m['content'], 'call_id': m['tool_call_id']} | tojson + '[/TOOL_RESULTS]' }}"
    "{% else %}{{ m['content'] }}{% if m.get('tool_calls') %}{{ '[TOOL_CALLS][' }}{% for c in m['tool_calls'] %}"
    "{{ (', ' if not loop.first else '') + {'name': c.function.name, 'arguments': c.function.arguments, 'id': c.id} "
    "| tojson }}{% endfor %}{{ ']' }}{% endif %}{{ '</s>' }}{% endif %}{% endfor %}"
)
XML = HERMES.replace(  # Qwen3-Coder's and Qwen3.5's
    '{"name": "\' + c.function.name + \'", "arguments": \' + c.function.arguments | tojson + \'}\n',
    "<function=' + c.function.name + '>\n' }}{% for k, v in c.function.arguments.items() %}{{ '<parameter=' + k "
    "+ '>\n' + (v if v is string else v | tojson) + '\n</parameter>\n' }}{% endfor %}{{ '</function>\n",
)
TEMPLATES = {"hermes": HERMES, "llama": LLAMA, "mistral": MISTRAL, "xml": XML}
MARKS = {"hermes": "<tool_call>", "llama": "", "mistral": "[TOOL_CALLS]", "xml": "<tool_call>"}
PARSERS = {"hermes": "hermes", "llama": "llama3_json", "mistral": "mistral", "xml": "qwen3_xml"}
"""Of vLLM."""


def tok(name: str) -> Any:
    found = of_kind("byte-level", TEMPLATES.get(name, name))
    marks = [
        "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "<|python_tag|>",
    ]  # fmt: skip
    found.add_tokens([mark for mark in marks if mark not in found.get_vocab()])
    return found


def spec(env: str) -> EpisodeSpec:
    return EpisodeSpec("m", "k", env, 1, "train", 0, playing=Playing(action_format="tools"))


def expert(env: str) -> Trajectory:
    return trajectory_of(play(make(env), lambda env, _: ExpertPolicy(env), spec(env)))


def fresh(tokenizer: Any, messages: tuple[Message, ...], *, header: bool) -> list[int]:
    """The whole conversation rendered and tokenised anew, calls as data."""
    turns = [turn for message in messages for turn in chat_turns(message, parsed=True)]
    text = tokenizer.apply_chat_template(
        turns, tools=offered(messages), tokenize=False, add_generation_prompt=header,
        strftime_now=TEMPLATE_DATE.strftime,
    )  # fmt: skip
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("env", ["textcraft", "weather"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_ids_are_those_of_inference_with_calls_as_data(name: str, env: str) -> None:
    tokenizer, trajectory = tok(name), expert(env)
    encoded = encode(trajectory, tokenizer)
    [row] = encoded
    for index, message in enumerate(trajectory.messages):
        if message.step is not None:
            start, stop = row.spans[message.step]
            assert row.ids[:start] == fresh(tokenizer, trajectory.messages[:index], header=True)
            assert row.ids[:stop] == fresh(tokenizer, trajectory.messages[: index + 1], header=False)[:stop]
            shown = tokenizer.decode(row.ids[start:stop])
            assert shown.count(template_of(tokenizer).end) == 1
            assert message.tool_calls[0].name in shown
            assert "Action:" not in shown
            assert name not in ("hermes", "xml") or shown.endswith("</tool_call><|im_end|>")
            if mark := MARKS[name]:
                assert tokenizer.decode(row.ids[row.actions[message.step] : stop]).strip().startswith(mark)
    assert sum(loss_mask(encoded, range(trajectory.n_steps))) == sum(b - a for a, b in row.spans.values())


@pytest.mark.parametrize("name", TEMPLATES)
def test_calls_are_read_as_the_template_writes_them(name: str) -> None:
    tokenizer = tok(name)
    parser = fitting(tokenizer)
    assert parser.name == PARSERS[name]
    trajectory = expert("weather")
    tools = offered(trajectory.messages)
    [row] = encode(trajectory, tokenizer)
    for message in trajectory.steps:
        start, stop = row.spans[message.step or 0]
        said, [call] = parser.read_ids(row.ids[start : stop - 1], tools)
        assert (call.name, json.loads(call.arguments)) == (
            message.tool_calls[0].name, json.loads(message.tool_calls[0].arguments)
        )  # fmt: skip
        assert said == "" or f"Thought: {said}\n" in message.content


def test_what_is_no_whole_call_stays_text() -> None:
    hermes, llama = fitting(tok("hermes")), fitting(tok("llama"))
    good = '<tool_call>\n{"name": "f", "arguments": {"x": "{"}}\n</tool_call>'
    said, calls = hermes.read(f"So.\n{good}\n{good}")
    assert (said, [call.name for call in calls]) == ("So.", ["f", "f"])
    assert hermes.read(f"<think>{good}</think>So.") == (
        f"<think>{good}</think>So.",
        (),
    )  # no call, but the thought of one
    for text in ("hello", '{"name": "f", "arguments": {}}', '<tool_call>{"name": "f", "argum', "<tool_call>{}",
                 '<tool_call>{"name": 3, "arguments": {}}'):  # fmt: skip
        assert hermes.read(text) == (text, ())
    assert llama.read("I think of it") == ("I think of it", ())
    [call] = llama.read('{"name": "\\ud83d", "parameters": {"a": "\\ud83d"}}')[1]
    assert (call.name, call.arguments) == ("?", '{"a": "?"}')


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_model_plays_with_calls_and_sees_what_training_shows(name: str) -> None:
    """The engine answers with the expert's tokens; each prompt is what training shows before that step."""
    tokenizer, trajectory = tok(name), expert("weather")
    [row] = encode(trajectory, tokenizer)
    asked: list[list[int]] = []

    def generate(ids: list[int], *, tools: list[Any], **_: Any) -> Generation:
        start, stop = row.spans[len(asked)]
        asked.append(ids)
        assert ids == row.ids[:start]
        text, calls = fitting(tokenizer).read_ids(row.ids[start : stop - 1], tools)
        return Generation(row.ids[start:stop], text, True, len(ids), 0, calls)

    def policy(_: Any, spec: EpisodeSpec) -> ModelPolicy:
        return ModelPolicy(tokenizer, generate, max_len=100_000, spec=spec)

    episode = play(make("weather"), policy, spec("weather"))
    assert episode.error is None
    assert (episode.success, len(asked)) == (True, trajectory.n_steps)
    played = [message for message in episode.messages if message.step is not None]
    for message, before in zip(played, trajectory.steps, strict=True):
        assert message.tool_calls == before.tool_calls
        if name != "llama":  # which shows no text beside a call
            assert message.content == before.content


def test_a_template_without_tools_shows_the_text_and_cannot_play_with_them() -> None:
    tokenizer, trajectory = of_kind("byte-level", CHATML), expert("textcraft")
    plain = trajectory.model_copy(
        update={"messages": tuple(Message(role=m.role, content=m.content, step=m.step) for m in trajectory.messages)}
    )
    assert encode(trajectory, tokenizer).ids == encode(plain, tokenizer).ids
    with pytest.raises(ModelError, match="knows no tool calls; set evaluate.action_format to react"):
        fitting(tokenizer)


def test_a_form_that_no_parser_reads_is_trained_on_and_a_parser_is_named_for_it() -> None:
    odd = HERMES.replace("<tool_call>", "<odd>").replace("</tool_call>", "</odd>").replace('"name"', '"nomen"')
    template = template_of(tok(odd))
    assert template.knows_tools
    encode(expert("textcraft"), template.tokenizer)
    with pytest.raises(ModelError, match="which no parser of vLLM reads; name one with engine.tool_parser"):
        fitting(template.tokenizer)
    with pytest.raises(ModelError, match="vLLM has no parser 'hermess'; did you mean 'hermes'"):
        CallParser(template.tokenizer, "hermess")


def test_the_key_of_an_episode_tells_how_actions_are_written() -> None:
    one = spec("maze")
    assert one.key != dataclasses.replace(one, playing=Playing()).key
