"""A real browser for tests: Debian's Chromium, driven by Playwright; tests skip with a reason where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH; `make browser` installs Debian's")
_QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


_PATIENCE_MS = 240_000
"""Four models answer a page of the service at a time, beside whatever else runs."""


@contextmanager
def browser() -> Iterator[Browser]:
    """Headless Chromium for as long as the block lasts."""
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_QUIET))
        try:
            yield chromium
        finally:
            chromium.close()


def new_page(chromium: Browser, **options: Any) -> Page:
    """As `Browser.new_page`, and what is done on the page may take long."""
    page = chromium.new_page(**options)
    page.set_default_timeout(_PATIENCE_MS)
    return page
