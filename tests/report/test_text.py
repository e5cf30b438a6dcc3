"""Numbers, durations and facts as text."""

from __future__ import annotations

import pytest

from atlas_ray.report.text import count, duration, facts, joined, number, p_text, percent


def test_durations_and_facts() -> None:
    assert [duration(s) for s in (None, 4.21, 59.4, 200, 7505)] == ["–", "4.2 s", "59 s", "3 min 20 s", "2 h 05 min"]
    assert facts({"trajectories": 12, "dropped": {"maze": 3}, "none": {}, "share": 0.123456}) == (
        "trajectories = 12, dropped (maze = 3), none none, share = 0.1235"
    )


def test_shares_counts_and_what_is_not_known() -> None:
    assert [percent(value) for value in (None, 0.0, 0.2449, 1.0)] == ["–", "0.0 %", "24.5 %", "100.0 %"]
    assert (percent(0.246, 0), count(12345.6), count(None), number(0.12345)) == ("25 %", "12,346", "–", "0.123")
    assert [joined(parts) for parts in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


@pytest.mark.parametrize(("p", "text"), [(0.0004, "p < 0.001"), (0.0123, "p = 0.012"), (1.0, "p = 1.000")])
def test_p_values(p: float, text: str) -> None:
    assert p_text(p) == text
