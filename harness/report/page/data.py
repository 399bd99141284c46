"""All that the page's script works on, as one value that JSON can hold."""

from __future__ import annotations

from typing import Any

from harness.report.advice import bundle_of
from harness.report.matrix import targets
from harness.report.page.check import NUMBERS, fields
from harness.report.page.comparison import comparison
from harness.report.page.heavy import heavy
from harness.report.page.packing import Packing
from harness.result import Report, to_json


def page_data(report: Report) -> dict[str, Any]:
    """The checks in the report's order: each is a list of places in ``values``, one for each of ``fields``."""
    packing = Packing()
    shown = heavy(report.results)
    allow_import, bundle = bool(report.run.get("allow_import")), bundle_of(report.run)
    names: list[str] = []
    checks = []
    for number, result in enumerate(report.results):
        told = fields(result, shown.get(number, {}), allow_import=allow_import, bundle=bundle)
        names = names or list(told)
        checks.append(packing.record(told))
    return {
        "targets": targets(report.results),
        "machines": list(report.run.get("machines", ())),
        "numbers": NUMBERS,
        "comparison": to_json(comparison(report.run.get("comparison"))),
        "fields": names,
        "checks": checks,
        "values": packing.values,
    }
