"""The HTML report as a file: its text, that no text becomes markup, and that its size is limited."""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.causes import causes
from harness.report.html import ATTACHMENTS_SIZE, LEFT_OUT, HtmlReport, ValueTable
from harness.report.html.checks import FIGURE, TIMED
from harness.report.html.page import SHOWN, comparison_fields
from harness.report.json_report import JsonReport, read_report
from harness.result import Finding, Report, Result, Status
from tests.report_samples import (
    AGREES,
    ALL,
    DIFFERS,
    ERROR,
    FAILED,
    KNOWN,
    LATENCY,
    PASSED,
    every_way_to_end_badly,
    report,
)
from tests.report_synthetic import synthetic


class Page(HTMLParser):
    """A parsed page: its elements in order, its text, and its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.parts: dict[str, list[str]] = {"script": [], "style": [], "": []}
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.parts:
            self.inside = tag
            self.parts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self.inside:
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.parts[self.inside][-1] += data
        else:
            self.parts[""].append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.parts[""]).split())

    @property
    def data(self) -> dict[str, Any]:
        whole: dict[str, Any] = json.loads(self.parts["script"][0])
        return whole

    def checks(self) -> list[dict[str, Any]]:
        """The checks as the page's script unpacks them."""
        data = self.data
        return [
            {field: data["values"][place] for field, place in zip(data["fields"], places, strict=True)}
            for places in data["checks"]
        ]

    def attribute(self, tag: str, name: str) -> list[str | None]:
        return [attributes[name] for element, attributes in self.elements if element == tag and name in attributes]


def page(made: Report) -> Page:
    return Page(HtmlReport().render(made))


# --- text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (ALL, "Not as expected: 3 of 6 checks (1 passed, 1 failed, 1 error, 1 known, 1 fixed, 1 skipped)."),
        ((PASSED,), "All as expected: 1 check (1 passed)."),
        ((), "No verdict: there was nothing to verify."),
    ],
)
def test_the_summary_is_in_the_head_of_the_page_without_any_script(made: tuple[Result, ...], says: str) -> None:
    read = page(report(*made))
    assert says in read.text
    (heading,) = [attributes["class"] for tag, attributes in read.elements if tag == "h1"]
    assert heading == {"N": "verdict bad", "A": "verdict good"}.get(says[0] if made else "", "verdict none")


def test_counts_by_target_and_the_environment_stand_there_without_any_script() -> None:
    read = page(report(*ALL))
    for text in ("onnx-dynamo@18/ort-cuda", "torch version", "2.13.0", "GPU 1 name"):
        assert text in read.text
    assert "#status=failed&target=onnx-dynamo%4018%2Fort-cpu" in read.attribute("a", "href")


def test_the_page_of_a_comparison_has_its_question_on_top_and_its_facts_in_words() -> None:
    spec = {"harness": 1, "about": "Is m.onnx still net.py:net?", "cases": [{"name": "m", "weights": "net.pt"}]}
    machine = {"cpu": {"model": "AMD EPYC", "usable": 1}}
    read = page(Report(machine, (FAILED,), {"paths": ["m.onnx", "net.py:net"], "compared": spec}))
    assert read.text.count("Is m.onnx still net.py:net?") == 1
    for words in ("m.onnx, net.py:net", "compared: weights", "AMD EPYC, 1 CPU"):
        assert words in read.text
    assert not re.search("cases 0|1 CPUs", read.text)


def test_the_worst_element_is_not_told_again_by_the_evidence() -> None:
    worst = "y: 3 of 4 values differ by more than the tolerance; worst at [0]: 1, expected 2 (50 % off)"
    other = "tract gives another answer: 2 of 4 values differ by more than the tolerance; worst at [1]: 7, expected 2"
    wrong = f"the exported file itself is wrong: {worst}; allowed: 4 x eps"  # a file has a tolerance of its own
    failed = replace(FAILED, message=f"{worst}; allowed: 3 x eps", evidence=(wrong, other))
    (check,) = page(report(failed)).checks()
    short = "the exported file itself is wrong: y: 3 of 4 values differ by more than the tolerance"
    assert check["evidence"] == [short, other]


