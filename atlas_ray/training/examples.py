"""Training examples: token ids and loss weights of the chosen steps, and the report made before training starts.

A trajectory is one example. With a chat template that rewrites earlier turns (`chat/encoding.py`) each of its chosen
steps is one; they train together (`by_trajectory`), so that their common beginnings are computed once. A trajectory
that cannot be tokenised is left out and counted.

Where it is exact an example ends with its last label: what follows cannot change the loss, because attention is causal.
The model reads `ids[:-1]`; the last id is only a target. Left out: how examples are packed into rows (`packing.py`).
No ray, no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from atlas_ray.chat import Row, encode_all, end_of_turn, loss_mask
from atlas_ray.config import TrainConfig
from atlas_ray.errors import DataError, TrainingError
from atlas_ray.training.spans import labelled, token_weights
from atlas_ray.trajectory import Selection, Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Example:
    """One row to train on, cut after its last label or at `max_length`."""

    trajectory_id: str
    ids: NDArray[np.int32]
    """Token ids, shape (length + 1,); the last one is read by nothing and is at most a label."""
    weights: NDArray[np.float32]
    """Weight of each token's negative log-likelihood in the loss, 0 where the token is no label; shape of `ids`."""
    full_length: int
    """Tokens of the whole row, up to the end of its last step."""

    @property
    def sequences(self) -> tuple[Example, ...]:
        """What a row must hold together: this example alone."""
        return (self,)

    @property
    def length(self) -> int:
        """Tokens that the model reads."""
        return len(self.ids) - 1

    @property
    def labelled(self) -> int:
        """Number of labelled tokens."""
        return int(np.count_nonzero(self.weights))

    @property
    def total_weight(self) -> float:
        """Sum of the weights: this example's share of the loss's denominator."""
        return float(self.weights.sum(dtype=np.float64))


@dataclass(frozen=True)
class Report:
    """What is trained on; steps and tokens are those of the trajectories that are used."""

    trajectories: int
    steps: int
    critical_steps: int
    """Steps that are trained on; the dropped ones are not counted."""
    dropped_steps: int
    """Critical steps beyond `max_length`."""
    tokens: int
    """Tokens of the whole trajectories."""
    read_tokens: int
    """Tokens that the model reads: those before each trajectory's last label."""
    labelled_tokens: int
    unlabelled_steps: int = 0
    """Critical steps without a token that carries loss: those without a thought, with `span: thought`."""
    end_tokens: int = 0
    """End-of-turn tokens among the labelled ones."""
    rows: int = 0
    """Number of examples: more than trajectories if the chat template rewrites earlier turns."""
    row_tokens: int = 0
    """Tokens that the model would read if each example were computed on its own; without such a template `read_tokens`.
    """
    refused: tuple[str, ...] = ()
    """Why trajectories were left out that cannot be tokenised, one line each."""
    controls: Counter[str] = field(default_factory=Counter)
    """Control tokens inside the texts of all trajectories, with their number."""

    def __str__(self) -> str:
        text = (
            f"{self.trajectories} trajectories, {self.critical_steps} of {self.steps} steps "
            f"({self.critical_steps / self.steps:.1%}) and {self.labelled_tokens} of {self.tokens} tokens "
            f"({self.labelled_tokens / self.tokens:.1%}) carry loss; {self.read_tokens} tokens "
            f"({self.read_tokens / self.tokens:.1%}) are read, the rest follows the last label"
        )
        if self.rows > self.trajectories:
            text += (
                f"; the chat template rewrites earlier turns, so there are {self.rows} rows, whose {self.row_tokens} "
                "tokens are these where they share their beginnings"
            )
        if self.dropped_steps:
            text += f"; {self.dropped_steps} critical steps lie beyond max_length"
        if self.unlabelled_steps:
            text += f"; {self.unlabelled_steps} critical steps have no thought to learn from"
        if self.refused:
            text += (
                f"; {len(self.refused)} trajectories cannot be tokenised and are left out ({_some(self.refused, 2)})"
            )
        return text


