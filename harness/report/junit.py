"""``report.xml``: JUnit, as CI systems read it. A spec file is a suite, a check is a test case.

Valid against the schema of Jenkins' xunit plugin (``junit-10.xsd``), which pytest's own files follow too. That schema
allows properties of suites but not of test cases. So the environment goes into properties, and the numbers of a check
into its ``system-out``, one ``name=value`` per line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import TypeVar

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from harness.errors import printable
from harness.report.machines import flatten
from harness.report.wording import (
    CaseName,
    comparison_line,
    comparisons,
    explanation,
    is_explained_by,
    stage_and_symptom,
)
from harness.result import Report, Result

_Problem = TypeVar("_Problem", Error, Failure)

_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JUnitReport:
    """``failed`` and ``fixed`` become failures, ``error`` an error, ``known`` and ``skipped`` are skipped."""

    name = "junit"
    suffix = ".xml"

    def render(self, report: Report) -> str:
        """The whole report as text."""
        whole = JUnitXml("harness")
        for spec, results in _by_spec(report).items():
            suite = TestSuite(spec)
            for name, value in flatten(report.environment):
                suite.add_property(_xml(name), _xml(value))
            suite.add_testcases([_test_case(spec, result) for result in results])
            whole.add_testsuite(suite)
        for name, count in _totals(report.summary).items():
            setattr(whole, name, count)
        written = BytesIO()
        whole.write(written)
        return f"{written.getvalue().decode()}\n"


PROVIDES = (JUnitReport(),)


def _by_spec(report: Report) -> dict[str, list[Result]]:
    suites: dict[str, list[Result]] = {}
    for result in report.results:
        suites.setdefault(_spec_file(result), []).append(result)
    return suites


def _spec_file(result: Result) -> str:
    """The file of the case, taken from the case's id if the result has no place."""
    file = result.where.rsplit(":", 2)[0] if result.where else CaseName.parse(result.case).spec
    return _xml(file) or "specs"


def _totals(summary: Mapping[str, int]) -> dict[str, int]:
    return {
        "tests": summary["checks"],
        "failures": summary["failed"] + summary["fixed"],
        "errors": summary["error"],
    }


def _test_case(spec: str, result: Result) -> TestCase:
    name = _xml(f"{result.case} on {result.target}")
    # Rounded to 0.1 ms: Python writes a smaller number with an exponent, which is not a decimal in XML.
    case = TestCase(name, classname=spec, time=round(sum(result.seconds.values()), 4))
    if outcome := _outcome(result):
        case.result = [outcome]
    case.system_out = _xml("\n".join(_facts(result)))
    if result.log and result.status != "passed":
        case.system_err = _xml("\n".join(result.log))
    return case


def _outcome(result: Result) -> Error | Failure | Skipped | None:
    message = _xml(explanation(result) or stage_and_symptom(result))
    match result.status:
        case "passed":
            return None
        case "failed" | "fixed":
            return _with_details(Failure(message, result.symptom or result.status), result)
        case "error":
            return _with_details(Error(message, result.symptom or result.status), result)
        case "known":
            reason = " ".join(part for part in (result.reason, result.issue) if part)
            return Skipped(_xml(f"known failure: {reason or message}"), "known")
        case "skipped":
            return Skipped(message, "skipped")


def _with_details(problem: _Problem, result: Result) -> _Problem:
    """``problem`` with the message, the evidence and every comparison of the check as its text."""
    lines: list[str] = [
        f"{label}: {comparison_line(comparison)}"
        for label, comparison in comparisons(result)
        if not is_explained_by(result, comparison)
    ]
    problem.text = _xml("\n".join(filter(None, [result.message or "", *result.evidence, *lines])))
    return problem


def _facts(result: Result) -> Iterator[str]:
    yield f"status={result.status}"
    for key in ("stage", "symptom", "blame", "where", "issue"):
        if value := getattr(result, key):
            yield f"{key}={value}"
    for label, comparison in comparisons(result):
        for key in ("max_abs", "max_rel", "max_ulp", "mismatched", "of", "worst", "least_rtol", "least_atol"):
            if (value := getattr(comparison, key)) is not None:
                yield f"{label}.{key}={value}"
    for key, value in flatten(result.latency or {}, "latency."):
        yield f"{key}={value}"
    yield from (f"note={note}" for note in result.notes)


def _xml(text: str) -> str:
    """``text`` with escapes for what XML 1.0 has no character for (section 2.2)."""
    return printable(text) if _NOT_IN_XML.search(text) else text
