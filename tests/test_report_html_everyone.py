"""The HTML report: accessibility, phones, printing, large reports and hostile text."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from harness.report.html import HtmlReport
from harness.result import Report, Result
from tests.browser import PHONE, opened, shows, written
from tests.report_samples import ALL, FAILED, KNOWN, PASSED, SKIPPED, report
from tests.report_synthetic import FAMILIES, TARGETS, synthetic

MADE = synthetic(400, wrong=0.1)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(MADE, tmp_path_factory.mktemp("page"))


def unfolded(page: Page) -> None:
    """Open everything that can be opened without a search."""
    for head in page.locator(".matrix .group .head").all()[:2]:
        head.click()
    page.evaluate(
        """() => document.querySelectorAll('main details').forEach((fold) => { fold.open = true; fold.fill?.(); })"""
    )


def broken_rules(page: Page, within: str | None = None) -> list[str]:
    """The rules that axe reports as broken, each with its first element; axe must have passed enough rules."""
    response = Axe().run(page, context=within).response
    assert len(response["passes"]) > 10
    return [f"{rule['id']}: {rule['nodes'][0]['html']}" for rule in response["violations"]]


# --- accessibility --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, scheme: Literal["light", "dark"]
) -> None:
    made = Report(MADE.environment, (*synthetic(8, wrong=0.3).results, *ALL), synthetic(8).run)
    with opened(browser, written(made, tmp_path_factory.mktemp("small")), color_scheme=scheme, bypass_csp=True) as page:
        unfolded(page)
        assert broken_rules(page) == []
        page.locator(".matrix .cell").first.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert broken_rules(page, "#check") == []


def test_no_information_is_given_by_colour_alone(browser: Browser, address: str) -> None:
    """Every status has a word, a count or a unique icon; every series has a unique mark."""
    with opened(browser, address) as page:
        unfolded(page)
        for cell in page.locator(".matrix .cell").all()[:40]:
            assert cell.locator("use").count() == 1
            assert cell.inner_text().strip()
        icons = page.evaluate("[...document.querySelectorAll('symbol')].map((symbol) => symbol.innerHTML)")
        assert len(set(icons)) == len(icons) >= 6
        legend = page.locator("#latency .inside .legend").first
        shapes = [mark.get_attribute("points") for mark in legend.locator("polygon").all()]
        assert len(set(shapes)) == len(shapes) > 4


def test_nothing_is_wider_than_a_phone(browser: Browser, address: str) -> None:
    with opened(browser, address, viewport=PHONE, has_touch=True) as page:
        unfolded(page)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        page.get_by_role("button", name=re.compile("^failed")).click()
        page.locator(".matrix .cell.failed").first.tap()
        drawer = page.get_by_role("dialog")
        expect(drawer.get_by_role("heading", name="Numbers")).to_be_visible()
        assert drawer.evaluate("(dialog) => dialog.scrollWidth") <= PHONE["width"]


def test_a_printed_page_has_one_divergence_of_each_kind_in_full_and_no_controls(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        kinds = page.locator("#wrong .card:not(.card .card)")
        assert kinds.count() > 3
        for kind in kinds.all():
            assert kind.locator(".body").count() == 1
            expect(kind.locator(".body")).to_be_visible()
        for unused in ("nav", ".filters", "button.button", ".script"):
            assert page.locator(unused).locator("visible=true").count() == 0
        assert page.pdf().startswith(b"%PDF")


def test_checks_of_a_family_that_went_wrong_alike_stand_together(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    alike = [
        replace(FAILED, case=f"pool/avg/windows[n={number}]", target=target) for number in range(3) for target in "ab"
    ]
    other = replace(FAILED, case="pool/avg/windows[n=9]", blame="kernel")
    with opened(browser, written(report(*alike, other), tmp_path_factory.mktemp("alike"))) as page:
        kinds = page.locator("#wrong .card:not(.card .card) > summary .which")
        titles = kinds.all_inner_texts()
        assert titles == ["pool/avg/windows[...]: 6 checks of 3 cases", f"pool/avg/windows[n=9] on {FAILED.target}"]
        assert page.locator("#wrong .alike .card").count() == 6
        assert page.locator("#wrong .body").count() == 1


# --- large, hostile, or empty ---------------------------------------------------------------------------------------


def test_ten_thousand_checks_are_searched_with_few_of_them_in_the_page(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = synthetic(10_000, wrong=0.05)
    with opened(browser, written(made, tmp_path_factory.mktemp("large"))) as page:
        shows(page, 10_000)
        size = "document.querySelectorAll('*').length"
        assert page.evaluate(size) < 20_000
        page.get_by_role("searchbox").fill("sigmoid kernel_size=20 onnx")
        matching = [one for one in made.results if "sigmoid" in one.case and "kernel_size=20" in one.case]
        shows(page, sum("onnx" in one.target for one in matching))
        page.get_by_role("searchbox").fill("")
        for head in page.locator(".matrix .group .head").all():
            head.click()
        assert page.locator(".matrix .family").count() == page.locator(".matrix .group").count() * (len(FAMILIES) - 1)
        assert page.evaluate(size) < 20_000


def test_a_family_of_many_points_is_opened_piece_by_piece(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    many = [replace(PASSED, case=f"pool/max/windows[n={number}]") for number in range(250)]
    with opened(browser, written(report(*many), tmp_path_factory.mktemp("family"))) as page:
        page.locator(".matrix .group .head").click()
        page.locator(".matrix .family .head").click()
        assert page.locator(".matrix .case.deep").count() == 200
        page.get_by_role("button", name="Show more; 50 cases left").click()
        assert page.locator(".matrix .case.deep").count() == 250


HOSTILE = "</script><img src=x onerror=alert(1)><b>bold</b> ${1+1} `code`"


def test_hostile_text_is_shown_literally(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = replace(
        FAILED, case=f"a/{HOSTILE}", target=HOSTILE, message=HOSTILE, evidence=(HOSTILE,),
        notes=(HOSTILE,), log=(HOSTILE,), checker=HOSTILE,
        issue="javascript:alert(1)", reason=HOSTILE, where=HOSTILE, reproduction=HOSTILE,
    )  # fmt: skip
    known = replace(made, status="known", case="a/known")
    with opened(browser, written(Report({}, (made, known), {}), tmp_path_factory.mktemp("hostile"))) as page:
        for fold in page.locator("details").all():
            fold.evaluate("fold => fold.open = true")
        page.locator(".reason a").first.click()
        expect(page.get_by_role("dialog")).to_contain_text("onerror=alert(1)")
        assert page.locator("img, b, a[href^='javascript']").count() == 0
        expect(page.locator("#wrong .script")).to_have_text(HOSTILE)


@pytest.mark.parametrize("made", [(), (PASSED,), (SKIPPED,), (KNOWN,)], ids=["none", "passed", "skipped", "known"])
def test_a_report_with_little_in_it_is_whole(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, made: tuple[Result, ...]
) -> None:
    with opened(browser, written(report(*made), tmp_path_factory.mktemp("little"))) as page:
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator("#wrong")).to_be_hidden()
        assert page.locator("nav a[href='#wrong']").is_hidden()


def test_without_scripts_the_page_has_the_summary_and_names_the_other_report(browser: Browser, address: str) -> None:
    with opened(browser, address, java_script_enabled=False) as page:
        expect(page.get_by_role("heading", level=1)).to_contain_text("Not as expected")
        expect(page.locator("p.noscript")).to_contain_text("report.md")
        assert page.locator(".counts tbody tr").count() == len(TARGETS)


def test_a_script_that_gets_into_the_page_all_the_same_does_not_run(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = HtmlReport().render(report(FAILED))
    broken = text.replace("<main>", "<main><script>document.title = 'taken over'</script>")
    path = tmp_path_factory.mktemp("injected") / "report.html"
    path.write_text(broken, "utf-8")
    with pytest.raises(AssertionError, match="Content Security Policy"), opened(browser, path.as_uri()) as page:
        assert "taken over" not in page.title()
