"""What the commands do with a report: read it, compare it with another, merge it, and write it in every format."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
from rich.console import Console

from harness.compare.pictures import pictures
from harness.compare.verdict import compare
from harness.engine.bench import BenchSettings
from harness.registry import plugins
from harness.report.diff import diff
from harness.report.diff.text import show_diff
from harness.report.json_report import JsonReport, read_report
from harness.report.machines import merge
from harness.report.terminal import show
from harness.result import Distance, Finding, Report, Result
from harness.spec.known_failures.update import plan_update
from harness.spec.language.tolerances import Exact, Tolerance

SAMPLE = Path(__file__).resolve().parents[2] / "reports" / "sample" / "report.json"


@cache
def _sound() -> Report:
    """The first results of the sample."""
    sample = read_report(SAMPLE)
    return Report(sample.environment, sample.results[:20], sample.run)


@cache
def material() -> list[bytes]:
    """Return reports with one result of each kind in the sample, and one with a failure that has every field."""
    sample = read_report(SAMPLE)
    kinds = {(one.status, one.stage, bool(one.latency), bool(one.placement)): one for one in sample.results}
    run = {**sample.run, "exports": {"made": 1, "from_cache": 2}, "bench": asdict(BenchSettings())}
    return [
        JsonReport().render(Report(sample.environment, results, run)).encode()
        for results in ((_failed(), *kinds.values()), *((one,) for one in kinds.values()))
    ]


def _failed() -> Result:
    expected = {"output_0": np.arange(6, dtype=np.float32).reshape(2, 3)}
    actual = {"output_0": expected["output_0"] + np.array([0, 0.5, np.nan], np.float32)}
    outputs = compare(actual, expected, Tolerance(Exact())).outputs
    return Result(
        "pool/a",
        "onnx-dynamo@23/ort-cpu",
        "failed",
        "compare",
        "mismatch",
        "2 of 6 elements differ",
        "exporter",
        ("the file says so",),
        outputs,
        (Finding("range", False, "below", outputs[0]),),
        (Distance(0, 0.0, float("inf"), "eager"),),
        pictures=pictures(outputs, actual, expected),
        reproduction="print(1)",
        where="specs/pool.yaml:3:5",
    )


def use(path: Path) -> object:
    """Run ``diff``, ``merge``, ``--baseline`` and all formats on the report at ``path``."""
    sound, report = _sound(), read_report(path)
    nowhere = Console(file=StringIO())
    for old, new in ((sound, report), (report, sound), (report, report)):
        show_diff(diff(old, new), nowhere)
        json.dumps(diff(old, new).to_dict())
    BenchSettings.from_report(report.run)
    plan_update((), report, ())
    show(report, console=nowhere)
    whole = merge([(SAMPLE, Report(sound.environment, (), sound.run)), (path, report)])
    return [one.render(each) for one in plugins("report").values() for each in (report, whole)]
