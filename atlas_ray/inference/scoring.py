"""Log-probabilities and entropies at chosen positions of a prompt, computed inside vLLM's workers.

For a request with `prompt_logprobs`, vLLM computes for every position the logits, their log-softmax, the rank of the
prompt's token and the most likely tokens, all over the whole vocabulary, and no entropy. Selection needs two numbers
for each token of the steps, which are a third of a trajectory. So this module replaces the runner's method by one that
computes logits at the chosen positions alone, `_ROWS` of them at a time: less than 1 GB with a vocabulary of 128,256.
vLLM has two runners, and both are known here: `GPUModelRunner` (of CPUs, and of what the newer one does not take), and
the GPUs' own, which keeps its method in a `PromptLogprobsWorker`. The methods are put in place by `worker.py`.
"""

from __future__ import annotations

import math
from typing import Any

POSITIONS = "positions"
"""Key of `SamplingParams.extra_args`: indexes of the tokens whose log-probabilities are wanted, ascending."""
ENTROPY = -1
"""In the place of a token id: the number beside it is the entropy of the distribution that the token is from."""
_ROWS = 256
"""Positions whose logits are held at a time."""


def prompt_logprobs(self: Any, hidden_states: Any, num_scheduled_tokens: dict[str, int]) -> dict[str, Any]:
    """Replaces `GPUModelRunner._get_prompt_logprobs_dict`: the tensors of every request whose prompt is done."""
    from vllm.v1.outputs import LogprobsTensors

    finished: dict[str, Any] = {}
    for name in [name for name in self.num_prompt_logprobs if name in num_scheduled_tokens]:
        request = self.requests[name]
        ids = request.prompt_token_ids
        found = request.in_progress_prompt_logprobs_cpu
        if found is None:
            found = request.in_progress_prompt_logprobs_cpu = LogprobsTensors.empty_cpu(len(ids) - 1, 2)
            found.logprob_token_ids[:, 0] = found.logprob_token_ids.new_tensor(ids[1:])
            found.logprob_token_ids[:, 1] = ENTROPY
            found.logprobs.fill_(math.nan)
            found.selected_token_ranks.zero_()
        first, count = request.num_computed_tokens, num_scheduled_tokens[name]
        if first + count > len(ids) - 1:  # the last of the prompt
            finished[name] = found
            del self.num_prompt_logprobs[name]
            request.in_progress_prompt_logprobs_cpu = None
        row = int(self.query_start_loc.np[self.input_batch.req_id_to_index[name]])
        before = _predictors(request.sampling_params, len(ids), first, first + count)
        for start in range(0, len(before), _ROWS):
            part = before[start : start + _ROWS]
            logits = self.model.compute_logits(hidden_states[[row + index - first for index in part]])
            numbers = _logprobs_and_entropies(logits, [ids[index + 1] for index in part])
            found.logprobs[part] = numbers.to(found.logprobs.device)
    return finished


def chosen_positions_worker() -> type:
    """A `PromptLogprobsWorker` of the GPUs' runner that scores the chosen positions of each request; NaN elsewhere."""
    import torch
    from vllm.v1.outputs import LogprobsTensors
    from vllm.v1.worker.gpu.sample.prompt_logprob import PromptLogprobsWorker

    class ChosenPositionsWorker(PromptLogprobsWorker):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._params: dict[str, Any] = {}
            self._numbers: dict[str, Any] = {}

        def add_request(self, req_id: str, req_idx: int, sampling_params: Any) -> None:
            super().add_request(req_id, req_idx, sampling_params)
            if sampling_params.prompt_logprobs is not None:
                self._params[req_id] = sampling_params

        def remove_request(self, req_id: str) -> None:
            super().remove_request(req_id)
            self._params.pop(req_id, None)
            self._numbers.pop(req_id, None)

        def compute_prompt_logprobs(
            self, logits_fn: Any, hidden_states: Any, input_batch: Any, all_token_ids: Any, num_computed_tokens: Any,
            prompt_lens: Any,
        ) -> dict[str, Any]:  # fmt: skip
            del num_computed_tokens
            finished: dict[str, Any] = {}
            for number, name in enumerate(input_batch.req_ids):
                slot = int(input_batch.idx_mapping_np[number])
                length = int(prompt_lens[slot])
                first = int(input_batch.num_computed_prefill_tokens_np[number])
                if name not in self._params or first >= length or length < input_batch.prefill_len_np[number]:
                    continue  # asks for nothing, or has it: its prompt was done, perhaps before it was preempted
                end = first + int(input_batch.num_scheduled_tokens[number])
                if name not in self._numbers:
                    self._numbers[name] = torch.full((length - 1, 2), math.nan, device=self.device)
                numbers, ids = self._numbers[name], all_token_ids[slot, 1:length].to(torch.int64)
                row = int(input_batch.query_start_loc_np[number]) - first
                before = torch.tensor(_predictors(self._params[name], length, first, end), device=self.device)
                for part in torch.split(before.long(), _ROWS) if len(before) else ():
                    numbers[part] = _logprobs_and_entropies(logits_fn(hidden_states[row + part]), ids[part])
                if end >= length:
                    both = torch.stack([ids, torch.full_like(ids, ENTROPY)], 1)
                    finished[name] = LogprobsTensors(both, self._numbers.pop(name), torch.zeros_like(ids))
            return finished

    return ChosenPositionsWorker


def _predictors(params: Any, length: int, first: int, end: int) -> list[int]:
    """Positions in [first, end) of a prompt of `length` tokens whose logits predict a token that is wanted."""
    chosen = (params.extra_args or {}).get(POSITIONS, range(1, length))
    return [index - 1 for index in chosen if first < index <= end and index < length]


def _logprobs_and_entropies(logits: Any, ids: Any) -> Any:
    """Log-probability of each row's token, and entropy of the row, in nats; shape (rows, 2).

    The entropy is logsumexp(z) - sum p z of the logits z, as -sum p log p: equal, and exact for small ones too.
    """
    import torch

    logprobs = logits.float().log_softmax(-1)
    chosen = logprobs.gather(-1, torch.as_tensor(ids, device=logprobs.device)[:, None])
    terms = logprobs.exp().mul_(logprobs.clamp_(min=-1e4))  # a logit of -inf adds 0
    return torch.cat([chosen, -terms.sum(-1, keepdim=True)], -1)