def test_complaints_and_the_baseline_are_at_the_top() -> None:
    run = {
        "complaints": ["one is wrong", "two is wrong"],
        "baseline": {"file": "old.json", "verdict": "Regressed: 1 slower."},
    }
    read = page(Report({}, (PASSED,), run))
    assert "No verdict: one is wrong" in read.text
    assert "two is wrong" in read.text
    assert "Compared with old.json: Regressed: 1 slower." in read.text


def test_a_check_is_shown_with_every_known_detail() -> None:
    (check,) = page(report(FAILED)).checks()
    assert (check["case"], check["target"], check["status"]) == (FAILED.case, FAILED.target, "failed")
    assert (check["spec"], check["family"], check["blame"]) == ("pool/avg", "divisor", "exporter")
    assert check["evidence"] == list(FAILED.evidence)
    assert check["findings"][0] == ["outputs", False, "expected 4/3, got 1"]
    assert check["distances"] == [["0", "0", "0.333", "eager"]]
    assert check["placement"][-1] == "ran outside the requested provider: AveragePool_0"
    assert check["next"][1] == "harness explain pool/avg/divisor --target onnx-dynamo@18/ort-cpu"
    assert check["log"][0] == "... 25 earlier lines are in report.json"
    rows = dict(zip(page(report(FAILED)).data["numbers"], check["numbers"][0], strict=True))
    assert rows["max ulp"] == "4,194,304"
    assert rows["worst at"] == "[0, 0, 1, 1]"
    assert (rows["actual"], rows["expected"]) == ("1", "1.333")


def test_figures_that_are_not_finite_stay_what_they_are() -> None:
    lost = replace(
        FAILED, outputs=(replace(DIFFERS, max_abs=math.inf, max_ulp=None, least_rtol=math.nan),), findings=()
    )
    (check,) = page(report(lost)).checks()
    assert check["apart"] == [None, "inf", 0.25]


@pytest.mark.parametrize(
    "change",
    [
        {"outputs": (replace(DIFFERS, max_abs=0.0, max_rel=0.0, max_ulp=1, least_atol=math.inf),)},
        {"outputs": (replace(DIFFERS, max_abs=None, max_rel=None, max_ulp=None, least_atol=None),)},
        {"outputs": (AGREES,), "findings": (Finding("shape", False, "shape [3], expected [4]"),)},
    ],
    ids=["a lost NaN", "another shape", "an expectation"],
)
def test_what_no_tolerance_would_pass_is_no_small_error(change: dict[str, Any]) -> None:
    (check,) = page(report(replace(FAILED, **change))).checks()
    assert check["apart"] == ["inf", "inf", "inf"]


def test_a_failed_expectation_has_its_own_error() -> None:
    failed = replace(FAILED, outputs=(AGREES,), findings=(Finding("formula", False, "off", DIFFERS),))
    (check,) = page(report(failed)).checks()
    assert check["apart"] == [4194304, pytest.approx(0.33333331), 0.25]


def test_a_check_says_what_it_is_about_and_where_its_file_is() -> None:
    described = replace(
        FAILED, about="Four ones.", case_model="AvgPool2d(kernel_size=2)", draws=2,
        inputs=({"label": "x", "dtype": "float32", "shape": [1, 4]},), artifact_path="~/cache/ab/abc/model.onnx",
    )  # fmt: skip
    read = page(report(described, replace(described, case="a/b", artifact_path="~/cache/cd/cde/model.onnx")))
    (check, _) = read.checks()
    assert (check["about"], check["model"], check["draws"]) == ("Four ones.", "AvgPool2d(kernel_size=2)", 2)
    assert check["inputs"] == ["x: float32 [1, 4]"]
    assert read.data["kept_in"] + check["file"] == described.artifact_path
    elsewhere = page(report(described, replace(described, case="a/b", artifact_path="/tmp/other/cd/cde/model.onnx")))
    assert [check["file"] for check in elsewhere.checks()] == [described.artifact_path, "/tmp/other/cd/cde/model.onnx"]


