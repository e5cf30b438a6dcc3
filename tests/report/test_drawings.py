"""The pictures: their size, and a line for every model and group of training seeds."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

from PIL import Image

from atlas_ray.report.curves import success_charts
from atlas_ray.report.data import RunData
from atlas_ray.report.drawings import WIDTH, picture
from atlas_ray.report.results import with_groups

TUNED = (0x0B, 0x66, 0xC3)


def drawn(data: RunData, *, curves: bool = True) -> Image.Image:
    results = [model.results for model in data.models.values()]
    rows = with_groups(results, data.cards, lambda name: data.models[name].episodes)
    charts = [chart if curves else replace(chart, lines=()) for chart in success_charts(data)]
    return Image.open(io.BytesIO(picture(rows, data.cards, charts))).convert("RGB")


def lines(image: Image.Image, color: tuple[int, int, int]) -> int:
    """How many separate bars of a colour there are, one above another; text and dots are narrower than a bar."""
    pixels = image.load()
    assert pixels is not None
    rows = [sum(pixels[x, y] == color for x in range(image.width)) > 60 for y in range(image.height)]
    return sum(here and not before for before, here in zip([False, *rows], rows, strict=False))


def test_the_picture_of_the_result_is_opaque_and_as_wide_as_a_page(data: RunData) -> None:
    image = drawn(data)
    assert image.width == WIDTH
    assert 200 < image.height < 1200
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_every_tuned_model_and_the_mean_of_its_seeds_has_a_line_in_colour(outcome: Callable[..., RunData]) -> None:
    assert lines(drawn(outcome({"base": 0.5}), curves=False), TUNED) == 0
    assert lines(drawn(outcome({"base": 0.5, "llm": 0.5}), curves=False), TUNED) == 1
    both = outcome({"base": 0.5, "llm": 0.5, "llm.s1": 0.5}, train__seeds=[0, 1])
    assert lines(drawn(both, curves=False), TUNED) == 3


def test_success_over_rounds_has_a_line_for_every_selection(outcome: Callable[..., RunData]) -> None:
    def pixels(data: RunData, *, curves: bool) -> int:
        image = drawn(data, curves=curves).tobytes()
        return sum(image[i : i + 3] == bytes(TUNED) for i in range(0, len(image), 3))

    untuned, tuned = outcome({"base": 0.5}), outcome({"base": 0.5, "llm": 0.5})
    assert pixels(untuned, curves=True) == 0
    assert pixels(tuned, curves=True) > pixels(tuned, curves=False) + 100
