"""Charts of the HTML report in a real browser, compared with the numbers in the report."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from harness.report.machines import merge
from harness.result import Report, Result
from tests.browser import PHONE, opened, written
from tests.report_samples import DIFFERS, FAILED, LATENCY, PASSED
from tests.report_synthetic import synthetic

# --- accuracy of the outputs ------------------------------------------------------------------------------------------

LARGE = replace(FAILED, case="large/a", outputs=(replace(DIFFERS, max_abs=math.inf, max_rel=math.nan, max_ulp=None),))
MANY = synthetic(900, wrong=0.1)
SPREAD = replace(MANY, results=(*MANY.results, LARGE))
# For each measure: the result's field, the ratio between bars, the start of the third bar, the number of bars.
MEASURES = {
    "ULP": ("max_ulp", 4, 4.0, 13),
    "absolute": ("max_abs", 10, 1e-11, 15),
    "relative": ("max_rel", 10, 1e-11, 13),
}


@pytest.fixture(scope="module")
def spread(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(browser, written(SPREAD, tmp_path_factory.mktemp("spread"))) as page:
        page.locator("#accuracy").scroll_into_view_if_needed()  # what is out of sight is not laid out
        page.wait_for_function("document.querySelector('.spread thead th').innerText")
        yield page


def largest(result: Result, field: str) -> float | None:
    sizes = [size for output in result.outputs if (size := getattr(output, field)) is not None]
    return max(sizes, default=None)


def bar_of(error: float, base: int, third: float, bars: int) -> int:
    """The bar that counts ``error``: the first is exact, the last what no tolerance would pass."""
    if error == 0:
        return 0
    if not math.isfinite(error):
        return bars
    return 1 + sum(error >= third * float(base) ** more * (1 - 1e-6) for more in range(bars - 2))


def counted(field: str, base: int, third: float, bars: int) -> dict[tuple[str, str], dict[int, tuple[int, int]]]:
    """For each layer, target and bar: the expected number of checks, and the number of bad ones."""
    whole: dict[tuple[str, str], Counter[int]] = {}
    bad: dict[tuple[str, str], Counter[int]] = {}
    for result in SPREAD.results:
        error = largest(result, field)
        if error is not None:
            cell, bar = (result.case.rpartition("/")[0], result.target), bar_of(error, base, third, bars)
            whole.setdefault(cell, Counter())[bar] += 1
            bad.setdefault(cell, Counter())[bar] += result.status not in {"passed", "fixed"}
    return {cell: {bar: (count, bad[cell][bar]) for bar, count in bars.items()} for cell, bars in whole.items()}


def drawn(page: Page) -> dict[tuple[str, str], dict[int, tuple[int, int]]]:
    """The same numbers, read from the titles of the bars."""
    cells: list[dict[str, Any]] = page.locator(".spread").evaluate("""(table) => {
        const targets = [...table.querySelectorAll('thead th')].slice(1).map((head) => head.innerText);
        const place = (bar) => (bar.querySelector('rect').x.baseVal.value - 1) / 8;
        const titled = (bar) => [place(bar), bar.querySelector('title').textContent];
        return [...table.querySelectorAll('tbody tr')].flatMap((row) =>
            [...row.querySelectorAll('td')].map((cell, at) => ({
                layer: row.querySelector('th').innerText, target: targets[at],
                bars: [...cell.querySelectorAll('g')].map(titled)})));
    }""")
    bars_of = {}
    for cell in cells:
        matches = {at: re.search(r": ([\d,]+) checks?(?:, (\d+) different)?", title) for at, title in cell["bars"]}
        bars = {at: (int(one[1].replace(",", "")), int(one[2] or 0)) for at, one in matches.items() if one}
        if bars:
            bars_of[cell["layer"].replace("\u200b", ""), cell["target"].replace("\u200b", "")] = bars
    return bars_of


@pytest.mark.parametrize("name", MEASURES)
def test_the_bars_count_what_the_results_hold(spread: Page, name: str) -> None:
    spread.get_by_label(name, exact=True).check()
    expected = counted(*MEASURES[name])
    assert len({bar for bars in expected.values() for bar in bars}) > 3
    assert drawn(spread) == expected


def test_a_bar_is_as_high_as_the_root_of_its_count_and_is_labelled_with_its_range(spread: Page) -> None:
    spread.get_by_label("ULP", exact=True).check()
    row = spread.locator(".spread tbody tr").first
    bars: list[tuple[float, str]] = (
        row.locator("svg[role=img]")
        .last.locator("g")
        .evaluate_all(
            "bars => bars.map((bar) => [[...bar.querySelectorAll('rect')].reduce((sum, box) => "
            "sum + Number(box.getAttribute('height')), 0), bar.querySelector('title').textContent])"
        )
    )
    counts = [int(title.rpartition(": ")[2].split()[0]) for _, title in bars]
    assert len(bars) > 3
    least = [12 if "different" in title else 3 for _, title in bars]
    assert [height for height, _ in bars] == pytest.approx(
        [max(low, 31 * math.sqrt(count / max(counts))) for low, count in zip(least, counts, strict=True)]
    )
    assert [title.partition(":")[0] for _, title in bars][:4] == [
        "exact",
        "below 4 ulp",
        "4 ulp to 16 ulp",
        "16 ulp to 64 ulp",
    ]


def test_a_failure_stands_out_among_many_passes(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    passes = [replace(PASSED, case=f"pool/avg/c{number}") for number in range(900)]
    lost = replace(DIFFERS, max_abs=0.0, max_rel=0.0, max_ulp=1, least_atol=math.inf)
    failed = replace(FAILED, target=PASSED.target, outputs=(lost,), findings=())
    made = Report({}, (*passes, failed), {})
    with opened(browser, written(made, tmp_path_factory.mktemp("lost"))) as page:
        bars = page.locator(".spread g")
        titles = [bar.text_content() for bar in bars.locator("title").all()]
        assert titles == ["exact: 900 checks", "no tolerance would pass: 1 check, 1 different from the reference"]
        assert float(bars.last.locator(".outside").get_attribute("height") or 0) >= 12
        expect(page.locator(".told")).to_have_text("1 beyond any tolerance of 901")


def test_specs_that_are_exact_throughout_are_one_row(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    exact = [replace(PASSED, case=f"{spec}/a") for spec in ("relu", "tanh", "sigmoid")]
    with opened(browser, written(Report({}, (*exact, FAILED), {}), tmp_path_factory.mktemp("exact"))) as page:
        heads = page.locator(".spread tbody th")
        assert heads.all_inner_texts() == ["pool/avg", "3 specs: 3 checks, all exact"]
        page.get_by_role("button", name="3 specs: 3 checks, all exact").press("Enter")
        assert heads.all_inner_texts()[2:] == ["relu", "tanh", "sigmoid"]


# --- latency ----------------------------------------------------------------------------------------------------------

SIZES = (100, 1_000, 10_000)
MACHINES: tuple[dict[str, Any], ...] = (
    {"cpu": {"model": "Ryzen 7"}},
    {"cpu": {"model": "Cortex-A76"}, "board": "Raspberry Pi 5"},
)


def figures(median: float) -> dict[str, Any]:
    return {"median_us": median, "low_us": median * 0.9, "high_us": median * 1.2, "low_confidence": False}


def medians(factor: float) -> list[float]:
    return [factor * (2 + size / 50) for size in SIZES]


def timed(factor: float) -> Result:
    shapes = [
        LATENCY | figures(us) | {"shapes": f"x=[{size}]", "elements": size}
        for us, size in zip(medians(factor), SIZES, strict=True)
    ]
    return replace(PASSED, latency=LATENCY | figures(factor * 4) | {"by_shape": shapes})


@pytest.fixture(scope="module")
def latency(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    reports = [Report(machine, (timed(factor),)) for machine, factor in zip(MACHINES, (1.0, 4.0), strict=True)]
    made = merge([(Path(f"{number}.json"), report) for number, report in enumerate(reports)])
    with opened(browser, written(made, tmp_path_factory.mktemp("latency"))) as page:
        yield page


def middle_of(mark: Locator) -> tuple[float, float]:
    points = [tuple(map(float, point.split(","))) for point in (mark.get_attribute("points") or "").split()]
    across, down = zip(*points, strict=True)
    return (min(across) + max(across)) / 2, (min(down) + max(down)) / 2


def test_growth_is_drawn_for_each_machine_on_one_scale(latency: Page) -> None:
    panels = latency.locator(".grown .panel")
    assert [panel.inner_text().partition("\n")[0] for panel in panels.all()] == ["on Ryzen 7", "on Raspberry Pi 5"]
    places = [middle_of(mark) for panel in panels.all() for mark in panel.locator("a .mark").all()]
    across, down = np.array(places).T
    values = np.log([*medians(1.0), *medians(4.0)])
    slope, start = np.polyfit(values, down, 1)
    assert slope < 0, "what takes longer stands higher"
    np.testing.assert_allclose(down, slope * values + start, atol=0.6)
    np.testing.assert_allclose(np.diff(across[:3]), np.diff(across[3:]), atol=0.2)
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.2), "each size is ten times the last"


def test_a_target_looks_alike_on_every_machine_and_is_named_once(latency: Page) -> None:
    looks = latency.locator(".grown .panel .mark").evaluate_all(
        "marks => marks.map((mark) => mark.getAttribute('class'))"
    )
    assert len(set(looks)) == 1
    assert latency.locator(".legend:above(.grown) li").first.inner_text() == PASSED.target


LOW = {"width": 1280, "height": 300}


def lane(row: Locator) -> tuple[float, tuple[float, float]]:
    """The place of a row's mark and the ends of its interval, in percent."""
    mark = row.locator("td.lane svg svg:has(polygon)").get_attribute("x") or ""
    line = row.locator("td.lane line.whisker:not(.eager)")
    low, high = (float((line.get_attribute(name) or "").rstrip("%")) for name in ("x1", "x2"))
    return float(mark.rstrip("%")), (low, high)


