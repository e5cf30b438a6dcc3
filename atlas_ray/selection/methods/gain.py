"""Method `gain`: the steps that raise most the likelihood of the final action (IGPO, 2510.14967).

Before every step t of T the model is asked how likely the final action is right there: P_t = exp(1/n sum log p) over
its n tokens, end-of-turn token included, after the conversation up to step t. The final step's thought is left out,
because it would give the action away. A step's score is what it and the observation behind it add, P_(t+1) - P_t. After
the final step its action is certain, so P_T is 1 (where IGPO's last turn has the reward of the outcome).

The T prompts of a trajectory begin alike; an engine computes what they share once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, fsum
from typing import Any

import pyarrow as pa

from atlas_ray.chat import Row, encode_all
from atlas_ray.errors import DataError
from atlas_ray.hashing import content_hash
from atlas_ray.react import action_begin
from atlas_ray.selection.prefill import Found, Prefill, wrong
from atlas_ray.selection.scored import ScoredMethod
from atlas_ray.trajectory import Trajectory


class FinalActionScorer(Prefill):
    """P_t before every step. `tokens` counts those of all prompts, the shared ones in each."""

    finds = "final action"
    SCHEMA = pa.schema([("error", pa.string()), ("tokens", pa.int64()), ("likelihoods", pa.list_(pa.float64()))])

    def measure(self, trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
        """See `Prefill.measure`."""
        prompts = [self._prompts(each) for each in trajectories]
        rows: list[list[Row]] = [[] if isinstance(of_one, str) else of_one for of_one in prompts]
        groups = [content_hash([message.content for message in each.messages]) for each in trajectories]
        measured = iter(
            self.engine.measure(
                [row.ids for of_one in rows for row in of_one],
                [[_last(row)] for of_one in rows for row in of_one],
                [group for of_one, group in zip(rows, groups, strict=True) for _ in of_one],
            )
        )
        results: list[dict[str, Any]] = []
        for of_one in prompts:
            if isinstance(of_one, str):
                results.append({"error": of_one, "tokens": 0})
                continue
            logprobs = {}
            for step, row in enumerate(of_one):
                start, end = _last(row)
                logprobs[step] = next(measured).logprobs[start - 1 : end - 1]
            found = {"tokens": sum(len(row.ids) for row in of_one)}
            problem = wrong(logprobs)
            if problem is not None:
                results.append(found | {"error": f"score: {problem}"})
                continue
            means = [fsum(numbers) / len(numbers) for numbers in logprobs.values()]
            results.append(found | {"likelihoods": [exp(mean) for mean in means]})
        return results

    def _prompts(self, trajectory: Trajectory) -> list[Row] | str:
        """The conversation before each step with the final action behind it; or the error that keeps from them."""
        if not trajectory.n_steps:
            return []
        asked = before_each_step(trajectory)
        if isinstance(asked, str):
            return asked
        rows: list[Row] = []
        for encoded in encode_all(asked, self.tokenizer, thinks=self._scoring.thinks):
            if isinstance(encoded, DataError):
                return f"template: {encoded}"
            *_, row = encoded
            if len(row.ids) >= self.engine.max_len:
                return (
                    f"context: the conversation before step {len(rows)} and the final action have {len(row.ids)} "
                    f"tokens, the engine's context has {self.engine.max_len}"
                )
            rows.append(row)
        return rows


class GainSteps(ScoredMethod):
    """The budget's number of steps with the highest gain; of equal steps the earlier."""

    stage = FinalActionScorer
    summary = "steps that make the final action likelier to the model"
    source = "IGPO, 2510.14967"
    needs = "one prefill per step, with a shared beginning"
    color = ("#00695c", "#66bfae")

    def scores(self, *found: Found) -> Sequence[float]:
        """Gains in likelihood, in [-1, 1]."""
        [of_start] = found
        return gains(of_start["likelihoods"])


def before_each_step(trajectory: Trajectory) -> list[Trajectory] | str:
    """The conversation before each step, with the final action in the step's place; or what is wrong with that one.

    Args:
        trajectory: with at least one step.
    """
    final = trajectory.steps[-1]
    action = final.content[action_begin(final.content) :]
    if not action.strip():
        return "action: the final step has no action"
    places = [place for place, message in enumerate(trajectory.messages) if message.step is not None]
    return [
        trajectory.model_copy(
            update={
                "messages": (
                    *trajectory.messages[:place],
                    final.model_copy(update={"content": action, "thinking": None, "step": step}),
                ),
                "n_steps": step + 1,
            }
        )
        for step, place in enumerate(places)
    ]


def gains(likelihoods: Sequence[float]) -> list[float]:
    """P_(t+1) - P_t of every step, where P_T is 1.

    Args:
        likelihoods: P_0 .. P_(T-1).
    """
    return [later - earlier for earlier, later in pairwise([*likelihoods, 1.0])]


def _last(row: Row) -> tuple[int, int]:
    """The token span of the final action, which is the row's last step."""
    return row.spans[max(row.spans)]
