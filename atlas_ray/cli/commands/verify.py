"""Check the critical steps: a model from scratch against from right after each of them (paper 4.6)."""

from __future__ import annotations

from atlas_ray.cli.command import Command, Request


def work(request: Request) -> None:
    from atlas_ray.pipeline import stages
    from atlas_ray.report import verification_table
    from atlas_ray.report.tables import to_markdown

    print(to_markdown(verification_table(stages.verify(request.run()))), end="")


COMMAND = Command(
    "verify", __doc__,
    ("atlas-ray verify --config quickstart --verify.selection critical --verify.trajectories 20",),
    work, ("verify", "engine", "rollout"),
)  # fmt: skip
