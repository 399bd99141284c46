"""Machine-readable formats: JSON round trips, and CSV and JUnit read by standard parsers."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xmlschema import XMLSchema

from harness.errors import SpecError
from harness.report.csv_report import CsvReport
from harness.report.json_report import JsonReport, read_report
from harness.report.junit import JUnitReport
from harness.result import (
    STATUSES,
    Blame,
    Distance,
    Finding,
    OutputComparison,
    Report,
    Result,
    Stage,
    Symptom,
    result_from_json,
    to_json,
)
from tests.report_samples import (
    ALL,
    DIFFERS,
    ERROR,
    FAILED,
    FIXED,
    KNOWN,
    PASSED,
    SKIPPED,
    every_way_to_end_badly,
    report,
)

JSON = JsonReport()
HOSTILE = "bad \x1b[31m \x00 \ud800 <&>\"'|`*_ \r\n=1+1 ]]> %0A ::error::"


# --- JSON -----------------------------------------------------------------------------------------------------------

CONTRACT_RESULT = {
    "case", "case_model", "about", "inputs", "draws",
    "target", "status", "stage", "symptom", "message", "blame", "outputs", "placement", "latency", "seconds",
}  # fmt: skip
CONTRACT_OUTPUT = {
    "index", "shape", "dtype", "max_abs", "max_rel", "max_ulp", "mismatched", "of", "worst", "least_rtol", "least_atol",
    "tolerance", "sqnr", "cosine", "rms", "reference_rms", "decisions",
}  # fmt: skip


def test_report_json_has_what_the_contract_names() -> None:
    raw = json.loads(JSON.render(report(*ALL)))
    assert raw["format"] == 1
    assert raw["summary"] == {"checks": 6} | dict.fromkeys(STATUSES, 1)
    assert raw["environment"]["torch"]["version"] == "2.13.0"
    assert all(raw_result.keys() >= CONTRACT_RESULT for raw_result in raw["results"])
    assert raw["results"][1]["outputs"][0].keys() >= CONTRACT_OUTPUT


def test_non_finite_numbers_are_strings_so_that_any_reader_takes_them() -> None:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    raw = json.loads(JSON.render(report(FAILED)), parse_constant=refuse)
    output = raw["results"][0]["outputs"][1]
    assert (output["actual_at_worst"], output["expected_at_worst"], output["least_rtol"]) == ("nan", "-inf", "inf")


def test_the_same_report_gives_the_same_bytes() -> None:
    assert JSON.render(report(*ALL)) == JSON.render(report(*ALL))


optional_float = st.none() | st.floats()
text = st.text(max_size=20)
comparisons = st.builds(
    OutputComparison,
    index=st.integers(0, 3),
    name=text,
    shape=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    dtype=text,
    tolerance=text,
    max_abs=optional_float,
    max_rel=optional_float,
    max_ulp=st.none() | st.integers(0, 2**64),
    mismatched=st.integers(0, 9),
    of=st.integers(0, 9),
    worst=st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple),
    actual_at_worst=optional_float,
    expected_at_worst=optional_float,
    least_rtol=optional_float,
    least_atol=optional_float,
    problem=st.none() | text,
    inconclusive=st.none() | text,
    at=st.none() | text,
)
lines = st.lists(text, max_size=2).map(tuple)
objects = st.dictionaries(
    text, st.none() | st.booleans() | st.integers() | text | st.lists(text, max_size=2), max_size=2
)
pair = st.lists(st.integers(0, 9), min_size=2, max_size=2)
cells = st.lists(st.lists(st.integers() | st.floats().map(to_json), max_size=2), max_size=2)
drawn = st.fixed_dictionaries(
    {"output": st.integers(0, 3), "plane": pair, "shape": pair, "worst": pair}
    | dict.fromkeys(("expected", "actual", "error"), cells)
)
results = st.builds(
    Result,
    case=text,
    target=text,
    status=st.sampled_from(STATUSES),
    stage=st.none() | st.sampled_from(get_args(Stage)),
    symptom=st.none() | st.sampled_from(get_args(Symptom)),
    message=st.none() | text,
    blame=st.none() | st.sampled_from(get_args(Blame)),
    evidence=lines,
    outputs=st.lists(comparisons, max_size=2).map(tuple),
    findings=st.lists(st.builds(Finding, text, st.booleans(), text, st.none() | comparisons), max_size=2).map(tuple),
    distances=st.lists(
        st.builds(Distance, st.integers(0, 3), st.floats(), st.floats(), st.sampled_from(["eager", "target"])),
        max_size=2,
    ).map(tuple),
    placement=st.none() | objects,
    latency=st.none() | objects,
    seconds=st.dictionaries(text, st.floats(0, 1e9), max_size=2),
    notes=lines,
    log=lines,
    checker=st.none() | text,
    artifact=st.none() | text,
    reason=st.none() | text,
    issue=st.none() | text,
    where=st.none() | text,
    pictures=st.lists(drawn, max_size=1).map(tuple),
)


@given(st.lists(results, max_size=3))
def test_a_report_comes_back_as_it_went(tmp_path_factory: pytest.TempPathFactory, made: list[Result]) -> None:
    path = tmp_path_factory.getbasetemp() / "there-and-back.json"
    path.write_text(JSON.render(report(*made)), "utf-8")
    back = read_report(path)
    assert repr(back.results) == repr(tuple(made))  # by repr: NaN is not equal to itself
    assert back.environment == report().environment


@given(results)
def test_both_readers_of_a_result_agree(made: Result) -> None:
    assert repr(result_from_json(json.loads(json.dumps(to_json(made))))) == repr(made)


def refusal(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        read_report(path)
    message = str(caught.value)
    assert "\n" not in message
    assert re.match(re.escape(str(path)) + r":\d+:\d+: .+; .+", message)
    return message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON"),
        (b"\x00\xff\xfe\x80", "cannot|not"),
        (b"hello", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no `format` number"),
        (b'{"format": true, "results": []}', "no `format` number"),
        (b'{"format": 2, "results": 5}', "format 2; this harness reads format 1"),
        (b'{"format": 1}', "no list of `results`"),
        (b'{"format": 1, "results": [], "environment": 3}', "`environment` is not an object"),
        (b'{"format": 1, "results": [{"case": "a", "target": "t", "status": "fine"}]}', r"results\[0\]\.status"),
        (b'{"format": 1, "results": [{"case": "a", "status": "passed"}]}', r"results\[0\]\.target"),
        (b'{"format": 1, "results": [], "summary": {"checks": 7}}', "does not match"),
        (b"[" * 100_000, "not readable JSON"),
    ],
)
def test_a_file_that_is_no_report_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    assert re.search(says, refusal(path))


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.json")
    assert "directory" in refusal(tmp_path)


@given(st.floats(0, 1, exclude_max=True))
def test_a_report_cut_short_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    whole = JSON.render(report(*ALL)).rstrip()
    path = tmp_path_factory.getbasetemp() / "cut.json"
    path.write_text(whole[: int(len(whole) * share)], "utf-8")
    refusal(path)


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"format": 1, "results": [{"case": "a"}, {"target": "t", "status": "no"}]}')
    with pytest.raises(SpecError) as caught:
        read_report(path)
    assert len(caught.value.problems) == 4


# --- CSV ------------------------------------------------------------------------------------------------------------


def rows(made: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(CsvReport().render(made), newline=""), strict=True))


def test_csv_has_a_row_for_each_check_with_its_figures_in_full() -> None:
    read = rows(report(*ALL))
    assert [row["status"] for row in read] == list(STATUSES)
    failed = read[1]
    assert float(failed["max_abs"]) == DIFFERS.max_abs
    assert int(failed["max_ulp"]) == 4194304
    assert (failed["mismatched"], failed["of"], failed["worst"]) == ("3", "4", "[0, 0, 1, 1]")
    assert (read[3]["reason"], read[3]["issue"]) == (KNOWN.reason, KNOWN.issue)
    assert read[5]["max_abs"] == ""
    assert [row["median_us"] for row in read] == ["12.34", "", "", "", "12.34", ""]


def test_csv_survives_text_that_means_something_to_csv_or_to_a_spreadsheet() -> None:
    hostile = replace(ERROR, message='a,"b"\nc', reason="=cmd|' /C calc'!A0")
    (row,) = rows(report(hostile))
    assert row["message"] == 'a,"b" c'
    assert row["reason"].startswith("'=")
    assert rows(report(replace(ERROR, message=HOSTILE)))[0]["target"] == ERROR.target


# --- JUnit ----------------------------------------------------------------------------------------------------------


def suites(*made: Result) -> ET.Element:
    return ET.fromstring(JUnitReport().render(report(*made)).encode("utf-8"))


def outcomes(root: ET.Element) -> list[list[str]]:
    return [[child.tag for child in case if child.tag != "system-out"] for case in root.iter("testcase")]


@pytest.mark.parametrize(
    ("made", "tag"),
    [(PASSED, []), (replace(FAILED, log=()), ["failure"]), (ERROR, ["error"]), (replace(KNOWN, log=()), ["skipped"]),
     (FIXED, ["failure"]), (SKIPPED, ["skipped"])],
)  # fmt: skip
def test_junit_has_an_element_for_each_status(made: Result, tag: list[str]) -> None:
    assert outcomes(suites(made)) == [tag]


def test_junit_counts_are_those_of_its_cases() -> None:
    root = suites(*ALL, *every_way_to_end_badly())
    for level in (root, *root.iter("testsuite")):
        assert int(level.get("tests", "")) == len(list(level.iter("testcase")))
        assert int(level.get("failures", "")) == len(list(level.iter("failure")))
        assert int(level.get("errors", "")) == len(list(level.iter("error")))
    assert len(list(root.iter("failure"))) == 2 + len(every_way_to_end_badly()) // 2


def test_junit_groups_by_spec_file_and_carries_reason_numbers_and_environment() -> None:
    root = suites(*ALL)
    case = next(case for case in root.iter("testcase") if "known" in case.get("name", ""))
    assert case.get("classname") == "specs/pool/avg.yaml"
    skipped = case.find("skipped")
    assert skipped is not None
    assert "drops the divisor" in skipped.get("message", "")
    assert "0 y.max_ulp=4194304" in (case.findtext("system-out") or "")
    assert {"torch.version": "2.13.0"}.items() <= {
        one.get("name"): one.get("value") for one in root.iter("property")
    }.items()


JUNIT = XMLSchema(Path(__file__).with_name("junit.xsd"))


@pytest.mark.parametrize("made", [(), ALL, every_way_to_end_badly(), (replace(PASSED, seconds={"run": 2e-6}),)])
def test_junit_is_valid_to_a_reader_that_validates(made: Sequence[Result]) -> None:
    JUNIT.validate(JUnitReport().render(report(*made)))


@pytest.mark.parametrize(
    ("written", "broken"),
    [(' tests="1"', ""), ("<testcase ", '<testcase file="a" '), ("</testcase>", "<properties/></testcase>")],
)
def test_a_reader_that_validates_refuses_what_it_does_not_know(written: str, broken: str) -> None:
    text = JUnitReport().render(report(PASSED))
    assert written in text
    assert not JUNIT.is_valid(text.replace(written, broken))


def test_junit_escapes_text_that_xml_cannot_represent() -> None:
    made = replace(FAILED, case=f"a/{HOSTILE}", message=HOSTILE, log=(HOSTILE,), where=f"{HOSTILE}:1:1")
    (case,) = suites(made).iter("testcase")
    assert "\\x1b" in (case.findtext("failure") or "")
    assert "\\xd800" in (case.findtext("system-err") or "")


def test_figures_that_are_not_finite_reach_every_machine_format() -> None:
    lost = replace(FAILED, outputs=(replace(DIFFERS, max_abs=math.nan, least_atol=math.inf),), findings=())
    assert rows(report(lost))[0]["max_abs"] == "nan"
    assert "0 y.least_atol=inf" in JUnitReport().render(report(lost))
