"""The site: builds without a warning, asks no other host for anything, and its generated pages are complete."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from atlas_ray.cli import commands
from atlas_ray.cli.options import option_names
from tests.conftest import ROOT


class Page(HTMLParser):
    """What a page loads, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.words: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.loads.append(given.get("src") or "")
        if tag == "link" and given.get("rel") != "canonical":
            self.loads.append(given.get("href") or "")

    def handle_data(self, data: str) -> None:
        self.words.update(data.split())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does; a warning (a dead link, anchor or reference, a page outside the menu) is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_no_page_asks_another_host(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for path in pages:
        foreign = [link for link in Page(path).loads if link.startswith(("http:", "https:", "//"))]
        assert not foreign, path.relative_to(site)


def test_every_option_and_command_has_its_place(site):
    assert set(option_names()) <= Page(site / "reference" / "configuration.html").words
    assert set(commands.names()) <= Page(site / "reference" / "help.html").words


def test_what_readers_derive_from_is_documented(site):
    words = Page(site / "reference" / "python.html").words
    assert {"TextEnv", "_start", "RuleMethod", "choose", "check_env", "Trajectory", "Selection"} <= words


def test_links_into_the_repository_work(site):
    front = (site / "index.html").read_text()
    assert 'href="tutorial.html"' in front
    assert 'href="source/CONTRIBUTING.html"' in front
    assert (site / "source" / "envs" / "textcraft" / "index.html").is_file()
    assert (site / "source" / "deploy" / "grafana" / "atlas.json").is_file()
