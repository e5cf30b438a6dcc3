"""`report.html`: one file that opens from disk and asks no host for anything.

Everything is rendered by jinja2 with autoescape on. The one script is the explorer's; a content security policy names
it by its hash and forbids all others. Drawings are HTML and SVG in the page's own colours, so that they follow dark and
light and stay small.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from atlas_ray.evaluation.table import NONE, layout
from atlas_ray.report import explorer, findings, overview
from atlas_ray.report.charts import Curve, curve
from atlas_ray.report.data import RunData
from atlas_ray.report.setting import Setting, cost, spent, total_seconds

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TrainingRun:
    """One checkpoint's training in figures; None where its log does not say."""

    name: str
    steps: int
    first_loss: float | None
    last_loss: float | None
    tokens: float | None
    labelled: float | None
    seconds: float | None
    speed: float | None
    """Tokens read per second of training."""
    loss: Curve | None
    grad_norm: Curve | None


def training_runs(data: RunData) -> list[TrainingRun]:
    """Figures and curves of every checkpoint that left a log."""
    found = []
    for name, records in data.training.items():
        losses = _column(records, "loss")
        tokens, seconds = _total(records, "tokens"), _total(records, "seconds")
        found.append(
            TrainingRun(
                name=name,
                steps=int(records[-1]["step"]),
                first_loss=losses[0][1] if losses else None,
                last_loss=losses[-1][1] if losses else None,
                tokens=tokens,
                labelled=_total(records, "labelled_tokens"),
                seconds=seconds,
                speed=tokens / seconds if tokens and seconds else None,
                loss=curve(*_unzip(losses)),
                grad_norm=curve(*_unzip(_column(records, "grad_norm"))),
            )
        )
    return found


def render(data: RunData, setting: Setting, tokenizer: PreTrainedTokenizerBase | None = None) -> str:
    """The page; with a tokenizer it shows loss masks on the real tokens."""
    environment = Environment(
        loader=PackageLoader("atlas_ray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(p_text=findings.p_text, number=number, count=count, duration=duration, facts=facts)
    methods = overview.method_rows(data)
    profile = [row.profile for row in methods]
    width = max((i + 1 for row in profile for i, value in enumerate(row) if value is not None), default=0)
    script = files("atlas_ray.report").joinpath("templates/explorer.js").read_text()
    return environment.get_template("report.html.j2").render(
        title=setting.title,
        data=data,
        headline=findings.headline(data),
        notes=findings.notes(data),
        table=layout([model.results for model in data.models.values()], data.cards),
        contrasts=findings.contrasts(data),
        training=training_runs(data),
        methods=methods,
        worth=overview.worth(data),
        colour={row.method: i % 5 for i, row in enumerate(methods)},
        profile_steps=overview.PROFILE_STEPS,
        profile_width=width,
        categories=list(dict.fromkeys(name for row in methods for name in row.categories)),
        overlaps=overview.overlaps(data),
        explored=(known := explorer.payload(data, tokenizer)),
        explorer_data=Markup(explorer.embed(known)),  # noqa: S704 - JSON without a character that could end its element
        explorer_script=Markup(script),  # noqa: S704 - our own file
        explorer_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        costs=[cost(data, unit) for unit in data.units],
        total_seconds=total_seconds(data),
        spent=spent(data),
        commands=setting.commands,
        versions=setting.versions,
        written=setting.written,
        config_yaml=yaml.safe_dump(data.config.model_dump(mode="json"), sort_keys=False),
    )


def number(value: float | None) -> str:
    """Three decimals."""
    return NONE if value is None else f"{value:.3f}"


def count(value: float | None) -> str:
    """A whole number with thousands separators."""
    return NONE if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """`48 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds is None:
        return NONE
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def facts(values: Mapping[str, Any]) -> str:
    """What a stage recorded, in one line: `trajectories = 120, dropped (maze = 3)`."""
    parts = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            parts.append(f"{key} ({facts(value)})" if value else f"{key} none")
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            parts.append(f"{key} = {shown}")
    return ", ".join(parts)


def _column(records: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(float(r["step"]), float(r[name])) for r in records if r.get(name) is not None]


def _unzip(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _total(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [float(r[name]) for r in records if r.get(name) is not None]
    return sum(values) if values else None
