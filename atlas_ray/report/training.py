"""What the training logs say of every checkpoint: first and last loss, tokens, speed, and its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atlas_ray.report.charts import Curve, curve
from atlas_ray.report.data import RunData
from atlas_ray.report.tables import Table, table
from atlas_ray.report.text import count, duration, number


@dataclass(frozen=True)
class TrainingRun:
    """One checkpoint's training in figures; None where its log does not say."""

    name: str
    steps: int
    first_loss: float | None
    last_loss: float | None
    tokens: float | None
    """Tokens read."""
    labelled: float | None
    """Tokens that carried loss."""
    seconds: float | None
    loss: Curve | None
    grad_norm: Curve | None


def training_runs(data: RunData) -> list[TrainingRun]:
    """Figures and curves of every checkpoint that left a log."""
    found = []
    for name, records in data.training.items():
        losses = _column(records, "loss")
        found.append(
            TrainingRun(
                name=name,
                steps=int(records[-1]["step"]),
                first_loss=losses[0][1] if losses else None,
                last_loss=losses[-1][1] if losses else None,
                tokens=_total(records, "tokens"),
                labelled=_total(records, "labelled_tokens"),
                seconds=_total(records, "seconds"),
                loss=curve(*_unzip(losses)),
                grad_norm=curve(*_unzip(_column(records, "grad_norm"))),
            )
        )
    return found


def training_table(runs: Sequence[TrainingRun]) -> Table:
    """A checkpoint a row."""
    header = ["checkpoint", "steps", "first loss", "last loss", "tokens read", "labelled", "tokens/s", "time"]
    rows = []
    for run in runs:
        share = f" ({100 * run.labelled / run.tokens:.0f} %)" if run.labelled and run.tokens else ""
        speed = run.tokens / run.seconds if run.tokens and run.seconds else None
        rows.append(
            [
                run.name, str(run.steps), number(run.first_loss), number(run.last_loss), count(run.tokens),
                count(run.labelled) + share, count(speed), duration(run.seconds),
            ]
        )  # fmt: skip
    return table(header, rows)


def _column(records: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(float(r["step"]), float(r[name])) for r in records if r.get(name) is not None]


def _unzip(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _total(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [float(r[name]) for r in records if r.get(name) is not None]
    return sum(values) if values else None
