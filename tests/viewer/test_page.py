"""The live view in Chromium: it follows runs and keeps what one chose; by keyboard, on a phone, in the dark."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from playwright.sync_api import Page, expect

from atlas_ray.viewer import app
from atlas_ray.viewer.app import View, application, bound
from tests.browser import browser, needs_browser, new_page
from tests.report.synthetic import HOSTILE, make_episodes, make_trajectories, write_model
from tests.viewer.conftest import configured

pytestmark = needs_browser


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@contextmanager
def served(view: View) -> Iterator[str]:
    """Serve a page about runs while the block lasts; its address."""
    server = uvicorn.Server(uvicorn.Config(application(view), log_level="warning", lifespan="off"))
    with bound(0) as listening, view.following():
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def opened(chromium, url: str, path: str = "/", **options) -> Iterator[Page]:
    """A page that complains of nothing and asks no other host."""
    page, complaints, asked = new_page(chromium, **options), [], []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url + path)
    yield page
    page.close()
    assert not complaints
    assert all(each.startswith((url, "data:")) for each in asked), asked


def test_two_runs_are_beside_each_other_and_rows_are_filtered_by_hand_and_by_key(chromium, stores):
    with served(View([store.url for store in stores])) as url:
        with opened(chromium, url) as page:
            expect(page.locator("#results table").first).to_contain_text("two: llm")
            expect(page.locator("#results")).to_contain_text("textcraft, two")  # a chart of success over rounds
            expect(page.locator("#selections .run1")).to_contain_text("perplexity and random")
            rows = page.locator("#trajectories")
            expect(rows.get_by_role("status")).to_have_text("40 of 40 trajectories")
            rows.get_by_label("environment").select_option("textcraft")
            rows.get_by_label("run").select_option("one")
            expect(rows.get_by_role("status")).to_have_text("10 of 20 trajectories")
            page.locator("#trajectories .picker button").first.click()
            page.keyboard.press("j")
            page.keyboard.press("j")
            page.keyboard.press("k")
            expect(rows.locator(".picker button").nth(1)).to_have_attribute("aria-current", "true")
            expect(rows.locator("h3")).to_contain_text("textcraft_01")
            page.keyboard.press("/")
            page.keyboard.type("alert(1)")
            expect(rows.get_by_role("status")).to_have_text("1 of 20 trajectories")
            rows.locator(".picker button").first.click()
            expect(rows.locator(".shown")).to_contain_text(HOSTILE)
            expect(rows.get_by_role("img", name="llm: step 0 picked", exact=True)).to_be_visible()
            rows.get_by_text("The tokens and their loss mask").click()
            rows.get_by_label("loss of").select_option("llm")
            expect(rows.locator(".mask mark").first).to_be_visible()
            episodes = page.locator("#episodes")
            episodes.get_by_label("model").select_option("llm")
            episodes.get_by_label("environment").select_option("babyai")
            expect(episodes.get_by_role("status")).to_have_text("48 of 384 episodes")
            episodes.get_by_label("beside it").select_option(label="two: base, seed 0, failed")
            expect(episodes.locator(".sides h3")).to_have_count(2)
            address = page.url
        with opened(chromium, "", address) as page:  # what was chosen stands in the address
            expect(page.locator("#trajectories").get_by_role("status")).to_have_text("1 of 20 trajectories")
            expect(page.locator("#trajectories h3")).to_contain_text("textcraft_00")
            expect(page.get_by_label("search trajectories")).to_have_value("alert(1)")
            expect(page.locator("#episodes").get_by_label("model")).to_have_value("llm")
            expect(page.locator("#episodes .sides h3")).to_have_count(2)
            page.get_by_label("search trajectories").focus()
            page.keyboard.press("Escape")
            expect(page.locator("#trajectories").get_by_role("status")).to_have_text("10 of 20 trajectories")


def test_the_page_follows_a_run_and_stays_where_the_reader_is(chromium, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "_EVERY_S", 0.1)
    store = configured(str(tmp_path / "run"))
    many = [
        each.model_copy(update={"trajectory_id": f"{each.trajectory_id}_{number:03d}"})
        for number in range(15) for each in make_trajectories()
    ]  # fmt: skip
    store.write_trajectories(many[:280])
    with served(View([store.url])) as url, opened(chromium, url) as page:
        rows = page.locator("#trajectories")
        expect(rows.get_by_role("status")).to_have_text("280 of 280 trajectories")
        picker = rows.locator(".picker")
        picker.evaluate("list => { list.scrollTop = list.scrollHeight; }")  # the next rows come by themselves
        expect(rows.locator(".picker button:not(.more)")).to_have_count(200)
        rows.locator(".picker button").nth(150).click()
        expect(rows.locator(".picker button").nth(150)).to_have_attribute("aria-current", "true")
        expect(rows.locator("h3")).to_contain_text("textcraft_00_010")
        top = picker.evaluate("list => list.scrollTop")
        page.get_by_label("search trajectories").focus()
        episodes = [each.model_dump(mode="json") for each in make_episodes("base", "babyai", 0.5, tasks=4)]
        store.append(episodes, "evaluation", "base", "babyai.jsonl")
        expect(page.locator("#runs")).to_contain_text("evaluate base babyai: 4 episodes, 2 solved")
        expect(page.locator("#episodes").get_by_role("status")).to_have_text("4 of 4 episodes")
        store.write_trajectories(many)
        expect(rows.get_by_role("status")).to_have_text("300 of 300 trajectories")
        expect(rows.locator("h3")).to_contain_text("textcraft_00_010")
        assert picker.evaluate("list => list.scrollTop") == top
        expect(page.get_by_label("search trajectories")).to_be_focused()
        store.append(episodes[:1], "evaluation", "llm", "textcraft.jsonl")
        with open(store.path("evaluation", "llm", "results.json"), "w") as file:
            file.write('{"model": ')
        expect(page.locator("#runs .warn").first).to_contain_text("is not JSON")
        store.remove("evaluation", "llm")
        write_model(store, "llm", (0.75, 0.8))
        expect(page.locator("#results table").first).to_contain_text("79.2")
        expect(page.locator("#runs .warn")).to_have_count(0)


def test_a_phone_in_the_dark_shows_it_without_scrolling_sideways(chromium, stores):
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}
    with served(View([store.url for store in stores])) as url, opened(chromium, url, **phone) as page:
        expect(page.locator("#trajectories .step").first).to_be_visible()
        expect(page.locator("#episodes .step").first).to_be_visible()
        expect(page.locator("#cost table").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, light.removeprefix("rgb(").removesuffix(")").split(","))) < 150
        controls = page.locator("button, select, input")
        named = "controls => controls.every(each => each.ariaLabel || each.labels.length || each.textContent.trim())"
        assert controls.evaluate_all(named)