def test_a_ratio_is_drawn_with_its_interval_in_the_row_of_its_target(latency: Page) -> None:
    row = latency.locator("table[aria-label='Ratio to Ryzen 7'] tbody tr")
    assert row.locator("th").inner_text().replace("\u200b", "") == f"{PASSED.target} on Raspberry Pi 5"
    dot, ends = lane(row)
    one = float((row.locator(".one").get_attribute("x1") or "nan").rstrip("%"))
    scale = math.log(4.0) / (dot - one)
    assert [math.exp((end - one) * scale) for end in ends] == pytest.approx([4 * 0.9 / 1.2, 4 * 1.2 / 0.9], rel=0.01)


def test_the_slowest_case_is_first_and_each_target_has_a_row_with_its_interval(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def at(case: str, median: float, target: str = PASSED.target) -> Result:
        return replace(PASSED, case=case, target=target, latency=LATENCY | figures(median))

    made = [at(f"a/fast{number}", 1.0) for number in range(12)]
    made += [at("a/layer", 50.0), at("b/whole", 900.0), at("b/whole", 3.0, "script/torch-cpu")]
    with opened(browser, written(Report({}, tuple(made), {}), tmp_path_factory.mktemp("slow")), viewport=LOW) as page:
        table = page.locator(".slowest table").first
        assert table.locator(".of-case").all_inner_texts()[:3] == ["b/whole", "a/layer", "a/fast0"]
        assert table.locator(".of-case").count() == 10
        rows = table.locator("tbody").first.locator("tr:not(.of-case)")
        assert [row.inner_text().split("\t")[0] for row in rows.all()] == [PASSED.target, "script/torch-cpu"]
        places = [(*lane(row)[1], lane(row)[0]) for row in rows.all()]
        values = np.log([[810.0, 1080.0, 900.0], [2.7, 3.6, 3.0]]).ravel()
        slope, start = np.polyfit(values, np.ravel(places), 1)
        np.testing.assert_allclose(np.ravel(places), slope * values + start, atol=0.05)
        last = table.locator("tr").last
        last.evaluate("row => row.scrollIntoView({block: 'end'})")
        expect(last).to_be_in_viewport()
        expect(table.locator("thead th.lane")).to_be_in_viewport()


def test_the_page_gives_the_confidence_of_the_interval_between_machines(latency: Page) -> None:
    note = latency.locator("#latency .note", has_text="at least 90 %")
    expect(note).to_contain_text("built from two 95 % intervals")


def test_layers_with_a_count_are_set_beside_the_whole_model(browser: Browser, tmp_path: Path) -> None:
    def timed(case: str, us: float, count: int | None) -> Result:
        return replace(PASSED, case=f"layers/{case}", count=count, latency={**LATENCY, "median_us": us})

    results = (timed("linear", 10.0, 3), timed("relu", 5.0, 2), timed("whole-model", 50.0, None))
    with opened(browser, written(Report({}, results), tmp_path)) as page:
        rows = page.locator("#latency table", has_text="sum of the layers").locator("tbody tr")
        expect(rows).to_have_text(
            ["linear330 (75%)", "relu210 (25%)", "sum of the layers-40", "whole-model (the model)-50"]
        )


# What is beside each other has one width and one scale


def test_what_is_compared_by_eye_is_drawn_alike(browser: Browser, tmp_path: Path) -> None:
    address = written(synthetic(40, wrong=0, comparison=False), tmp_path)
    with opened(browser, address) as shown:
        widths = shown.locator(".spread thead th").evaluate_all("heads => heads.map((head) => head.offsetWidth)")
        assert len(widths) > 3
        assert max(widths[1:]) - min(widths[1:]) <= 1, "a bar stands for the same error in every column"
        label = "[...one.querySelectorAll('text')].map((text) => [text.textContent, text.getAttribute('y')]).join()"
        shown.locator(".grown").first.scroll_into_view_if_needed()
        shown.locator(".grown svg text").first.wait_for()
        axes = shown.locator(".grown svg[role=group]").evaluate_all(f"charts => charts.map((one) => {label})")
        assert len(axes) > 1
        assert len(set(axes)) == 1, "one scale for all cases in view"
    with opened(browser, address, viewport=PHONE) as shown:
        tops = "[row.cells[0], row.querySelector('.figure'), row.cells[1]].map((cell) => cell.offsetTop)"
        timed = shown.locator(".slowest tbody tr:not(.of-case)")
        rows = timed.evaluate_all(f"rows => rows.map((row) => {tops})")
        assert rows
        assert all(abs(name - figure) < 8 and lane > name for name, figure, lane in rows), (
            "its name, its time, its lane"
        )
