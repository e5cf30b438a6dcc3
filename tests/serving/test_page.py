"""The page in Chromium, by its own controls alone; nothing is asked of other hosts."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser import browser, needs_browser, new_page

pytestmark = needs_browser


@pytest.fixture
def page(served):
    with browser() as chromium:
        page = new_page(chromium, viewport={"width": 1200, "height": 900})
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(served.url)
        yield page
        assert not complaints
        assert all(url.startswith((served.url, "data:")) for url in asked), asked


def start(page, environment="textcraft", task=1):
    page.get_by_label("Environment").select_option(environment)
    page.get_by_label("Task").fill(str(task))
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("article")).to_have_count(4)  # two models and two adapters


def test_two_agents_side_by_side_and_a_person_who_takes_over(page):
    start(page)
    tuned = page.get_by_role("article", name="Episode of llm")
    base = page.get_by_role("article", name="Episode of base")
    tuned.get_by_role("button", name="Agent: one step").click()
    expect(tuned.get_by_role("listitem")).to_have_count(1)
    expect(tuned.get_by_role("listitem")).to_contain_text("agent")
    tuned.get_by_label("Your action").press_sequentially("<script>alert(1)</script>")
    page.keyboard.press("Enter")
    expect(tuned.get_by_role("listitem")).to_have_count(2)
    expect(tuned.get_by_role("listitem").nth(1)).to_contain_text("<script>alert(1)</script>")
    expect(tuned.get_by_role("listitem").nth(1)).to_contain_text("you")
    tuned.get_by_role("button", name="Undo").click()
    expect(tuned.get_by_role("listitem")).to_have_count(1)
    expect(base.get_by_role("listitem")).to_have_count(0)
    page.get_by_role("button", name="Run all").click()
    for side in (tuned, base):
        expect(side.get_by_text("step 3 of 3")).to_be_visible()
        expect(side.get_by_role("button", name="Agent: run")).to_be_disabled()
        expect(side.get_by_role("button", name="Undo")).to_be_enabled()


def test_a_wrong_task_is_said_and_the_page_goes_on(page):
    page.get_by_label("Environment").select_option("textcraft")
    page.get_by_label("Task").evaluate("box => box.removeAttribute('max')")
    page.get_by_label("Task").fill("99999999")
    page.get_by_role("button", name="Start").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("has no task 99999999")
    start(page)


def test_it_fits_a_phone_in_the_dark(page):
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 375, "height": 700})
    start(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    ink, ground = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert brightness(ink) > 180 > 60 > brightness(ground)


def brightness(colour):
    red, green, blue = (int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(","))
    return (red + green + blue) / 3
