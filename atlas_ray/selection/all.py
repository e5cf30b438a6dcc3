"""Method `all`: every step is critical, the AgentTraj-L baseline (paper section 4.3)."""

from __future__ import annotations

from atlas_ray.trajectory import Selection, Trajectory


def select(trajectory: Trajectory, ratio: float, seed: int) -> Selection:
    """Every step of `trajectory`, whatever the ratio and the seed; `ratio` is recorded as 1."""
    del ratio, seed
    return Selection(
        trajectory_id=trajectory.trajectory_id, method="all", ratio=1.0, steps=tuple(range(trajectory.n_steps))
    )
