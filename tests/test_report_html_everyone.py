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
from tests.report_samples import ALL, ERROR, FAILED, KNOWN, PASSED, SKIPPED, report
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
        legend = page.locator("#latency .legend:has(polygon)").first
        shapes = [mark.get_attribute("points") for mark in legend.locator("polygon").all()]
        assert len(set(shapes)) == len(shapes) > 4


def test_nothing_is_wider_than_a_phone(browser: Browser, address: str) -> None:
    with opened(browser, address, viewport=PHONE, has_touch=True) as page:
        unfolded(page)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        page.get_by_role("button", name=re.compile("^failed")).click()
        page.locator(".matrix .cell.failed").first.tap()
        drawer = page.get_by_role("dialog")
        drawer.get_by_text("Details", exact=True).tap()
        expect(drawer.get_by_role("heading", name="Numbers")).to_be_visible()
        assert drawer.evaluate("(dialog) => dialog.scrollWidth") <= PHONE["width"]


def pages_of(pdf: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page[^s]", pdf))


def test_a_printed_page_is_the_summary_and_the_causes_on_at_most_four_pages(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = "a-case-with-a-long-name" * 5
    many = [replace(result, case=f"spec{number}/{name}") for number, result in enumerate([*ALL, FAILED] * 60)]
    with opened(browser, written(report(*many), tmp_path_factory.mktemp("print"))) as page:
        page.locator("#wrong summary").first.click()
        page.emulate_media(media="print")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        for shown in page.locator("#wrong .card > summary").all():
            expect(shown).to_be_visible()
        expect(page.locator("#wrong .card").first).to_contain_text("harness explain")
        for unused in ("nav", ".filters", "button.button", ".script", ".body", "#checks", "#latency", "#environment"):
            assert page.locator(unused).locator("visible=true").count() == 0
        assert 1 < pages_of(page.pdf(format="A4")) <= 4
        page.evaluate("document.body.classList.add('whole')")
        expect(page.locator("#checks")).to_be_visible()
        expect(page.locator("#environment")).to_be_visible()


def test_all_sections_are_printed_on_request(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        page.evaluate("window.print = () => { window.printed = document.body.className; }")
        page.get_by_role("button", name="Print all sections").click()
        assert page.evaluate("printed") == "whole"
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate("document.body.className") == ""


def test_a_cause_is_one_closed_card_with_its_message_and_leads_to_each_of_its_checks(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    alike = [
        replace(FAILED, case=f"pool/avg/windows[n={number}]", target=target) for number in range(3) for target in "ab"
    ]
    other = replace(FAILED, case="pool/avg/windows[n=9]", blame="kernel")
    loud = replace(ERROR, case="pool/avg/a")
    with opened(browser, written(report(loud, *alike, other), tmp_path_factory.mktemp("alike"))) as page:
        cards = page.locator("#wrong .card")
        assert cards.locator(".which").all_inner_texts() == [
            "pool/avg: values differ by more than the tolerance",
            f"pool/avg/windows[n=9] on {FAILED.target}",
            f"pool/avg/a on {ERROR.target}",
        ]
        assert page.locator("#wrong details[open]").count() == 0
        for text in ("6 checks, 3 cases, 2 targets, 2 exporters", "worst at [0, 0, 1, 1]: 1, expected 1.333"):
            expect(cards.first).to_contain_text(text)
        cards.first.locator("summary").click()
        expect(cards.first.locator(".members li")).to_have_count(3)
        cards.first.get_by_role("link", name="pool/avg/windows[n=2] on b").click()
        drawer = page.get_by_role("dialog")
        expect(drawer.get_by_role("heading", level=2)).to_have_text("windows[n=2]")
        expect(drawer.locator(".blamed")).to_have_text("exporter")


def test_the_drawer_leads_from_the_model_to_the_command_and_the_file(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    described = replace(
        FAILED, about="Four ones.", case_model="AvgPool2d(kernel_size=2)", draws=2, seconds={"export": 0.0125},
        inputs=({"label": "x", "dtype": "float32", "shape": [1, 4]},), artifact_path="~/cache/ab/abc/model.onnx",
    )  # fmt: skip
    with opened(browser, written(report(described), tmp_path_factory.mktemp("drawer")), bypass_csp=True) as page:
        page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
        page.locator(".matrix .cell.failed").click()
        drawer = page.get_by_role("dialog")
        text = drawer.inner_text()
        order = [
            "FAILED", "divisor", "Four ones.", "AvgPool2d(kernel_size=2)", "x: float32 [1, 4]; 2 draws",
            "3 of 4 values differ by more than the tolerance; worst at [0, 0, 1, 1]: 1, expected 1.333",
            "Blame: exporter", "the other exporter agrees with eager", "Next step", "12.5 ms: export 12.5 ms",
            "~/cache/ab/abc/model.onnx", "Details",
        ]  # fmt: skip
        places = [text.index(part) for part in order]
        assert places == sorted(places)
        assert text.count("worst at") == 1
        drawer.get_by_role("button", name="Copy the command").click()
        assert page.evaluate("copied") == "harness explain pool/avg/divisor --target onnx-dynamo@18/ort-cpu"
        drawer.get_by_role("button", name="Copy the path").click()
        assert page.evaluate("copied") == "~/cache/ab/abc/model.onnx"


def test_a_table_that_is_wider_than_its_place_says_so(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wide = [replace(PASSED, target=f"onnx-dynamo@{opset}/ort-cpu") for opset in range(20)]
    hint = "There is more to the right: scroll sideways."
    with opened(browser, written(report(*wide), tmp_path_factory.mktemp("wide"))) as page:
        expect(page.locator("#checks .sideways")).to_have_text(hint)
        expect(page.locator("#checks .sideways")).to_be_visible()
        expect(page.locator("#targets .sideways")).to_be_hidden()
        page.get_by_label("Target", exact=True).select_option(wide[0].target)
        expect(page.locator("#checks .sideways")).to_be_hidden()


def test_on_a_phone_each_case_lists_its_targets_and_no_word_is_broken(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = [replace(PASSED, target=target) for target in TARGETS]
    with opened(browser, written(report(*made), tmp_path_factory.mktemp("phone")), viewport=PHONE) as page:
        cells = page.locator(".matrix .case td")
        labels = cells.evaluate_all("cells => cells.map((cell) => getComputedStyle(cell, '::before').content)")
        assert labels == [f'"{target}"' for target in TARGETS]
        tops = [box["y"] for cell in cells.all() if (box := cell.bounding_box())]
        assert tops == sorted(set(tops)), "one target under the other"
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        broken = page.evaluate("""() => [...document.querySelectorAll('main *')]
            .filter((node) => ['anywhere'].includes(getComputedStyle(node).overflowWrap)
                || getComputedStyle(node).wordBreak === 'break-all').map((node) => node.tagName)""")
        assert set(broken) <= {"PRE"}, "only code to be copied breaks anywhere"


def test_the_ground_of_a_failure_fills_its_cell(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    high = replace(FAILED, case="pool/avg/" + "a-long-name-" * 20)
    with opened(
        browser, written(report(high, replace(PASSED, case=high.case)), tmp_path_factory.mktemp("high"))
    ) as page:
        ground = "node => getComputedStyle(node).backgroundColor"
        row = page.locator(".matrix .case")
        assert (row.bounding_box() or {"height": 0})["height"] > 60
        assert row.locator("td.failed").evaluate(ground) != row.locator("td.passed").evaluate(ground)


EIGHT_MB = 8_000_000

# --- large, hostile, or empty ---------------------------------------------------------------------------------------


def test_ten_thousand_checks_are_searched_with_few_of_them_in_the_page(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made, folder = synthetic(10_000, wrong=0.05), tmp_path_factory.mktemp("large")
    address = written(made, folder)
    assert (folder / "report.html").stat().st_size < EIGHT_MB
    with opened(browser, address) as page:
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
        page.locator("main details").evaluate_all("folds => folds.forEach((fold) => { fold.open = true; })")
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