@dataclass(frozen=True)
class Chosen:
    """The trajectories that a selection gives something to learn from, and the weights of their chosen steps."""

    trajectories: list[Trajectory]
    labels: dict[str, dict[int, float]]
    """Weight in (0, 1] of each chosen step, by trajectory id."""
    errors: int
    """Trajectories left out because their selection is an error."""
    without_steps: int
    """Trajectories left out because no step was chosen (docs/architecture.md, decision 5)."""
    failed: int = 0
    """Failed trajectories among those that are used (`collect.keep_failures`)."""

    def __str__(self) -> str:
        steps = sum(map(len, self.labels.values()))
        among = f", {self.failed} of which failed" if self.failed else ""
        return (
            f"{steps} critical steps of {len(self.trajectories)} trajectories{among}; left out: {self.errors} "
            f"trajectories with an error, {self.without_steps} without a chosen step"
        )


class _OfTrajectory(Protocol):
    @property
    def trajectory_id(self) -> str: ...


_Part = TypeVar("_Part", bound=_OfTrajectory)


def by_trajectory(examples: Sequence[_Part]) -> list[list[_Part]]:
    """The examples of each trajectory, in order: what an optimizer step holds as one. A pair is one of its own."""
    return [list(rows) for _, rows in groupby(examples, lambda example: example.trajectory_id)]


def choose(trajectories: Sequence[Trajectory], selections: Sequence[Selection]) -> Chosen:
    """Join trajectories with their selections; a trajectory without a chosen step is left out and counted.

    Args:
        trajectories: of the tuning set.
        selections: one for each of them, by one method.

    Raises:
        DataError: a trajectory has no selection, or more than one; or a selection has no trajectory.
        TrainingError: no trajectory has a chosen step.
    """
    by_id: dict[str, Selection] = {}
    for selection in selections:
        if selection.trajectory_id in by_id:
            raise DataError(f"selection {selection.method}: trajectory {selection.trajectory_id} has two rows")
        by_id[selection.trajectory_id] = selection
    method = selections[0].method if selections else "?"
    missing = [t.trajectory_id for t in trajectories if t.trajectory_id not in by_id]
    if missing:
        raise DataError(
            f"selection {method}: {len(missing)} of {len(trajectories)} trajectories have no row "
            f"({_some(missing)}); run the select stage again"
        )
    strange = sorted(by_id.keys() - {t.trajectory_id for t in trajectories})
    if strange:
        raise DataError(
            f"selection {method}: {len(strange)} rows are of no trajectory to tune on "
            f"({_some(strange)}); run the select stage again"
        )
    used = [t for t in trajectories if by_id[t.trajectory_id].steps]
    errors = sum(selection.error is not None for selection in by_id.values())
    without_steps = len(trajectories) - len(used) - errors
    if not used:
        raise TrainingError(
            f"selection {method}: it leaves nothing to train on: of {len(trajectories)} trajectories {errors} have an "
            f"error and {without_steps} no chosen step; change the selection's options, or collect more"
        )
    labels = {t.trajectory_id: by_id[t.trajectory_id].weight_of() for t in used}
    return Chosen(used, labels, errors, without_steps, sum(t.failed for t in used))


