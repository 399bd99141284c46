"""``harness diff`` and ``harness bench`` as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import Call

Write = Callable[[str, str], Path]
RELU = """
harness: 1
layer: ReLU
cases:
  - {name: signed, inputs: {x: {shape: [2, 3]}}, bench: [{x: [4, 3]}]}
"""


def _changed(here: Path, change: Callable[[dict[str, Any]], None]) -> str:
    """Write a copy of the last report with a changed first row; return its path."""
    report = json.loads((here / "reports" / "latest" / "report.json").read_text(encoding="utf-8"))
    change(report["results"][0])
    report["summary"] |= {"passed": 0, "failed": 1}
    path = here / "changed.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    return str(path)


def test_diff_lists_a_check_that_got_worse_and_none_where_nothing_changed(
    harness: Call, spec: Write, here: Path
) -> None:
    spec("relu.yaml", RELU)
    harness("run", "specs", "--targets", "trace/torch-cpu", "--no-latency")
    old = "reports/latest/report.json"
    same = harness("diff", old, old)
    assert same.code == 0
    assert "No regression" in same.out
    long = "4 of 4 values differ by more than the tolerance; " * 20
    worse = _changed(here, lambda row: row.update(status="failed", stage="compare", symptom="mismatch", message=long))
    ran = harness("diff", old, worse)
    assert ran.code == 1
    assert max(map(len, ran.out.splitlines())) < 400, "a long message is cut"
    assert "relu/signed" in "".join(ran.out.split()).replace("\n", "")
    assert harness("diff", worse, old).code == 0, "what got better is no regression"


def test_diff_refuses_what_is_no_report_in_one_line(harness: Call, here: Path) -> None:
    (here / "no.json").write_text("{}", encoding="utf-8")
    ran = harness("diff", "no.json", "missing.json")
    assert ran.code == 2
    assert "Traceback" not in ran.err
    assert ran.err.startswith("no.json:1:1: ")


def test_bench_times_what_verifies_at_each_shape(harness: Call, spec: Write) -> None:
    spec("relu.yaml", RELU)
    ran = harness("bench", "specs", "--targets", "trace/torch-cpu", "--processes", "1", "--budget", "0.05")
    assert ran.code == 0
    latency = ran.only["latency"]
    assert latency["median_us"] > 0
    assert len(latency["by_shape"]) == 2
