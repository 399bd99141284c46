"""Reports of any size from a seed, with every status, pictures, latency, bench shapes and a comparison."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from harness.compare.pictures import picture
from harness.latency.change import Verdict
from harness.report.diff import Diff, ParityChange
from harness.report.diff.latency import LatencyChange
from harness.result import Blame, Distance, Finding, OutputComparison, Report, Result

LAYERS = (
    *("avgpool2d", "maxpool2d", "maxunpool2d", "linear", "mlp", "sigmoid", "tanh", "relu", "leakyrelu", "prelu"),
    *("rrelu", "autoencoder", "nn/attention", "nn/convolution", "nn/normalization", "nn/recurrent"),
)
TARGETS = (
    *("trace/torch-cpu", "script/torch-cpu", "onnx-torchscript@17/ort-cpu", "onnx-dynamo@18/ort-cpu"),
    *("onnx-dynamo@23/ort-cpu", "onnx-dynamo@23+fixes/ort-cpu", "onnx-dynamo@23/openvino", "onnx-dynamo@23/ort-cuda"),
)
FAMILIES = ("notes-experiment", "windows", "edges-not-finite", "dtypes")
ENVIRONMENT = {
    "harness": "0.1.0",
    "python": "CPython 3.12.4",
    "packages": {"torch": "2.13.0", "onnx": "1.23.2", "onnxruntime": "1.32.0", "numpy": "2.4.6"},
    "os": "Linux-6.8.0-x86_64-with-glibc2.39",
    "machine": "x86_64",
    "cpu": {"model": "AMD EPYC 7B13", "cores": 8, "threads": 16, "usable": 16, "features": ["avx2", "fma"]},
    "memory_gib": 62.7,
    "gpus": [],
}
RUN = {"paths": ["specs"], "targets": ["default"], "seconds": 412.7, "began": "2026-05-04T09:12:44Z"}

SCRIPT = '''"""{case} on {target}: shows the disagreement with torch, onnx and onnxruntime alone."""
import numpy as np
import onnxruntime
import torch

model = torch.nn.AvgPool2d((2, 2), stride=(2, 2), divisor_override=3).eval()
x = torch.ones(1, 1, 4, 4)
torch.onnx.export(model, (x,), "model.onnx", dynamo=True, opset_version=18)
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(actual,) = session.run(None, {{session.get_inputs()[0].name: x.numpy()}})
print("expected", model(x).numpy().ravel()[:4])
print("actual  ", actual.ravel()[:4])
assert np.allclose(actual, model(x).numpy(), rtol=1.3e-6, atol=1e-5)
'''


def synthetic(checks: int, *, seed: int = 0, wrong: float = 0.01, comparison: bool = True) -> Report:
    """Return a report of ``checks`` checks; the fraction ``wrong`` is not as expected."""
    draw = random.Random(seed)
    results = []
    for number, (case, target) in zip(range(checks), _names(), strict=False):
        results.append(_result(draw, number, case, target, wrong))
    run = RUN | ({"comparison": _comparison(results, draw)} if comparison else {})
    return Report(ENVIRONMENT, tuple(results), run)


def _names() -> Iterator[tuple[str, str]]:
    point = 0
    while True:
        for layer in LAYERS:
            for family in FAMILIES:
                name = f"{layer}/{family}"
                if family != "notes-experiment":
                    name += f"[args.kernel_size={point},inputs.x.shape=[2,3,{point + 7},7]]"
                elif point:
                    continue
                for target in TARGETS:
                    yield name, target
        point += 1


def _result(draw: random.Random, number: int, case: str, target: str, wrong: float) -> Result:
    ulp = 0 if "torch-cpu" in target else int(draw.expovariate(1) ** 3 * 4)
    result = Result(
        case,
        target,
        "passed",
        outputs=(_agreeing(ulp),),
        findings=(
            Finding("shape", True, "shapes [2, 3, 8, 6], expected [2, 3, 8, 6]"),
            Finding("float64_reference", True, "ok"),
        ),
        distances=(Distance(0, 3.97e-8, 3.97e-8 + ulp * 1e-9, "neither"),),
        placement={"asked": "CPUExecutionProvider", "nodes": {"CPUExecutionProvider": {"Conv": 1}}, "stray": []},
        latency=_latency(draw, number, target),
        seconds={stage: draw.random() / 100 for stage in ("build", "export", "load", "run", "compare")},
        where=f"specs/{case.partition('/')[0]}.yaml:{number % 90 + 1}:5",
        artifact=(digest := f"{draw.getrandbits(256):064x}"),
        artifact_path=f"~/.cache/harness/artifacts/{digest[:2]}/{digest}/model.onnx",
        case_model=_model_of(case),
        about="Every window, stride and padding, with values that tell a wrong window from the right one.",
        inputs=({"label": "x", "dtype": "float32", "shape": [2, 3, 8, 6]},),
        draws=2,
    )
    if target.endswith("ort-cuda"):
        return Result(case, target, "skipped", "load", "unavailable", "no CUDA device; install onnxruntime-gpu")
    if draw.random() < wrong:
        return _bad(draw, result)
    if "avgpool2d" in case and "onnx" in target and "fixes" not in target and draw.random() < 0.3:
        reason = "Both stock ONNX exporters drop `divisor_override` and divide by the size of the window."
        issue = "https://github.com/pytorch/pytorch/issues/105349"
        return replace(_mismatch(draw, result, "exporter"), status="known", reason=reason, issue=issue)
    if draw.random() < 0.02:
        return replace(result, notes=("y: the sign of zero differs in 2 of 4 values, which counts as equal",))
    return result


def _model_of(case: str) -> str:
    layer = case.partition("[")[0].rpartition("/")[0].rpartition("/")[2].capitalize()
    return f"{layer}({case.partition('[')[2].partition(',')[0].removeprefix('args.')})"


def _agreeing(ulp: int) -> OutputComparison:
    size = ulp * 1.2e-7
    return OutputComparison(
        0, "output_0", (2, 3, 8, 6), "float32", "rtol 7.9e-07 + atol 7.9e-07", size, size / 2, ulp, of=288,
        worst=(0, 1, 0, 3) if ulp else None, least_rtol=size / 2, least_atol=size,
    )  # fmt: skip


def _bad(draw: random.Random, result: Result) -> Result:
    kind = draw.choice(("mismatch", "mismatch", "export", "crash", "fixed"))
    if kind == "mismatch":
        return _mismatch(draw, result, draw.choice(("exporter", "kernel", "optimizer", "rounding")))
    if kind == "fixed":
        message = "passes, although known-failures.yaml:3:1 lists it to fail at export: unsupported"
        return replace(result, status="fixed", message=message)
    blank = replace(result, outputs=(), findings=(), distances=(), placement=None, latency=None, status="error")
    if kind == "crash":
        message = "the process was killed by signal 11 (Segmentation fault)"
        return replace(blank, stage="run", symptom="crash", message=message)
    message = (
        "UnsupportedOperatorError: Exporting the operator 'aten::rrelu_with_noise' to ONNX opset 17 is not supported."
    )
    log = tuple(f"[torch.onnx] Translate the graph into ONNX... step {step}" for step in range(24))
    return replace(blank, stage="export", symptom="unsupported", message=message, log=log)


def _mismatch(draw: random.Random, result: Result, blame: Blame) -> Result:
    side = draw.choice((2, 5, 24, 96))
    random_state = np.random.default_rng(draw.getrandbits(32))
    expected = random_state.normal(size=(2, 3, side, side)).astype(np.float32)
    expected += np.roll(expected, 1, -1) + np.roll(expected, 1, -2)
    actual = expected.copy()
    actual[1, 2, side // 3 :, : side // 2 + 1] *= np.float32(0.75)
    if side == 24:
        actual[1, 2, 3, 4:7] = np.nan
    error = np.nan_to_num(np.abs(actual - expected), nan=np.inf)
    worst = tuple(int(place) for place in np.unravel_index(int(error.argmax()), error.shape))
    mismatched = int((error > 0).sum())
    off = float(error[np.isfinite(error)].max())
    problem = (
        f"{mismatched} of {error.size} values differ by more than the tolerance; worst at {list(worst)}: "
        f"{actual[worst]:.4g}, expected {expected[worst]:.4g} (off by {off:.4g}); allowed: no difference"
    )
    comparison = OutputComparison(
        0, "output_0", expected.shape, "float32", "exact", off, 0.25, 2796203, mismatched, error.size, worst,
        float(actual[worst]), float(expected[worst]), math.inf if side == 24 else 0.25, off, problem,
    )  # fmt: skip
    evidence = (
        "evaluated in float64, the exported file itself is wrong: 4 of 4 values differ by more than the tolerance",
        "the other exporter writes a file that agrees",
    )
    return replace(
        result,
        status="failed",
        stage="compare",
        symptom="mismatch",
        message=f"output_0: {problem}",
        blame=blame,
        evidence=evidence,
        outputs=(comparison,),
        findings=(Finding("formula", False, "the formula is off by 0.333", comparison), *result.findings),
        distances=(Distance(0, 4e-8, off, "eager"),),
        latency=None,
        pictures=({"output": 0, **picture(actual, expected, worst)},),
        reproduction=SCRIPT.format(case=result.case, target=result.target),
    )


def _latency(draw: random.Random, number: int, target: str) -> dict[str, Any]:
    typical_ratio = {"trace": 0.8, "script": 0.9}.get(target.partition("/")[0], 0.35)
    eager = 8.0 * draw.lognormvariate(0, 0.8)
    ratio = typical_ratio * draw.lognormvariate(0, 0.35)
    figure = _figure(eager * ratio, eager, ratio, draw)
    whole = figure | {
        "samples": 20, "processes": 1, "batch": 10, "first_call_us": 80.5, "load_s": 0.0016, "first_run_s": 0.0003,
        "precision": "float32", "threads": 1, "version": "onnxruntime 1.32.0", "concurrent_workers": 2,
        "samples_us": [[eager * ratio] * 20],
    }  # fmt: skip
    if number < 2 * len(TARGETS):
        sides = (16, 64, 256, 512)
        whole["by_shape"] = [
            _figure(eager * ratio * (1 + (side / 40) ** 2), eager * (1 + (side / 30) ** 2), ratio, draw)
            | {"shapes": f"x=[1,3,{side},{side}]", "elements": 3 * side * side}
            for side in sides
        ]
    return whole


def _figure(median: float, eager: float, ratio: float, draw: random.Random) -> dict[str, Any]:
    spread = 1 + draw.expovariate(20)
    low_confidence = spread >= 1.12
    return {
        "median_us": round(median, 4), "low_us": round(median / spread, 4), "high_us": round(median * spread, 4),
        "eager_us": round(eager, 4), "ratio": round(ratio, 4), "ratio_low": round(ratio / spread, 4),
        "ratio_high": round(ratio * spread, 4), "low_confidence": low_confidence,
        "notes": ["the median is known to lie in a wide interval only"] if low_confidence else [],
    }  # fmt: skip


def _comparison(results: list[Result], draw: random.Random) -> dict[str, Any]:
    parity = tuple(
        ParityChange(one.case, one.target, "regressed", "passed", one.status, detail="", worse=False)
        for one in results
        if one.status in {"failed", "error"}
    )
    timed = [result for result in results if result.latency][:60]
    latency = tuple(_change(one, draw) for one in timed)
    return Diff({"onnxruntime": ("1.31.0", "1.32.0")}, {}, parity, latency, min_effect=0.03).to_dict()


def _change(one: Result, draw: random.Random) -> LatencyChange:
    assert one.latency is not None
    before = one.latency["median_us"]
    ratio, spread = draw.lognormvariate(0, 0.04), 1 + draw.expovariate(60)
    verdict: Verdict = "slower" if ratio / spread > 1.03 else "faster" if ratio * spread < 0.97 else "no change"
    return LatencyChange(
        one.case,
        one.target,
        "x=[2,3,8,6]",
        before,
        before * ratio,
        verdict,
        ratio,
        ratio / spread,
        ratio * spread,
        1.01,
    )
