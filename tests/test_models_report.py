"""The report of ``make models``: what is counted, and what fails the benchmark."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.models import __main__ as models
from benchmarks.models.correct import Row, rows
from benchmarks.models.power import Outcome, error_ratios

ROW = Row(
    case="images/a[dtype=float16,seed=0]",
    model="a",
    dtype="float16",
    target="onnx-dynamo/ort-cpu",
    state="passed",
    rms=1.5,
    worst=2.25,
    reason=None,
    inconclusive=False,
    seconds=1.0,
)
FAULT = Outcome("a", "float32", 0, "layer skipped", "norm", rms=40.0, worst=60.0, caught=True)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(models, "RESULTS", tmp_path)
    return tmp_path


def keep(folder: Path, part: str, entries: list[dict[str, object]]) -> None:
    (folder / part).mkdir(exist_ok=True)
    (folder / part / "all.json").write_text(json.dumps({"seconds": 60.0, "results": entries}), encoding="utf-8")


def report(folder: Path, checks: list[Row], planted: list[Outcome]) -> tuple[int, str]:
    keep(folder, "correct", [asdict(row) for row in checks])
    keep(folder, "power", [asdict(outcome) for outcome in planted])
    keep(folder, "door", [{"fault": asdict(FAULT), "check": asdict(replace(ROW, state="false alarm"))}])
    code = models.main(["report", "--report", str(folder / "models.md")])
    return code, (folder / "models.md").read_text(encoding="utf-8")


def test_without_a_wrong_verdict_the_report_counts_what_was_judged(results: Path) -> None:
    refused = replace(ROW, case="images/b[dtype=bfloat16,seed=0]", state="not loaded", reason="no kernel")
    hidden = replace(FAULT, rms=1.0, worst=1.0, caught=False)
    code, text = report(results, [ROW, refused], [FAULT, hidden])
    assert code == 0
    assert "**1 models x precisions x seeds were judged, 1 of them on ONNX Runtime." in text
    assert "0 of 1 judged checks\nfailed" in text
    assert "float32: 2 faults, 1 visible in RMS, 1 of them caught, 0 missed" in text
    assert "no kernel" in text
    assert "| 1.50" in text


def test_a_false_alarm_fails_the_benchmark(results: Path) -> None:
    assert report(results, [replace(ROW, state="false alarm")], [FAULT])[0] == 1


def test_a_missed_fault_fails_the_benchmark(results: Path) -> None:
    assert report(results, [ROW], [replace(FAULT, caught=False)])[0] == 1


def test_nothing_judged_fails_the_benchmark(results: Path) -> None:
    assert report(results, [replace(ROW, state="not exported")], [FAULT])[0] == 1
    assert report(results, [ROW], [])[0] == 1


def test_errors_are_measured_against_float64() -> None:
    float64 = np.array([1.0, 2.0])
    assert error_ratios(np.array([1.4, 2.0]), np.array([1.1, 2.0]), float64) == pytest.approx((4.0, 4.0))
    assert error_ratios(np.array([np.nan, 2.0]), float64 + 0.1, float64) == (np.inf, np.inf)


def test_a_row_is_read_from_a_report(tmp_path: Path) -> None:
    result = {
        "case": "images/a[dtype=float16,seed=0]",
        "target": "trace/torch-cpu",
        "status": "failed",
        "stage": "compare",
        "message": "differs",
        "outputs": [{"rms": 0.3, "reference_rms": 0.1, "inconclusive": None}],
        "distances": [{"target_max_abs": 0.5, "eager_max_abs": 0.25}],
        "seconds": {"run": 1.0},
    }
    (tmp_path / "report.json").write_text(json.dumps({"results": [result]}), encoding="utf-8")
    (row,) = rows(tmp_path)
    assert (row.model, row.dtype, row.state) == ("a", "float16", "false alarm")
    assert row.rms == pytest.approx(3.0)
    assert row.worst == 2.0
