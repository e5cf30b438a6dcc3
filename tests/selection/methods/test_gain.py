"""Method `gain`: the likelihood of the final action before every step. (Shared beginnings: `test_engine.py`.)"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from atlas_ray.config import EngineConfig
from atlas_ray.inference.types import TokenScores
from atlas_ray.selection.batches import CALLS, chunk_table
from atlas_ray.selection.chunks import plan
from atlas_ray.selection.methods.gain import FinalActionScorer, before_each_step, gains
from atlas_ray.selection.prefill import ScoringModel
from atlas_ray.selection.scored import choose
from atlas_ray.store import Store
from atlas_ray.trajectory import Trajectory, selection_from_row
from tests.selection.data import made, trajectory


def test_gains_add_up_to_what_was_open_at_the_start() -> None:
    assert gains([0.1, 0.5, 0.3, 0.8]) == pytest.approx([0.4, -0.2, 0.5, 0.2])
    assert gains([0.25]) == [0.75]
    assert gains([]) == []


def test_the_final_action_stands_in_the_place_of_every_step_without_its_thought() -> None:
    subject = trajectory(1, 3)
    asked = before_each_step(subject)
    assert not isinstance(asked, str)
    for step, each in enumerate(asked):
        assert each.messages[-1].content == "Action: get 2 logs"
        assert each.messages[-1].step == step
        assert each.messages[:-1] == subject.messages[: subject.messages.index(subject.steps[step])]
        assert Trajectory.model_validate(each.model_dump()) == each
    silent = subject.steps[-1].model_copy(update={"content": "Thought: done."})
    without = [silent if message.step == 2 else message for message in subject.messages]
    assert (
        before_each_step(subject.model_copy(update={"messages": tuple(without)}))
        == "action: the final step has no action"
    )


class Plain:
    """A model of transformers in an engine's place: the same numbers, one sequence at a time."""

    max_len = 600

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        self.model, self.groups = AutoModelForCausalLM.from_pretrained(folder), [""]

    def measure(self, sequences: list[list[int]], spans: Any, groups: list[str]) -> list[TokenScores]:
        del spans
        self.groups = groups
        return [TokenScores(self.logprobs(ids), []) for ids in sequences]

    def logprobs(self, ids: list[int]) -> list[float]:
        import torch

        with torch.no_grad():
            logits = self.model(torch.tensor([ids])).logits[0, :-1]
        found: list[float] = logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
        return found


def test_likelihoods_are_those_of_a_plain_forward_pass(tmp_path: Path, tiny_model: Path) -> None:
    store, engine = Store(str(tmp_path)), Plain(tiny_model)
    subjects = [trajectory(0, 0), trajectory(1, 1), trajectory(2, 4), trajectory(3, 25)]
    store.write_trajectories(subjects)
    scorer = FinalActionScorer(ScoringModel(str(tiny_model), "tiny", "k", EngineConfig(), False), store.url)
    scorer.__dict__["engine"] = engine
    chunks = chunk_table(plan(store, None, 32).chunks)
    table = choose(scorer(chunks), method=made("gain"), run_dir=store.url)
    empty, single, several, long = (selection_from_row(row) for row in table.drop_columns([CALLS]).to_pylist())
    assert (empty.steps, empty.scores, empty.error) == ((), (), None)
    assert engine.groups == [engine.groups[0]] + [engine.groups[1]] * 4  # the long one is refused before the engine
    assert str(long.error).startswith("context: the conversation before step ")
    tokenizer = scorer.tokenizer
    for subject, row in ((subjects[1], single), (subjects[2], several)):
        likelihoods = []
        for step in subject.steps:
            before = subject.messages[: subject.messages.index(step)]
            turns = [{"role": each.role, "content": each.content} for each in before]
            prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            action = f"Action: get {subject.n_steps - 1} logs<|im_end|>"
            ids = tokenizer(prompt + action, add_special_tokens=False)["input_ids"]
            count = len(tokenizer(action, add_special_tokens=False)["input_ids"])
            likelihoods.append(math.exp(sum(engine.logprobs(ids)[-count:]) / count))
        assert row.scores == pytest.approx(gains(likelihoods), abs=1e-6)
        assert min(likelihoods) > 1e-4
        assert row.steps == (max(range(subject.n_steps), key=row.scores.__getitem__),)
        assert row.usage.prompt_tokens > 0
