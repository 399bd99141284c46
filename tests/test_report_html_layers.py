"""The growth chart of the page: the errors of each layer, with the numbers of the one that is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, expect

from harness.compare.pictures import picture
from harness.result import Layer, Report
from tests.browser import opened, written
from tests.report_samples import FAILED

LAYERS = (
    Layer("stem", "Conv2d", 0, "kernel_size=3", (2, 8, 4, 4), 6e-8, 6e-8, 7e-8, 144.0, 9, 0.1, nodes=("/stem/Conv",)),
    Layer("body.0", "BatchNorm2d", 0, judged_with="body.1"),
    Layer(
        "body.1", "ReLU", 0, "", (2, 8, 4, 4), 0.0, 8e-8, 8e-8, 142.0, 0, 0.0, nodes=("/body/body.1/Relu", "<b>Add</b>")
    ),
    replace(
        Layer("pool", "AvgPool2d", 0, "divisor_override=5", (2, 3), 0.4, 0.4, 9e-8, 8.0, 99, 4.7e5, nodes=("p",)),
        wrong=True,
        picture=picture(np.full((2, 3), 5.0), np.array([[5.0, 5.0, 5.0], [5.0, 2.0, 5.0]]), None),
    ),
    Layer("head", "Linear", 0, "", (2, 5), 9e-8, float("inf"), None, float("-inf"), 3, 0.2, nonfinite=2, nodes=("h",)),
)
SHOWN = replace(
    FAILED,
    layers=LAYERS,
    layers_show="one step at pool, 470,000 times what rounding explains",
    layers_uncovered=("gelu (GELU)",),
)


@pytest.fixture
def drawer(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locator]:
    address = written(Report({}, (SHOWN,)), tmp_path_factory.mktemp("page"))
    with opened(browser, address) as shown:
        shown.goto(f"{address}#check={SHOWN.case}&on={SHOWN.target}")
        yield shown.get_by_role("dialog")


def test_the_wrong_layer_is_chosen_at_first_and_the_keys_choose_others(drawer: Locator) -> None:
    readout = drawer.locator(".layer-readout")
    expect(readout).to_contain_text("pool: AvgPool2d(divisor_override=5), local 0.4, accumulated 0.4")
    expect(readout).to_contain_text("WRONG")
    drawer.locator(".layer-plot").focus()
    drawer.page.keyboard.press("ArrowRight")
    expect(readout).to_contain_text("head: Linear, local 9e-8, accumulated inf, the reference's own -")
    drawer.page.keyboard.press("Home")
    expect(readout).to_contain_text("stem: Conv2d(kernel_size=3), local 6e-8")


def test_the_picture_of_the_chosen_layer_shows_where_it_differs(drawer: Locator) -> None:
    figure = drawer.locator("figure.picture", has_text="Layer pool on the reference's inputs: [:, :] of [2, 3]")
    expect(figure).to_be_visible()
    figure.locator(".panes").focus()
    expect(figure.locator(".readout")).to_have_text("[1, 1] actual 5, expected 2, error 3")
    drawer.locator(".layer-plot").focus()
    drawer.page.keyboard.press("ArrowRight")
    expect(figure).to_have_count(0)


def test_a_click_chooses_a_layer(drawer: Locator) -> None:
    box = drawer.locator(".layer-ground").bounding_box()
    assert box is not None
    drawer.page.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
    expect(drawer.locator(".layer-readout")).to_contain_text("stem: Conv2d")


def test_all_layers_and_what_is_not_covered_are_listed(drawer: Locator) -> None:
    expect(drawer.get_by_text("one step at pool, 470,000 times what rounding explains.")).to_be_visible()
    expect(drawer.get_by_text("Not covered: 1 (gelu (GELU))")).to_be_visible()
    drawer.get_by_text("All layers: 5").click()
    rows = drawer.locator("details.layers tbody tr")
    expect(rows).to_have_count(5)
    expect(rows.nth(1)).to_contain_text("judged with body.1")
    expect(rows.nth(2)).to_contain_text("<b>Add</b>")  # text, no markup
