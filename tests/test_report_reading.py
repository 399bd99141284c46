"""Commands that read a report use a valid one and refuse an invalid one in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.report.json_report import JsonReport, read_report
from tests.conftest import Call
from tests.report_samples import AGREES, FAILED, LATENCY, PASSED, report

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


UNSUMMED = {"samples_us": [[1.0]], "calibration_us": [[1.0]], "interrupted": [[]]}
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
        changed("results.0.latency.calibration_us", [[1.0], [1.0]]),
        "results[0].latency: Value error, calibration_us needs one time for each sample",
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


def with_old_keys(value: Any) -> Any:
    """A report in JSON with the keys that earlier releases wrote."""
    if isinstance(value, list):
        return [with_old_keys(item) for item in value]
    if not isinstance(value, dict):
        return "oracle" if value == "float64_reference" else value
    old = {"inconclusive": "blind", "calibration_us": "pace_us", "undisturbed": "calm"}
    renamed = {old.get(key, key): with_old_keys(item) for key, item in value.items()}
    if "low_confidence" in renamed:
        renamed["quotable"] = not renamed.pop("low_confidence")
    return renamed


def test_a_report_of_an_earlier_release_reads_the_same(harness: Call, report_path: Path) -> None:
    uncertain = {**LATENCY, "low_confidence": True}
    figure = {
        **LATENCY,
        "undisturbed": 2,
        "samples_us": [[1.0, 1.1]],
        "calibration_us": [[40.0, 41.0]],
        "interrupted": [[]],
        "by_shape": [{**uncertain, "shapes": "x [4]", "transfer": uncertain}],
        "variants": {"eager": uncertain},
    }
    extra = {"blind": 1.5, "quotable": 0.0}  # metrics of another package may have any name
    inconclusive = replace(AGREES, inconclusive="an all-zero output would pass too", extra=extra)
    failed = replace(FAILED, case="other", outputs=FAILED.outputs[:1])  # NaN is unequal to itself
    made = report(replace(PASSED, outputs=(inconclusive,), latency=figure), failed)
    current = JsonReport().render(made)
    report_path.write_text(current, encoding="utf-8")
    raw = with_old_keys(json.loads(current))
    for key in ("blind", "pace_us", "calm", "quotable", "oracle"):
        assert f'"{key}"' in json.dumps(raw)
    old = report_path.with_name("old.json")
    old.write_text(json.dumps(raw), encoding="utf-8")
    assert read_report(old) == read_report(report_path)
    ran = harness("diff", "old.json", "given.json", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["parity"] == []


def test_a_wrong_value_under_an_old_key_is_refused(harness: Call, report_path: Path) -> None:
    report_path.write_bytes(changed("results.0.latency", {**LATENCY, "quotable": "yes"}))
    ran = harness("diff", "given.json", "given.json")
    assert (ran.code, ran.out) == (2, "")
    assert "results[0].latency.low_confidence: Input should be a valid boolean" in ran.err
