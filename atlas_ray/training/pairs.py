"""Pairs to prefer the better of: step preferences as token ids, and the report made before training starts.

Both sides of a pair are examples as `examples.py` makes them, of the same history and one step. Where one side cannot
be tokenised or lies beyond `max_length`, the pair is left out and counted. Left out: the loss (`dpo.py`). No ray, no
torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atlas_ray.config import TrainConfig
from atlas_ray.errors import TrainingError
from atlas_ray.training.examples import Example, Report, prepare
from atlas_ray.trajectory import Message, StepPreference, Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Pair:
    """Two replies to one history; the model is to prefer the first."""

    name: str
    """Distinct in a training."""
    chosen: Example
    rejected: Example
    reference: float = 0.0
    """The start model's log-probability of the chosen reply less that of the rejected one, in nats, by the weights of
    their labels."""

    @property
    def sequences(self) -> tuple[Example, Example]:
        """What a row must hold together."""
        return self.chosen, self.rejected

    @property
    def trajectory_id(self) -> str:
        """Whose steps they are."""
        return self.chosen.trajectory_id

    @property
    def length(self) -> int:
        """Tokens that the model reads, the common history counted twice."""
        return self.chosen.length + self.rejected.length

    @property
    def labelled(self) -> int:
        """Number of labelled tokens."""
        return self.chosen.labelled + self.rejected.labelled

    @property
    def total_weight(self) -> float:
        """Share of the loss's denominator, which is the number of pairs."""
        return 1.0


@dataclass(frozen=True)
class PairReport(Report):
    """What is trained on; a step or trajectory is one side of a pair with its history."""

    pairs: int = 0
    without_other: int = 0
    """Pairs left out because one of their sides is."""

    def __str__(self) -> str:
        text = (
            f"{self.pairs} pairs, {self.labelled_tokens} of {self.tokens} tokens "
            f"({self.labelled_tokens / self.tokens:.1%}) carry loss, histories counted twice"
        )
        if self.without_other:
            text += f"; {self.without_other} pairs are left out, one side of which is"
        if self.dropped_steps:
            text += f" beyond max_length ({self.dropped_steps})"
        if self.refused:
            text += f" not to be tokenised ({len(self.refused)}: {self.refused[0]})"
        return text


def prepare_pairs(
    preferences: Sequence[StepPreference], tokenizer: PreTrainedTokenizerBase, options: TrainConfig, *,
    truncate: bool = True, thinks: bool | None = None,
) -> tuple[list[Pair], PairReport]:  # fmt: skip
    """Pairs in the order of the preferences, and the report.

    Args:
        preferences: what to learn.
        tokenizer: of the start model, with a chat template.
        options: as `examples.prepare` reads them; `loss` chooses between sum and mean of log-probabilities.
        truncate: whether examples end with their last label.
        thinks: as `examples.prepare` takes it.

    Raises:
        TrainingError: too many sides lie beyond `max_length`, or no pair is left.
        ModelError: the chat template cannot be used at all.
    """
    sides: list[Trajectory] = []
    for number, preference in enumerate(preferences):
        for place, reply in enumerate((preference.better.reply, preference.worse.reply)):
            sides.append(_side(preference, reply, f"{preference.trajectory_id}/{preference.step}/{number}.{place}"))
    last = {each.trajectory_id: {each.n_steps - 1: 1.0} for each in sides}
    examples, everything = prepare(sides, last, tokenizer, options, truncate=truncate, thinks=thinks)
    by_side = {example.trajectory_id: example for example in examples}
    both = [
        pair
        for pair in zip(sides[::2], sides[1::2], strict=True)
        if all(side.trajectory_id in by_side for side in pair)
    ]
    if not both:
        raise TrainingError("no pair is left of which both sides can be trained on; raise train.max_length")
    pairs = [
        Pair(chosen.trajectory_id.rpartition(".")[0], by_side[chosen.trajectory_id], by_side[rejected.trajectory_id])
        for chosen, rejected in both
    ]
    report = everything
    if len(pairs) < len(preferences):
        kept = [side for pair in both for side in pair]
        _, report = prepare(kept, last, tokenizer, options, truncate=truncate, thinks=thinks)
    counts = vars(report) | {
        "tokens": sum(side.full_length for pair in pairs for side in pair.sequences),
        "dropped_steps": everything.dropped_steps, "refused": everything.refused,
    }  # fmt: skip
    return pairs, PairReport(**counts, pairs=len(pairs), without_other=len(preferences) - len(pairs))


def _side(preference: StepPreference, reply: Message, name: str) -> Trajectory:
    """History and reply as a trajectory that ends with it."""
    step = sum(message.step is not None for message in preference.history)
    return Trajectory(
        trajectory_id=name, env=preference.env, item_id=preference.item_id, source="preference",
        messages=(*preference.history, reply.model_copy(update={"step": step})), n_steps=step + 1,
    )  # fmt: skip
