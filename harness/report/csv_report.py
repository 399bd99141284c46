"""``report.csv``: one row per check, for a spreadsheet. A check with several outputs shows its main comparison."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from harness.errors import printable
from harness.report.wording import explanation, main_comparison
from harness.result import OutputComparison, Report, Result, to_json

_CHECK = ("case", "target", "status", "stage", "symptom", "blame")
_COMPARISON = (
    "tolerance", "max_abs", "max_rel", "max_ulp", "mismatched", "of", "worst", "actual_at_worst", "expected_at_worst",
    "least_rtol", "least_atol", "rms", "reference_rms", "sqnr", "cosine",
)  # fmt: skip
_EXTRA = ("psnr", "kl", "top5")
"""Metrics beside the fields of a comparison. Those of other packages are in ``report.json``."""
_DECISIONS = ("agree", "ties", "of", "share")
_SAMPLES = ("samples", "agreement", "reference_accuracy", "target_accuracy", "reference_metric", "target_metric")
_LATENCY = ("median_us", "ratio", "low_confidence")
_TEXT = ("reason", "issue", "where")


class CsvReport:
    """RFC 4180. Numbers have all their digits; non-finite ones are written as in ``report.json``."""

    name = "csv"
    suffix = ".csv"

    def render(self, report: Report) -> str:
        """The whole report as text."""
        written = io.StringIO()
        rows = csv.writer(written)
        measures = [*_COMPARISON, *_EXTRA, *(f"decisions_{key}" for key in _DECISIONS)]
        rows.writerow([*_CHECK, "output", *measures, *_SAMPLES, *_LATENCY, "seconds", "message", *_TEXT])
        rows.writerows(_row(result) for result in report.results)
        return written.getvalue()


PROVIDES = (CsvReport(),)


def _row(result: Result) -> list[object]:
    comparison = main_comparison(result)
    extra = {} if comparison is None else comparison.extra
    decisions = {} if comparison is None or comparison.decisions is None else comparison.decisions
    return [
        *(spreadsheet_text(getattr(result, key)) for key in _CHECK),
        "" if comparison is None else spreadsheet_text(comparison.name) or comparison.index,
        *(_value(comparison, key) for key in _COMPARISON),
        *(to_json(extra.get(key, "")) for key in _EXTRA),
        *(to_json(decisions.get(key, "")) for key in _DECISIONS),
        *_samples(result.samples),
        *(to_json((result.latency or {}).get(key, "")) for key in _LATENCY),
        sum(result.seconds.values()) if result.seconds else "",
        spreadsheet_text(explanation(result)),
        *(spreadsheet_text(getattr(result, key)) for key in _TEXT),
    ]


def _samples(samples: Mapping[str, Any] | None) -> list[object]:
    """The numbers of all samples of a check, in the order of :data:`_SAMPLES`."""
    if samples is None:
        return [""] * len(_SAMPLES)
    accuracy, metric = samples.get("accuracy") or {}, samples.get("metric") or {}
    shares = [samples.get("decisions"), accuracy.get("reference"), accuracy.get("target")]
    return [
        samples.get("samples", ""),
        *("" if each is None else each.get("share", "") for each in shares),
        *(to_json(metric.get(side, "")) for side in ("reference", "target")),
    ]


def _value(comparison: OutputComparison | None, key: str) -> object:
    value = None if comparison is None else getattr(comparison, key)
    if isinstance(value, str):
        return spreadsheet_text(value)
    return "" if value is None else list(value) if isinstance(value, tuple) else to_json(value)


def spreadsheet_text(text: str | None) -> str:
    """``text`` in a form that a spreadsheet does not evaluate as a formula."""
    safe = printable(text or "")
    return f"'{safe}" if safe.startswith(("=", "+", "-", "@")) else safe