def prepare(
    trajectories: Sequence[Trajectory],
    labels: Mapping[str, Mapping[int, float]],
    tokenizer: PreTrainedTokenizerBase,
    options: TrainConfig,
    *,
    truncate: bool = True,
    thinks: bool | None = None,
) -> tuple[list[Example], Report]:
    """Examples in the order of their trajectory ids, and the report.

    A critical step that ends beyond `options.max_length` is dropped as a whole. A trajectory whose critical steps are
    all dropped is left out, and so is one that the chat template refuses; the report counts both.

    Args:
        trajectories: what to train on.
        labels: weight in (0, 1] of each critical step, by trajectory id.
        tokenizer: of the base model, with a chat template.
        options: `max_length`, `max_dropped_steps` and `loss` count here.
        truncate: whether examples end with their last label.
        thinks: see `chat.template.Template`.

    Raises:
        DataError: a trajectory has no entry in `labels`, a step that it does not have, or a weight outside (0, 1].
        TrainingError: a trajectory has no critical step, too many lie beyond `max_length`, or nothing is left.
        ModelError: the chat template cannot be used at all.
    """
    missing = sorted(t.trajectory_id for t in trajectories if t.trajectory_id not in labels)
    if missing:
        raise DataError(
            f"{len(missing)} trajectories have no selected steps ({_some(missing)}); run the select stage again"
        )
    empty = sorted(t.trajectory_id for t in trajectories if not labels[t.trajectory_id])
    if empty:
        raise TrainingError(
            f"{len(empty)} trajectories have no critical step, so no token to learn from ({_some(empty)}); "
            "leave them out or select again"
        )
    examples: list[Example] = []
    refused: list[str] = []
    controls: Counter[str] = Counter()
    used = n_steps = critical = dropped = unlabelled = tokens = read = 0
    ordered = sorted(trajectories, key=lambda t: t.trajectory_id)
    for trajectory, encoded in zip(ordered, encode_all(ordered, tokenizer, thinks=thinks), strict=True):
        if isinstance(encoded, DataError):
            refused.append(str(encoded))
            continue
        weight_of = labels[trajectory.trajectory_id]
        loss_mask(encoded, weight_of)  # refuses a step that is out of range
        controls += encoded.controls
        learnt = on_trunk = 0
        for path, row in zip(encoded.paths, encoded, strict=True):
            ids, spans, actions = row
            inside = [step for step in sorted(weight_of) if step in spans and spans[step][1] <= options.max_length]
            parts = {step: labelled(spans[step], actions[step], options) for step in inside}
            chosen = [step for step, (first, last) in parts.items() if first < last]
            unlabelled += len(inside) - len(chosen)
            dropped -= len(inside)
            if not chosen:
                continue
            learnt += len(chosen)
            end = parts[chosen[-1]][1] if truncate else min(len(ids), options.max_length)
            weights = _weights(trajectory.trajectory_id, row, {step: weight_of[step] for step in chosen}, options)
            examples.append(
                Example(trajectory.trajectory_id, np.asarray(ids[:end], dtype=np.int32), weights[:end], len(ids))
            )
            common = path.shared if path.begin else examples[-1].length  # the trunk begins at 0
            on_trunk = max(on_trunk, common)
            read += examples[-1].length - common
        dropped += len(weight_of)
        if learnt:
            used += 1
            n_steps += trajectory.n_steps
            critical += learnt
            tokens += len(encoded.ids)
            read += on_trunk
    share = dropped / max(1, critical + dropped)
    if share > options.max_dropped_steps:
        raise TrainingError(
            f"{dropped} of {critical + dropped} critical steps ({share:.1%}) lie beyond train.max_length="
            f"{options.max_length}; raise it, or train.max_dropped_steps (now {options.max_dropped_steps:.1%})"
        )
    if not examples:
        why = f"{len(refused)} cannot be tokenised ({refused[0]})" if refused else "check collect and select"
        if unlabelled:
            why = f"{unlabelled} critical steps have no thought; change train.span"
        raise TrainingError(f"no trajectory to train on is left; {why}")
    end_id = tokenizer.convert_tokens_to_ids(end_of_turn(tokenizer))
    end_tokens = sum(int(np.count_nonzero((each.ids == end_id) & (each.weights > 0))) for each in examples)
    report = Report(
        trajectories=used,
        steps=n_steps,
        critical_steps=critical,
        dropped_steps=dropped,
        unlabelled_steps=unlabelled,
        tokens=tokens,
        read_tokens=read,
        labelled_tokens=sum(example.labelled for example in examples),
        end_tokens=end_tokens,
        rows=len(examples),
        row_tokens=sum(example.length for example in examples),
        refused=tuple(refused),
        controls=controls,
    )
    return examples, report


def _weights(trajectory_id: str, row: Row, weight_of: Mapping[int, float], options: TrainConfig) -> NDArray[np.float32]:
    """Weight of each token of a row in the loss."""
    weights = np.zeros(len(row.ids), dtype=np.float32)
    for step, weight in weight_of.items():
        start, stop = row.spans[step]
        if start == 0:
            raise DataError(f"trajectory {trajectory_id}: its first token is a label, which nothing predicts")
        exact = token_weights((start, stop), row.actions[step], weight, options)
        weights[start:stop] = exact
        # A weight that fp32 rounds to 0 would make the label vanish without a word.
        if not (0 < weight <= 1 and bool(np.all((exact > 0) == (weights[start:stop] > 0)))):
            raise DataError(
                f"trajectory {trajectory_id}: the weight {weight} of step {step} is not in (0, 1], or too small for "
                "fp32; correct the selection"
            )
    return weights


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