def test_all_digits_of_a_worst_element_are_there_once() -> None:
    exact = replace(DIFFERS, actual_at_worst=1.0, expected_at_worst=1.3333333730697632)
    outputs = (exact, replace(exact, index=1, name="z", worst=(0, 0, 0, 1)))
    (check,) = page(
        report(replace(FAILED, outputs=outputs, findings=(Finding("outputs", False, "no", exact),)))
    ).checks()
    assert check["exact"] == [
        "0 y at [0, 0, 1, 1]: actual 1, expected 1.3333333730697632",
        "1 z at [0, 0, 0, 1]: actual 1, expected 1.3333333730697632",
    ]


def test_the_causes_are_those_of_every_format_and_name_their_checks() -> None:
    alike = [replace(FAILED, case=f"pool/avg/c{number}") for number in range(3)]
    made = report(PASSED, ERROR, *alike)
    found = page(made).data["causes"]
    assert [(cause["status"], cause["checks"]) for cause in found] == [("failed", [2, 3, 4]), ("error", [1])]
    assert found[0]["title"] == causes(made.results)[0].title
    assert found[0]["line"].startswith("3 of 4 values differ by more than the tolerance; worst at [0, 0, 1, 1]: 1,")


def test_latency_comes_without_its_raw_samples_and_with_its_interval() -> None:
    shapes = [LATENCY | {"shapes": f"x=[{n}]", "elements": n, "samples_us": [[1.0] * 99]} for n in (1, 2)]
    timed = LATENCY | {"samples_us": [[1.0] * 99], "by_shape": shapes, "variants": {"iobinding=off": LATENCY}}
    (check,) = page(report(replace(PASSED, latency=timed))).checks()
    latency = dict(zip(TIMED, check["latency"], strict=False))
    assert (latency["low_us"], latency["high_us"]) == (12.0, 12.6)
    assert [one[FIGURE.index("elements")] for one in latency["by_shape"]] == [1, 2]
    assert latency["beside"]["iobinding=off"][FIGURE.index("median_us")] == 12.34
    assert latency["conditions"]["threads"] == 1
    assert 99 * [1.0] not in check["latency"]


def test_the_page_is_made_of_the_report_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("there") / "report.json"
    made = synthetic(60, wrong=0.3)
    path.write_text(JsonReport().render(made), "utf-8")
    assert HtmlReport().render(read_report(path)) == HtmlReport().render(made)


def test_every_way_to_end_badly_has_its_row() -> None:
    badly = every_way_to_end_badly()
    assert len(page(report(*badly)).checks()) == len(badly)


# --- safety ---------------------------------------------------------------------------------------------------------

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"'`{{ 7*7 }} <!-- \x1b \u2028 ]]>"


def hostile(status: Status) -> Report:
    plane = {"expected": [[1]], "actual": [[2]], "error": [[1]]}
    made = replace(
        FAILED, status=status, case=f"a/{HOSTILE}", target=HOSTILE, message=HOSTILE, evidence=(HOSTILE,),
        log=(HOSTILE,), notes=(HOSTILE,), checker=HOSTILE, reason=HOSTILE, issue="javascript:alert(3)", where=HOSTILE,
        reproduction=HOSTILE, pictures=({"output": 0, "title": HOSTILE, "shape": [1, 1], **plane},),
    )  # fmt: skip
    run = {"complaints": [HOSTILE, HOSTILE], "paths": [HOSTILE], "began": HOSTILE}
    return Report({HOSTILE: HOSTILE}, (made,), run)


