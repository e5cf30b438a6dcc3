"""Write report.md and report.html from what the run directory holds."""

from __future__ import annotations

from atlas_ray.cli.command import Command, Request


def work(request: Request) -> None:
    from atlas_ray.pipeline import stages

    print("\n".join(stages.report(request.run(ray=False, hub=False))))


COMMAND = Command(
    "report", __doc__, ("atlas-ray report --config runs/quickstart/config.yaml",), work, ("evaluate", "select")
)
