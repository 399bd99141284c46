"""The HTML report of many checks in Chromium: its size, the time until something is seen, and that of each filter."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from playwright.sync_api import Page, sync_playwright

from harness.report.html import HtmlReport
from tests.browser import HEADLESS_FLAGS, NAMES
from tests.report_synthetic import synthetic

CHECKS = 10_000
WRONG = 0.05
"""The share of the checks that are not as expected: 500, with pictures, scripts and logs up to the page's limit."""

OPENED = 5

FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"

# What a user does, from the event to the next frame.
TIMED = """async (action) => {
    const began = performance.now();
    Function(action)();
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - began;
}"""
SEARCH = "const box = document.getElementById('search'); box.value = '{}'; box.dispatchEvent(new Event('input'));"
PRESS = "document.querySelector('.toggle.{}').click();"
SELECT = (
    "const list = document.querySelector('select[aria-label={}]'); list.selectedIndex = {}; "
    "list.dispatchEvent(new Event('change'));"
)
FILTERS: Mapping[str, str] = {
    "a word that few checks have": SEARCH.format("sigmoid"),
    "a letter that all checks have": SEARCH.format("e"),
    "three words": SEARCH.format("sigmoid kernel_size=20 onnx"),
    "no word": SEARCH.format(""),
    "failed": PRESS.format("failed"),
    "failed and passed": PRESS.format("passed"),
    "passed": PRESS.format("failed"),
    "all statuses": PRESS.format("passed"),
    "one target": SELECT.format("Target", 4),
    "all targets": SELECT.format("Target", 0),
    "one blame": SELECT.format("Blame", 1),
}


@dataclass(frozen=True)
class PageFigures:
    """``size`` in bytes; ``first_paint`` and the time of each filter in seconds, each the median of several."""

    size: int
    first_paint: float
    filters: Mapping[str, float]


def measure(folder: Path) -> PageFigures:
    """Write the page of :data:`CHECKS` checks into ``folder``, open it several times and use each filter.

    Raises ``RuntimeError`` without Chromium.
    """
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        raise RuntimeError(f"no Chromium here; install one of {', '.join(NAMES)}")
    path = folder / "report.html"
    path.write_bytes(HtmlReport().render(synthetic(CHECKS, wrong=WRONG)).encode("utf-8", "backslashreplace"))
    paints: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in FILTERS}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(HEADLESS_FLAGS))
        for _ in range(OPENED):
            page = browser.new_page(bypass_csp=True)
            page.goto(path.as_uri())
            paints.append(page.evaluate(FIRST_PAINT) / 1e3)
            for name, seconds in _filter_times(page).items():
                times[name].append(seconds)
            page.close()
        browser.close()
    return PageFigures(path.stat().st_size, median(paints), {name: median(each) for name, each in times.items()})


def _filter_times(page: Page) -> dict[str, float]:
    """The seconds of each filter. A filter that changes nothing, or an error in the page, is an ``AssertionError``."""
    times = {}
    for name, action in FILTERS.items():
        before = page.url
        times[name] = page.evaluate(TIMED, action) / 1e3
        assert page.url != before, f"{name}: nothing was filtered"
    return times
