"""The explorer in Chromium: from disk, with hostile data, and with ten thousand trajectories."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from atlas_ray.config_files import load
from atlas_ray.report import write_report
from atlas_ray.selection.methods.value import ValueSteps
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection
from tests.browser import browser, needs_browser, new_page
from tests.report.synthetic import HOSTILE, make_selections, make_trajectories, write_run
from tests.tokenizers import tokenizer

pytestmark = needs_browser


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


def write_values(store: Store) -> None:
    """The value method's judgement of the hostile trajectory: rollouts fare better after step 1."""
    [trajectory] = [t for t in make_trajectories() if t.trajectory_id == "textcraft_00"]
    samples = [[0.0, 0.0], [0.0, 1.0]] + [[1.0, 1.0]] * (trajectory.n_steps - 2)
    discounted = ValueSteps(load(None, {"select.value.estimate": "discounted"}).selection("value"))
    store.write_selections("value", [discounted.choose(trajectory, samples, 1.0)])


def write_scores(store: Store) -> None:
    """Scores on both sides of zero, and chosen steps of different weights, of the hostile trajectory."""
    row = Selection(
        trajectory_id="textcraft_00", method="value", ratio=1.0, steps=(0, 2), weights=(1.0, 0.4),
        scores=(0.5, -0.323, 0.25),
    )  # fmt: skip
    store.write_selections("weighted", [row])


def opened(chromium, store: Store) -> tuple[Page, list[str]]:
    page, complaints = new_page(chromium), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(Path(store.path("report.html")).as_uri())
    return page, complaints


def test_search_filter_and_masks_from_disk(chromium, tmp_path, config, cards):
    store = Store(str(tmp_path / "run"))
    write_run(store)
    write_values(store)
    tokenizer("chatml").save_pretrained(store.path("checkpoints", "llm"))
    Path(store.path("checkpoints", "llm", "config.json")).write_text("{}")
    write_report(config, store, cards)
    page, complaints = opened(chromium, store)
    trajectories = page.locator("#explore-trajectories")
    expect(trajectories.get_by_role("status")).to_have_text("20 of 20 trajectories")
    trajectories.get_by_label("environment").select_option("textcraft")
    expect(trajectories.get_by_role("status")).to_have_text("10 of 20 trajectories")
    trajectories.get_by_label("search trajectories").fill("textcraft_00 alert(1)")
    expect(trajectories.get_by_role("status")).to_have_text("1 of 20 trajectories")
    expect(trajectories.locator(".shown")).to_contain_text(HOSTILE)
    expect(trajectories.get_by_role("img", name="before step 1: mean reward 0.50 of 2 rollouts")).to_be_visible()
    expect(trajectories.get_by_role("img", name="the end: the expert's own reward 1.00")).to_be_visible()
    assert trajectories.locator("figure polyline").count() == 2  # rewards, and their discounted sum
    trajectories.get_by_text("The tokens and their loss mask").click()
    trajectories.get_by_label("loss of").select_option("llm")
    marked = "".join(trajectories.locator(".mask mark").all_text_contents())
    assert "Action: get 1 dark oak planks" in marked
    assert "Action: get 2 dark oak planks" not in marked
    episodes = page.locator("#explore-episodes")
    expect(episodes.get_by_role("status")).to_have_text("48 of 48 episodes")
    first = episodes.locator(".picker button").first
    expect(first).to_contain_text("solved")  # only the second model did
    first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the second one, by keyboard alone
    expect(episodes.locator(".picker button").nth(1)).to_have_attribute("aria-current", "true")
    assert not complaints


def test_ten_thousand_trajectories_stay_usable(chromium, tmp_path, config, cards):
    store = Store(str(tmp_path / "run"))
    kinds = make_trajectories()
    many = [
        kind.model_copy(update={"trajectory_id": f"{kind.trajectory_id}_{number:04d}"})
        for number in range(500) for kind in kinds
    ]  # fmt: skip
    store.write_trajectories(many)
    for method, rows in make_selections(many).items():
        store.write_selections(method, rows)
    write_report(config, store, cards)
    assert Path(store.path("report.html")).stat().st_size < 60_000_000
    start = time.monotonic()
    page, complaints = opened(chromium, store)
    expect(page.locator("#explore-trajectories").get_by_role("status")).to_contain_text("2000 of 2000 trajectories")
    print(f"loaded in {time.monotonic() - start:.1f} s")  # the goal of 3 s is measured, not asserted
    expect(page.get_by_text("2000 of 10000 trajectories are here")).to_be_visible()
    assert not complaints


def test_a_negative_score_hangs_below_the_line_and_a_light_step_is_faint(chromium, tmp_path, config, cards):
    store = Store(str(tmp_path / "run"))
    write_run(store)
    write_scores(store)
    recorded = {"metadata": {"kinds": ["productive", "habit", "productive"]}}
    rows = [t.model_copy(update=recorded if t.trajectory_id == "textcraft_00" else {}) for t in make_trajectories()]
    store.write_trajectories(rows)
    write_report(config, store, cards)
    page, complaints = opened(chromium, store)
    page.locator("#explore-trajectories").get_by_label("judged by").select_option("weighted")
    timeline = page.locator("#explore-trajectories .timeline")
    bars = timeline.locator("tr", has_text="weighted score").locator(".bar")
    boxes = [(bar.locator("i").bounding_box(), bar.locator("u").bounding_box()) for bar in bars.all()]
    assert len(boxes) == 3
    lines = [line["y"] for _, line in boxes]
    assert max(lines) - min(lines) < 1  # one zero line for all steps
    (up, zero), (down, _), (half, _) = boxes
    assert abs(up["y"] + up["height"] - zero["y"]) < 1.5
    assert abs(down["y"] - zero["y"]) < 1.5
    assert up["height"] == pytest.approx(2 * half["height"], abs=1)
    assert down["height"] == pytest.approx(up["height"] * 0.323 / 0.5, abs=1)
    assert up["height"] + down["height"] == pytest.approx(bars.first.bounding_box()["height"], abs=1)
    whole = timeline.get_by_role("img", name="weighted: step 0 picked", exact=True)
    light = timeline.get_by_role("img", name="weighted: step 2 picked, weight 0.4", exact=True)
    opacities = [float(mark.evaluate("e => getComputedStyle(e).opacity")) for mark in (whole, light)]
    assert opacities == [1.0, pytest.approx(0.55)]
    shown = page.locator("#explore-trajectories .shown")
    expect(shown).to_contain_text("weighted (weight 0.4)")
    assert [step.locator(".head i").all_text_contents() for step in shown.locator(".step").all()] == [[], ["habit"], []]
    assert not complaints
