"""Handwritten reports for the tests of the formats, with every status, stage, symptom and blame."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

from harness.result import Blame, Distance, Finding, OutputComparison, Report, Result, Stage, Symptom

ENVIRONMENT = {
    "harness": "0.1.0",
    "torch": {"version": "2.13.0", "threads": 2},
    "devices": ["cpu"],
    "gpus": [{"name": "A"}],
    "cuda": None,
}

AGREES = OutputComparison(
    0, "y", (1, 2), "float32", "exact", max_abs=0.0, max_rel=0.0, max_ulp=0, of=2, least_rtol=0.0, least_atol=0.0
)
DIFFERENCE = (
    "3 of 4 values differ by more than the tolerance; worst at [0, 0, 1, 1]: 1, expected 1.333 (25 % off); "
    "allowed: no difference"
)
DIFFERS = OutputComparison(
    0,
    "y",
    (1, 1, 2, 2),
    "float32",
    "exact",
    max_abs=0.33333331,
    max_rel=0.25,
    max_ulp=4194304,
    mismatched=3,
    of=4,
    worst=(0, 0, 1, 1),
    actual_at_worst=1.0,
    expected_at_worst=1.33333337,
    least_rtol=0.25,
    least_atol=0.333333343,
    problem=DIFFERENCE,
)
NOT_A_NUMBER = replace(
    DIFFERS, index=1, name="z", max_abs=None, max_rel=None, max_ulp=None, actual_at_worst=math.nan,
    expected_at_worst=-math.inf, least_rtol=math.inf, least_atol=math.inf, problem="NaN where a number was expected",
)  # fmt: skip

LATENCY = {
    "median_us": 12.34, "low_us": 12.0, "high_us": 12.6, "iqr_us": 0.4, "samples": 20, "batch": 10, "warmup_calls": 25,
    "eager_us": 6.17, "ratio": 2.0, "ratio_low": 1.9, "ratio_high": 2.1, "low_confidence": False, "notes": [],
    "load_s": 0.001, "precision": "float32", "threads": 1, "concurrent_workers": 2,
}  # fmt: skip

PASSED = Result(
    "pool/avg/windows[args.kernel_size=2,args.ceil_mode=true]",
    "trace/torch-cpu",
    "passed",
    outputs=(AGREES,),
    latency=LATENCY,
    seconds={"export": 0.01, "compare": 0.001},
    where="specs/pool/avg.yaml:12:5",
)
FAILED = Result(
    "pool/avg/divisor",
    "onnx-dynamo@18/ort-cpu",
    "failed",
    "compare",
    "mismatch",
    f"y: {DIFFERENCE}",
    "exporter",
    ("the file computes 1 with optimization off too", "the other exporter agrees with eager"),
    (DIFFERS, NOT_A_NUMBER),
    (Finding("outputs", False, "expected 4/3, got 1", DIFFERS), Finding("float64_reference", True, "eager is right")),
    (Distance(0, 0.0, 0.333, "eager"),),
    {"asked": "CUDAExecutionProvider", "nodes": {"CPU": {"AveragePool": 1}}, "stray": ["AveragePool_0"]},
    notes=("the exporter said nothing",),
    log=tuple(f"line {number}" for number in range(40)),
    checker="Field 'shape' of 'type' is required",
    where="specs/pool/avg.yaml:30:5",
)
ERROR = Result(
    "pool/unpool/all",
    "script/torch-cpu",
    "error",
    "export",
    "unsupported",
    "RuntimeError: isIntList() INTERNAL ASSERT FAILED\nat line 7",
    where="specs/pool/unpool.yaml:3:5",
)
KNOWN = replace(
    FAILED,
    case="pool/avg/known",
    status="known",
    reason="the exporter drops the divisor",
    issue="https://example.org/issues/1",
)
FIXED = replace(PASSED, case="pool/avg/fixed", status="fixed", message="passes, although k.yaml:3:1 lists it")
SKIPPED = Result(
    "pool/avg/divisor",
    "onnx-dynamo@18/ort-cuda",
    "skipped",
    "load",
    "unavailable",
    "ort-cuda: no CUDA device; install onnxruntime-gpu",
)

ALL = (PASSED, FAILED, ERROR, KNOWN, FIXED, SKIPPED)


def report(*results: Result) -> Report:
    return Report(ENVIRONMENT, results)


def every_way_to_end_badly() -> tuple[Result, ...]:
    """Return a failed check and an error for each stage, symptom and blame."""
    return tuple(
        Result(f"all/{status}/{stage}-{symptom}-{blame}", "trace/torch-cpu", status, stage, symptom, "why", blame)
        for status in ("failed", "error")
        for stage in get_args(Stage)
        for symptom in get_args(Symptom)
        for blame in (*get_args(Blame), None)
    )
