"""Retake the pictures of README.md and docs/dashboard.md from a real run, by the pages' own controls.

    python docs/screenshots.py --config configs/quickstart.yaml --run_dir runs/pictures

starts a Ray head, runs the pipeline on it (what follows goes to its job and to that of `make serve`), photographs the
dashboard and the report, then serves the run's model and photographs the page. Stages that are current are skipped: a
second take needs minutes, but its dashboard has less to show. Needs Chromium (`make browser`).

    python docs/screenshots.py --view RUN ...

photographs the live view of runs alone.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[0] = str(ROOT)

from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from atlas_ray.cli.launch import local_head
from atlas_ray.cli.options import parse_args
from atlas_ray.config import PipelineConfig
from atlas_ray.evaluation.ledger import counted
from atlas_ray.store import Store
from tests.browser import browser

IMAGES = ROOT / "docs" / "images"
COLOURS = 96
"""Of a picture: pages have few, and a palette keeps them small."""
PATIENCE_MS = 180_000


def main() -> None:
    """Run, serve, photograph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--view", nargs="+", metavar="RUN", help="photograph the live view of these runs alone")
    chosen, job_options = parser.parse_known_args()
    if chosen.view:
        with browser() as chromium:
            live(chromium, chosen.view)
        return
    config = parse_args(job_options)
    os.environ["RAY_AUTH_MODE"] = "disabled"  # the browser has no token
    with browser() as chromium, local_head() as url:
        with job(url, "pipeline", job_options) as lines:
            for line in lines:
                if line.startswith("evaluate base: running"):
                    time.sleep(60)  # by then engine and environment server are at work
                    dashboard(chromium, url, "actors", "EnvironmentServer")
        dashboard(chromium, url, "jobs", "pipeline.py")
        dashboard(chromium, url, "job", "Ray Data Overview")
        explorer(chromium, Path(config.run_dir).absolute() / "report.html", config.train.selections[0])
        live(chromium, [config.run_dir])
        with job(url, "serve", job_options) as lines:
            page = next(line.split()[2] for line in lines if line.startswith("serving at"))
            play(chromium, page, *showcase(config))
            dashboard(chromium, url, "serve", "AgentIngress")


def showcase(config: PipelineConfig) -> tuple[str, int]:
    """Environment and number of a test task that the tuned model solved and the base model did not, if there is one."""
    store, tuned = Store(config.run_dir), config.train.selections[0]
    solved, failed = (
        {(episode.env, episode.task) for episode in counted(store, model) if episode.success == won}
        for model, won in ((tuned, True), ("base", False))
    )
    return min(solved & failed, default=("textcraft", 0))


@contextmanager
def job(head: str, name: str, options: list[str]) -> Iterator[Iterator[str]]:
    """`jobs/<name>.py` as a Ray job on the head; its lines as they come. It is stopped when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "atlas_ray.cli.launch", "--", "python", f"jobs/{name}.py", *options],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"RAY_ADDRESS": head},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield (_echo(line) for line in process.stdout)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


def _echo(line: str) -> str:
    print(line, end="", flush=True)
    return line


def dashboard(chromium: Browser, url: str, view: str, shows: str) -> None:
    """A view of Ray's dashboard once it shows a text; `job` is the page of the pipeline's job."""
    page = opened(chromium, f"{url}/#/{'jobs' if view == 'job' else view}")
    if view == "job":
        page.locator("tr", has_text="pipeline.py").get_by_role("link").first.click()
    found = page.get_by_text(shows).first
    found.wait_for(timeout=PATIENCE_MS)
    page.wait_for_timeout(3000)  # tables fill and charts move
    if view == "job":  # what is folded opens: the overview, then every dataset, the last one first
        found.click()
        page.wait_for_timeout(1000)
        for row in reversed(page.locator("tr", has_text="select ").all()):
            row.locator("svg").first.click()
        page.wait_for_timeout(1000)
    save(page, f"dashboard-{view}", found if view == "job" else None)
    page.close()


def explorer(chromium: Browser, report: Path, selection: str) -> None:
    """The longest trajectory that a selection judged, in the report."""
    page = opened(chromium, report.as_uri())
    trajectories = page.locator("#explore-trajectories")
    trajectories.get_by_label("judged by").select_option(selection)
    trajectories.get_by_label("order").select_option("length")
    trajectories.locator(".picker button").first.click()
    save(page, "explorer", trajectories)
    page.close()


def live(chromium: Browser, runs: list[str]) -> None:
    """The live view: the results of the runs, and the longest trajectory."""
    process = subprocess.Popen(
        [Path(sys.executable).with_name("atlas-ray"), "view", *runs, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        page = opened(chromium, process.stdout.readline().split()[2])
        page.locator("#results table").first.wait_for()
        page.locator("#selections .key").first.wait_for()
        save(page, "view", page.locator("#results"))
        trajectories = page.locator("#trajectories")
        trajectories.get_by_label("order").select_option("n_steps")
        trajectories.locator(".picker button").first.click()
        trajectories.locator(".mark.on").first.wait_for()
        save(page, "view-trajectories", trajectories)
        page.close()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def play(chromium: Browser, url: str, environment: str, task: int) -> None:
    """The page of `make serve`: both agents play a task to its end."""
    page = opened(chromium, url)
    page.get_by_label("Environment").select_option(environment)
    page.get_by_label("Task").fill(str(task))
    page.get_by_role("button", name="Start").click()
    page.get_by_role("article").nth(1).wait_for()
    page.get_by_role("button", name="Run all").click()
    for side in page.get_by_role("article").all():
        side.locator(".won, .lost").wait_for(timeout=PATIENCE_MS)
    save(page, "page")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})
    save(page, "page-phone")
    page.close()


def opened(chromium: Browser, url: str) -> Page:
    """A page of the usual size, in light colours."""
    page = chromium.new_page(viewport={"width": 1280, "height": 860}, color_scheme="light")
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    return page


def save(page: Page, name: str, part: Locator | None = None) -> None:
    """What is seen now, beginning with `part`, as a small PNG in docs/images."""
    if part is not None:
        part.evaluate("element => element.scrollIntoView({block: 'start', behavior: 'instant'})")
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
