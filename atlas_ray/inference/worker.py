"""What is added to vLLM's workers (`worker_extension_cls`), in whatever process they are: scoring, and other weights.

vLLM calls the methods by their names, in every worker of an engine (`LLMEngine.collective_rpc`).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

from atlas_ray.inference.scoring import chosen_positions_worker, prompt_logprobs


class WorkerExtension:
    """Methods beside a vLLM worker's own."""

    model_runner: Any
    reload_weights: Any

    def score_chosen_positions_alone(self) -> None:
        """Replace the model runner's method for prompt log-probabilities; see `inference/scoring.py`.

        Raises:
            AttributeError: the runner is none that is known here.
        """
        runner = self.model_runner
        if hasattr(runner, "_get_prompt_logprobs_dict"):
            runner._get_prompt_logprobs_dict = MethodType(prompt_logprobs, runner)
        elif hasattr(runner, "prompt_logprobs_worker"):
            own = runner.prompt_logprobs_worker
            if own is not None:  # in a pipeline the last rank alone has one
                runner.prompt_logprobs_worker = chosen_positions_worker()(own.max_num_reqs, own.device)
        else:
            raise AttributeError(
                f"vLLM's {type(runner).__name__} has neither _get_prompt_logprobs_dict nor prompt_logprobs_worker; "
                "install the locked version"
            )

    def take_weights(self, directory: str) -> None:
        """Read the weights of another model of the same shape into this one.

        vLLM's reload leaves out a head that is tied to the embedding; on CPUs that keeps a packed copy of old weights.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

        modules = list(self.model_runner.get_model().modules())
        heads = [module for module in modules if isinstance(module, ParallelLMHead)]
        embeddings = [
            module for module in modules if isinstance(module, VocabParallelEmbedding) and module not in heads
        ]
        tied = [(head, one) for head in heads for one in embeddings if _same(head.weight, one.weight)]
        self.reload_weights(weights_path=directory)
        for head, embedding in tied:
            head.weight = embedding.weight
            head.quant_method.process_weights_after_loading(head)


def _same(one: Any, other: Any) -> bool:
    found: bool = one.data_ptr() == other.data_ptr()
    return found
