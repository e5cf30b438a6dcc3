"""Scores at chosen positions by the runner that GPUs have: vLLM's own worker for prompt log-probabilities, on a CPU.

Its batches are made here as the runner makes them; the model is a random head over random states. (With a whole engine:
`test_engine.py`, by the runner of CPUs.)
"""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from atlas_ray.inference.scoring import ENTROPY, POSITIONS, chosen_positions_worker
from atlas_ray.inference.worker import WorkerExtension

LENGTHS, VOCABULARY, WIDTH = {"a": 700, "b": 9, "c": 40}, 50, 8


def ids_of() -> torch.Tensor:
    """Token ids of all requests, a row each, in slots 2, 0 and 1."""
    torch.manual_seed(0)
    return torch.randint(VOCABULARY, (3, 800), dtype=torch.int32)


SLOTS = {"a": 2, "b": 0, "c": 1}


def batch(parts: dict[str, tuple[int, int]]) -> Any:
    """A batch that computes the half-open part [first, end) of each prompt, as vLLM's `InputBatch` tells it."""
    counts = [end - first for first, end in parts.values()]
    return SimpleNamespace(
        req_ids=list(parts),
        idx_mapping_np=np.array([SLOTS[name] for name in parts]),
        num_computed_prefill_tokens_np=np.array([first for first, _ in parts.values()]),
        num_scheduled_tokens=np.array(counts),
        prefill_len_np=np.array([LENGTHS[name] for name in parts]),
        query_start_loc_np=np.cumsum([0, *counts]),
    )


@pytest.mark.parametrize("cuts", [[], [1, 300, 699], [255, 256, 257]])
@pytest.mark.parametrize("chosen", [None, [1, 2, 256, 300, 301, 698, 699]])
def test_the_runner_of_gpus_scores_the_chosen_positions(cuts: list[int], chosen: list[int] | None) -> None:
    ids, head = ids_of(), torch.randn(VOCABULARY, WIDTH)
    states = {name: torch.randn(length, WIDTH) for name, length in LENGTHS.items()}
    lengths = np.zeros(3, dtype=np.int64)
    for name, slot in SLOTS.items():
        lengths[slot] = LENGTHS[name]
    worker = chosen_positions_worker()(4, torch.device("cpu"))
    asked: dict[str, list[int] | None] = {"a": chosen, "b": [3, 4]}
    for name, positions in asked.items():
        extra = None if positions is None else {POSITIONS: positions}
        worker.add_request(name, SLOTS[name], params(prompt_logprobs=1, extra_args=extra))
    worker.add_request("c", SLOTS["c"], params(prompt_logprobs=None, extra_args=None))

    largest, found = 0, {}

    def head_of(rows: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, len(rows))
        return rows @ head.T

    borders = [0, *cuts, LENGTHS["a"]]
    for first, end in pairwise(borders):
        parts = {"c": (0, LENGTHS["c"])} if not first else {}  # which asks for nothing, and lies before the others
        parts |= {"a": (first, end)} | ({"b": (0, LENGTHS["b"])} if end == LENGTHS["a"] else {})
        rows = torch.cat([states[name][low:high] for name, (low, high) in parts.items()])
        found |= worker.compute_prompt_logprobs(head_of, rows, batch(parts), ids, None, lengths)
        assert set(found) == (set() if end < LENGTHS["a"] else {"a", "b"})
    assert largest <= 256
    for name, positions in asked.items():
        mine = ids[SLOTS[name], : LENGTHS[name]].long()
        plain = (states[name] @ head.T)[:-1].log_softmax(-1)
        wanted = set(positions or range(1, LENGTHS[name]))
        known = torch.tensor([index + 1 in wanted for index in range(LENGTHS[name] - 1)])
        assert torch.equal(found[name].logprob_token_ids[:, 0], mine[1:])
        assert set(found[name].logprob_token_ids[:, 1].tolist()) == {ENTROPY}
        numbers = found[name].logprobs
        assert torch.allclose(numbers[known, 0], plain.gather(1, mine[1:, None])[known, 0], atol=1e-5)
        assert torch.allclose(numbers[known, 1], -(plain.exp() * plain).sum(-1)[known], atol=1e-5)
        assert torch.isnan(numbers[~known]).all()
    # What was preempted after its prompt was done has been answered already, and what has ended is forgotten.
    assert not worker.compute_prompt_logprobs(
        head_of, states["b"], batch({"b": (LENGTHS["b"], LENGTHS["b"] + 1)}), ids, None, lengths
    )
    worker.remove_request("b")
    assert not worker.compute_prompt_logprobs(head_of, states["b"], batch({"b": (0, 9)}), ids, None, lengths)


def params(**given: Any) -> Any:
    from vllm import SamplingParams

    return SamplingParams(max_tokens=1, **given)


def test_each_of_vllms_runners_is_hooked_and_no_other() -> None:
    extension = WorkerExtension()
    extension.model_runner = SimpleNamespace(_get_prompt_logprobs_dict=None, prompt_logprobs_worker=None)
    extension.score_chosen_positions_alone()
    assert callable(extension.model_runner._get_prompt_logprobs_dict)
    own = SimpleNamespace(max_num_reqs=4, device=torch.device("cpu"))
    extension.model_runner = SimpleNamespace(prompt_logprobs_worker=own)
    extension.score_chosen_positions_alone()
    assert type(extension.model_runner.prompt_logprobs_worker).__name__ == "ChosenPositionsWorker"
    extension.model_runner = SimpleNamespace(prompt_logprobs_worker=None)  # a rank of a pipeline that samples nothing
    extension.score_chosen_positions_alone()
    assert extension.model_runner.prompt_logprobs_worker is None
    extension.model_runner = SimpleNamespace()
    with pytest.raises(AttributeError, match="install the locked version"):
        extension.score_chosen_positions_alone()
