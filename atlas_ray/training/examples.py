"""Trajectories x critical steps x tokenizer -> training examples, and the report made before training starts.

An example ends with its last label where that is exact: what follows cannot change the loss, because attention is
causal. The id of the last label is only a target; the model reads `ids[:-1]`. No ray, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atlas_ray.chat import encode, loss_mask
from atlas_ray.config import TrainConfig
from atlas_ray.errors import DataError, TrainingError
from atlas_ray.trajectory import Selection, Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Example:
    """One trajectory, cut after its last label or at `max_length`."""

    trajectory_id: str
    ids: NDArray[np.int32]
    """Token ids; the last one is at most a label, shape (length + 1,)."""
    weights: NDArray[np.float32]
    """Weight of each token's negative log-likelihood in the loss, 0 where it is no label; shape of `ids`."""
    full_length: int
    """Tokens of the whole trajectory up to the end of its last step."""

    @property
    def length(self) -> int:
        """Tokens that the model reads."""
        return len(self.ids) - 1

    @property
    def labelled(self) -> int:
        """Number of labelled tokens."""
        return int(np.count_nonzero(self.weights))


@dataclass(frozen=True)
class Report:
    """What is trained on; steps and tokens are those of the trajectories that are used."""

    trajectories: int
    steps: int
    critical_steps: int
    """Those that are trained on, so without the dropped ones."""
    dropped_steps: int
    """Critical steps beyond `max_length`."""
    tokens: int
    """Of the whole trajectories."""
    read_tokens: int
    """Of the trajectories up to their last label: what the model reads."""
    labelled_tokens: int

    def __str__(self) -> str:
        text = (
            f"{self.trajectories} trajectories, {self.critical_steps} of {self.steps} steps "
            f"({self.critical_steps / self.steps:.1%}) and {self.labelled_tokens} of {self.tokens} tokens "
            f"({self.labelled_tokens / self.tokens:.1%}) carry loss; {self.read_tokens} tokens "
            f"({self.read_tokens / self.tokens:.1%}) are read, the rest follows the last label"
        )
        return text + (f"; {self.dropped_steps} critical steps lie beyond max_length" if self.dropped_steps else "")


@dataclass(frozen=True)
class Chosen:
    """The trajectories that have a valid selection, and their critical steps by id."""

    trajectories: list[Trajectory]
    steps: dict[str, tuple[int, ...]]
    errors: int
    """Trajectories left out because their selection is an error."""


def choose(trajectories: Sequence[Trajectory], selections: Sequence[Selection]) -> Chosen:
    """Join trajectories and selections; rows with an error are left out and counted.

    Raises:
        DataError: a trajectory has no selection, or more than one; or a selection has no trajectory.
    """
    by_id: dict[str, Selection] = {}
    for selection in selections:
        if selection.trajectory_id in by_id:
            raise DataError(f"selection {selection.method}: trajectory {selection.trajectory_id} has two rows")
        by_id[selection.trajectory_id] = selection
    missing = [t.trajectory_id for t in trajectories if t.trajectory_id not in by_id]
    if missing:
        method = selections[0].method if selections else "?"
        raise DataError(
            f"selection {method}: {len(missing)} of {len(trajectories)} trajectories have no row "
            f"({_some(missing)}); run the select stage again"
        )
    strange = sorted(by_id.keys() - {t.trajectory_id for t in trajectories})
    if strange:
        raise DataError(
            f"selection {selections[0].method}: {len(strange)} rows are of no trajectory to tune on "
            f"({_some(strange)}); run the select stage again"
        )
    valid = [t for t in trajectories if by_id[t.trajectory_id].error is None]
    return Chosen(valid, {t.trajectory_id: by_id[t.trajectory_id].steps for t in valid}, len(trajectories) - len(valid))


def prepare(
    trajectories: Sequence[Trajectory],
    steps: Mapping[str, tuple[int, ...]],
    tokenizer: PreTrainedTokenizerBase,
    options: TrainConfig,
    *,
    truncate: bool = True,
) -> tuple[list[Example], Report]:
    """Examples in the order of their trajectory ids, and the report.

    A critical step that ends beyond `options.max_length` is dropped as a whole; a trajectory that loses all of its
    critical steps so is dropped with them.

    Args:
        trajectories: what to train on.
        steps: the critical steps of each, by trajectory id.
        tokenizer: of the base model, with a chat template.
        options: `max_length`, `max_dropped_steps` and `loss` count here.
        truncate: whether examples end with their last label.

    Raises:
        DataError: a trajectory has no entry in `steps`, or a step that it does not have.
        TrainingError: a trajectory has no critical step, too many lie beyond `max_length`, or nothing is left.
    """
    missing = sorted(t.trajectory_id for t in trajectories if t.trajectory_id not in steps)
    if missing:
        raise DataError(
            f"{len(missing)} trajectories have no selected steps ({_some(missing)}); run the select stage again"
        )
    empty = sorted(t.trajectory_id for t in trajectories if not steps[t.trajectory_id])
    if empty:
        raise TrainingError(
            f"{len(empty)} trajectories have no critical step, so no token to learn from ({_some(empty)}); "
            "leave them out or select again"
        )
    examples: list[Example] = []
    n_steps = critical = dropped = tokens = 0
    for trajectory in sorted(trajectories, key=lambda t: t.trajectory_id):
        encoded = encode(trajectory, tokenizer)
        chosen = sorted(set(steps[trajectory.trajectory_id]))
        loss_mask(encoded, chosen)  # refuses a step that is out of range
        spans = [encoded.spans[step] for step in chosen if encoded.spans[step][1] <= options.max_length]
        dropped += len(chosen) - len(spans)
        if not spans:
            continue
        end = spans[-1][1] if truncate else min(len(encoded.ids), options.max_length)
        examples.append(_example(trajectory.trajectory_id, encoded.ids, spans, end, options.loss == "step_mean"))
        n_steps += trajectory.n_steps
        critical += len(spans)
        tokens += len(encoded.ids)
    share = dropped / max(1, critical + dropped)
    if share > options.max_dropped_steps:
        raise TrainingError(
            f"{dropped} of {critical + dropped} critical steps ({share:.1%}) lie beyond train.max_length="
            f"{options.max_length}; raise it, or train.max_dropped_steps (now {options.max_dropped_steps:.1%})"
        )
    if not examples:
        raise TrainingError("no trajectory to train on is left; check collect and select")
    report = Report(
        trajectories=len(examples),
        steps=n_steps,
        critical_steps=critical,
        dropped_steps=dropped,
        tokens=tokens,
        read_tokens=sum(example.length for example in examples),
        labelled_tokens=sum(example.labelled for example in examples),
    )
    return examples, report


def _example(
    trajectory_id: str, ids: Sequence[int], spans: Sequence[tuple[int, int]], end: int, step_mean: bool
) -> Example:
    weights = np.zeros(end, dtype=np.float32)
    for start, stop in spans:
        if start == 0:
            raise DataError(f"trajectory {trajectory_id}: its first token is a label, which nothing predicts")
        weights[start:stop] = 1 / (stop - start) if step_mean else 1
    return Example(trajectory_id, np.asarray(ids[:end], dtype=np.int32), weights, len(ids))


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
