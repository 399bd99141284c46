"""Commands that read a report use a valid one and refuse an invalid one in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.report.json_report import JsonReport
from tests.conftest import Call
from tests.report_samples import FAILED, PASSED, report

SPEC = """
harness: 1
layer: ReLU
cases: [{name: a, inputs: {x: {values: [1.0, -2.0]}}}]
"""
WAYS = {
    "diff": ("diff", "given.json", "given.json"),
    "merge": ("merge", "given.json", "--report-dir", "merged"),
    "baseline": ("run", "specs", "--targets", "trace/torch-cpu", "--baseline", "given.json"),
}


def valid() -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(JsonReport().render(report(PASSED, replace(FAILED, case="other"))))
    return raw


def changed(path: str, value: Any) -> bytes:
    """The report as JSON, with ``value`` at the dotted ``path``."""
    raw: Any = valid()
    *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
    place = raw
    for key in parents:
        place = place[key]
    place[last] = value
    return json.dumps(raw).encode()


UNSUMMED = {"samples_us": [[1.0]], "pace_us": [[1.0]], "interrupted": [[]]}
REFUSED = [
    (b"", "this is not JSON"),
    (b'{"format": 1, "results": [', "the report is truncated or broken"),
    (b'{"format": ' + b"9" * 5000 + b"}", "this is not readable JSON"),
    (b'{"format": ' + b"[" * 100_000, "this is not readable JSON"),
    (changed("run.anything", json.loads("[" * 100 + "]" * 100)), "the report is nested more than 64 levels deep"),
    (b"\xff\xfe\x00", "this is not readable JSON"),
    (b'{"format": 2}', "this report has format 2; this harness reads format 1; update it"),
    (b'{"format": 1}', "it has no list of `results`"),
    (changed("summary", {"checks": 1}), "`summary` does not match the results"),
    (changed("results.0.status", "fine"), "results[0].status: Input should be 'passed'"),
    (changed("results.0.outputs", [{}]), "results[0].outputs[0].index: Field required"),
    (changed("results.0.latency.median_us", "quick"), "results[0].latency.median_us: Input should be a valid number"),
    (changed("results.0.latency.median_us", -1.0), "results[0].latency.median_us: Input should be greater than 0"),
    (
        changed("results.0.latency.pace_us", [[1.0], [1.0]]),
        "results[0].latency: Value error, pace_us needs one time for each sample",
    ),
    (changed("results.0.latency", UNSUMMED), "results[0].latency: Value error, samples_us needs median_us"),
    (changed("results.0.placement", {"nodes": ["Add"]}), "results[0].placement.nodes: Input should be a valid dict"),
    (changed("results.1.pictures", [{"output": 0}]), "results[1].pictures[0].plane: Field required"),
    (changed("environment.gpus", 1), "environment.gpus: Input should be a valid list"),
    (changed("environment.packages", {"torch": None}), "environment.packages.torch: Input should be a valid string"),
    (changed("run.complaints", "one"), "run.complaints: Input should be a valid list"),
    (changed("run.bench", {"processes": 0}), "run.bench.processes: Input should be greater than or equal to 1"),
    (changed("run.comparison", {"parity": [{"kind": "odd"}]}), "run.comparison.parity[0].kind: Input should be"),
]


@pytest.fixture
def report_path(here: Path, spec: Callable[[str, str], Path]) -> Path:
    """The path for the report, in a folder with specs."""
    spec("relu.yaml", SPEC)
    return here / "given.json"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("content", [json.dumps(valid()).encode(), changed("run.exports", None)], ids=["whole", "lean"])
def test_a_valid_report_is_used(harness: Call, report_path: Path, way: str, content: bytes) -> None:
    report_path.write_bytes(content)
    ran = harness(*WAYS[way])
    assert (ran.code in {0, 1}, ran.err) == (True, "")


@pytest.mark.parametrize(("content", "message"), REFUSED, ids=[message[:50] for _, message in REFUSED])
def test_an_invalid_report_is_refused(harness: Call, report_path: Path, content: bytes, message: str) -> None:
    report_path.write_bytes(content)
    for arguments in WAYS.values():
        ran = harness(*arguments)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("given.json:1:")
        assert message in ran.err
        assert "Traceback" not in ran.err


@pytest.mark.parametrize("way", WAYS)
def test_a_device_is_refused(harness: Call, report_path: Path, way: str) -> None:
    report_path.symlink_to("/dev/zero")
    ran = harness(*WAYS[way])
    assert (ran.code, ran.err.splitlines()) == (
        2,
        ["given.json:1:1: this is a device, not a file; name a report.json that `harness run` wrote"],
    )


def test_a_report_from_a_pipe_is_read(harness: Call, report_path: Path) -> None:
    """As in ``harness diff <(ssh ...) report.json``."""
    report_path.write_text(json.dumps(valid()), encoding="utf-8")
    reading, writing = os.pipe()
    os.write(writing, report_path.read_bytes())
    os.close(writing)
    ran = harness("diff", f"/dev/fd/{reading}", "given.json")
    os.close(reading)
    assert (ran.code, ran.err) == (0, "")
