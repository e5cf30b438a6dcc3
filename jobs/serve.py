"""Serve the tuned agent: OpenAI's endpoints, agent sessions and a page to play on; ends with Ctrl-C."""

import signal
import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray.cli.job import run_job
from atlas_ray.pipeline import serve as stage
from atlas_ray.pipeline.run import Run


def serve(run: Run) -> None:
    with stage.serve(run) as url:
        print(f"serving at {url}  (page: {url}/, API: {url}/openapi.json)", flush=True)
        signal.pause()
    print("stopped")


run_job(__doc__ or "", serve)
