"""Log-probabilities of chosen positions of a prompt, computed inside vLLM's model runner.

For a request with `prompt_logprobs`, vLLM computes for every position the logits, their log-softmax, the rank of the
prompt's token and the most likely tokens, all over the whole vocabulary. Perplexity needs one number for each token of
the steps, which are a third of a trajectory. So this module replaces the runner's method by one that computes logits at
the chosen positions alone. It does so where the engine computes in this process (on CPUs, where the head costs most).
Elsewhere vLLM scores every position, with the same numbers at the chosen ones.
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
    """Replace a vLLM worker's method for prompt log-probabilities (call it through `LLMEngine.collective_rpc`)."""
    runner = worker.model_runner
    if not hasattr(runner, "_get_prompt_logprobs_dict"):
        raise AttributeError("this vLLM's model runner has no _get_prompt_logprobs_dict; install the locked version")
    runner._get_prompt_logprobs_dict = MethodType(_prompt_logprobs, runner)


def _prompt_logprobs(self: Any, hidden_states: Any, num_scheduled_tokens: dict[str, int]) -> dict[str, Any]:
    """Replaces `GPUModelRunner._get_prompt_logprobs_dict`: the tensors of every request whose prompt is done."""
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
        before = [index - 1 for index in chosen if first < index <= first + count]  # logits at i - 1 predict token i
        for start in range(0, len(before), _ROWS):
            part = before[start : start + _ROWS]
            logits = self.model.compute_logits(hidden_states[[row + index - first for index in part]])
            found.logprobs[part, 0] = _logprobs(logits, [ids[index + 1] for index in part])
    return finished


def _logprobs(logits: Any, ids: list[int]) -> Any:
    import torch

    return -torch.nn.functional.cross_entropy(logits.float(), torch.tensor(ids), reduction="none")
