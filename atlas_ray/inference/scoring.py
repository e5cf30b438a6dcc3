"""Log-probabilities of chosen positions of a prompt: what scoring needs of vLLM's model runner, and no more.

For a request with `prompt_logprobs` vLLM computes the logits of every position, their log-softmax, the ranks of the
prompt's tokens and the top of the vocabulary, all of it over the whole vocabulary. Steps are a third of a trajectory's
tokens, and each needs one number, so this takes the runner's method over: logits at the chosen positions alone. It is
done where the engine computes in this process (on CPUs, where the head costs most); elsewhere every position is scored,
with the same numbers at the chosen ones.
"""

from __future__ import annotations

import math
from types import MethodType
from typing import Any

POSITIONS = "positions"
"""Key of `SamplingParams.extra_args`: indexes of the tokens whose log-probabilities are wanted, ascending."""
_ROWS = 128
"""Positions whose logits are held at a time."""


def score_chosen_positions_alone(worker: Any) -> None:
    """Take over a vLLM worker's way to prompt log-probabilities (for `LLMEngine.collective_rpc`)."""
    runner = worker.model_runner
    if not hasattr(runner, "_get_prompt_logprobs_dict"):
        raise AttributeError("this vLLM's model runner has no _get_prompt_logprobs_dict; install the locked version")
    runner._get_prompt_logprobs_dict = MethodType(_prompt_logprobs, runner)


def _prompt_logprobs(self: Any, hidden_states: Any, num_scheduled_tokens: dict[str, int]) -> dict[str, Any]:
    """In place of `GPUModelRunner._get_prompt_logprobs_dict`: of each request whose prompt is done, its tensors."""
    from vllm.v1.outputs import LogprobsTensors

    finished: dict[str, Any] = {}
    for name in [name for name in self.num_prompt_logprobs if name in num_scheduled_tokens]:
        request = self.requests[name]
        ids = request.prompt_token_ids
        found = request.in_progress_prompt_logprobs_cpu
        if found is None:
            found = request.in_progress_prompt_logprobs_cpu = LogprobsTensors.empty_cpu(len(ids) - 1, 1)
            found.logprob_token_ids[:, 0] = found.logprob_token_ids.new_tensor(ids[1:])
            found.logprobs.fill_(math.nan)
            found.selected_token_ranks.zero_()
        first, count = request.num_computed_tokens, num_scheduled_tokens[name]
        if first + count > len(ids) - 1:  # the last of the prompt
            finished[name] = found
            del self.num_prompt_logprobs[name]
            request.in_progress_prompt_logprobs_cpu = None
        row = int(self.query_start_loc.np[self.input_batch.req_id_to_index[name]])
        chosen = (request.sampling_params.extra_args or {}).get(POSITIONS, range(1, len(ids)))
        before = [place - 1 for place in chosen if first < place <= first + count]  # a token is foretold one earlier
        for start in range(0, len(before), _ROWS):
            part = before[start : start + _ROWS]
            logits = self.model.compute_logits(hidden_states[[row + place - first for place in part]])
            found.logprobs[part, 0] = _logprobs(logits, [ids[place + 1] for place in part])
    return finished


def _logprobs(logits: Any, ids: list[int]) -> Any:
    import torch

    return -torch.nn.functional.cross_entropy(logits.float(), torch.tensor(ids), reduction="none")
