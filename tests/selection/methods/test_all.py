"""Method `all`."""

from __future__ import annotations

from hypothesis import given

from tests.selection.data import SIZES, made, trajectory


@given(n_steps=SIZES)
def test_every_step(n_steps: int) -> None:
    assert made("all").choose(trajectory(0, n_steps), {}).steps == tuple(range(n_steps))