@pytest.mark.parametrize("status", ["passed", "failed", "known", "skipped"])
def test_hostile_text_adds_no_element_and_no_attribute(status: Status) -> None:
    read = page(hostile(status))
    plain = page(report(replace(FAILED, status=status)))
    tags = {tag for tag, _ in read.elements}
    assert tags <= {tag for tag, _ in plain.elements} | {"ul", "li"}
    assert [tag for tag, _ in read.elements].count("script") == 2
    names = {name for _, attributes in read.elements for name in attributes}
    assert not {name for name in names if name.startswith("on")}
    (check,) = read.checks()
    assert check["log"] == [" ".join(HOSTILE.split())]
    assert check["script"] == HOSTILE


@given(st.text(max_size=40))
def test_any_text_is_read_back_unchanged(text: str) -> None:
    (check,) = page(Report({}, (replace(ERROR, case=f"a/{text}", reproduction=text or None),))).checks()
    assert check["case"] == f"a/{text}"
    assert check["script"] == (text or None)


def test_nothing_but_the_pages_own_style_and_script_may_take_effect() -> None:
    read = page(hostile("failed"))
    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in read.elements
        if attributes.get("http-equiv") and tag == "meta"
    ]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for kind, text in (("script-src", read.parts["script"][1]), ("style-src", read.parts["style"][0])):
        assert rules[kind] == f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
    assert rules["require-trusted-types-for"] == "'script'"


def test_nothing_is_loaded_from_anywhere() -> None:
    read = page(synthetic(40, wrong=0.5))
    assert not read.attribute("script", "src")
    assert read.attribute("link", "href") == ["data:,"]
    assert not re.findall(r"url\((?!#)|@import", read.parts["style"][0])
    assert not re.findall(r"fetch\(|XMLHttpRequest|import\(|innerHTML|document\.write", read.parts["script"][1])


# --- size -----------------------------------------------------------------------------------------------------------

FIVE_MB = 5_000_000


@pytest.mark.parametrize("wrong", [0.01, 1.0])
def test_two_thousand_checks_fit_into_five_megabytes_however_many_are_wrong(wrong: float) -> None:
    assert len(HtmlReport().render(synthetic(2000, wrong=wrong)).encode()) < FIVE_MB


def test_attachments_are_kept_for_unexpected_checks_and_their_absence_is_stated() -> None:
    long = "x" * (ATTACHMENTS_SIZE // 2 - 100)
    quiet = replace(FAILED, log=())
    made = [
        replace(PASSED, reproduction=f"1{long}"),
        replace(KNOWN, log=(), reproduction=f"2{long}"),
        replace(quiet, case="a/b", reproduction=f"3{long}"),
        replace(quiet, case="a/c", reproduction=f"3{long}"),
    ]
    passed, known, one, other = page(report(*made)).checks()
    assert one["script"] == other["script"] == f"3{long}"
    assert known["script"] == f"2{long}"
    assert (passed["script"], passed["left_out"]) == (None, f"script: {LEFT_OUT}")


def test_alike_values_are_written_once() -> None:
    table = ValueTable()
    assert table.record({"a": [1, 2], "b": None, "c": [1, 2], "d": True, "e": 1}) == [0, 1, 0, 2, 3]
    assert table.values == [[1, 2], None, True, 1]
    with pytest.raises(ValueError, match="not JSON compliant"):
        table.position(math.nan)


def test_a_comparison_is_cut_from_its_end_and_counted_whole() -> None:
    latency = [{"verdict": "no change"}] * (SHOWN + 5) + [{"verdict": "slower"}]
    fields = comparison_fields({"parity": [], "latency": latency, "min_effect": 0.03})
    assert fields is not None
    assert (len(fields["latency"]), fields["latency"][0]) == (SHOWN, {"verdict": "slower"})
    assert fields["latency_counts"] == {"slower": 1, "no change": SHOWN + 5}
    assert comparison_fields(None) is None
