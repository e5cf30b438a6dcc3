"""Serve the tuned agent: OpenAI's endpoints, agent sessions and a page to play on; ends with Ctrl-C."""

from __future__ import annotations

import signal

from atlas_ray.cli.command import Command, Request


def work(request: Request) -> None:
    from atlas_ray.pipeline import serve as stage

    with stage.serve(request.run()) as url:
        print(f"serving at {url}  (page: {url}/, API: {url}/openapi.json)", flush=True)
        signal.pause()
    print("stopped")


COMMAND = Command(
    "serve", __doc__, ("atlas-ray serve --config quickstart --serve.port 8000",), work, ("serve", "engine")
)
