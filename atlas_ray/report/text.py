"""Numbers, durations and recorded facts as the report writes them: short, and the same in every form of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atlas_ray.report.tables import NONE


def number(value: float | None) -> str:
    """Three decimals."""
    return NONE if value is None else f"{value:.3f}"


def count(value: float | None) -> str:
    """A whole number with thousands separators."""
    return NONE if value is None else f"{value:,.0f}"


def percent(share: float | None, decimals: int = 1) -> str:
    """A share in [0, 1] in percent."""
    return NONE if share is None else f"{100 * share:.{decimals}f} %"


def p_text(p_value: float) -> str:
    """`p = 0.012`, or `p < 0.001`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def joined(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


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
