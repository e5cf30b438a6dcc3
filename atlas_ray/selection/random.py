"""Method `random`: steps at random (paper section 4.5.3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from atlas_ray.selection.budget import budget
from atlas_ray.trajectory import Selection, Trajectory


def draw(candidates: Sequence[int], count: int, *key: str | int) -> tuple[int, ...]:
    """`count` of `candidates` (all, where there are fewer), ascending; decided by a hash of `key` and the candidate.

    The same in any process, order and Python version; a draw with a larger count contains the smaller one.
    """

    def lot(step: int) -> bytes:
        return hashlib.sha256(json.dumps([*key, step]).encode()).digest()

    return tuple(sorted(sorted(candidates, key=lot)[:count]))


def select(trajectory: Trajectory, ratio: float, seed: int) -> Selection:
    """As many steps as the budget allows, drawn by (seed, trajectory id)."""
    steps = draw(range(trajectory.n_steps), budget(trajectory.n_steps, ratio), "random", seed, trajectory.trajectory_id)
    return Selection(
        trajectory_id=trajectory.trajectory_id, method="random", ratio=ratio, steps=steps, provenance={"seed": seed}
    )
