"""A bundle to test with: specs of every kind of verdict, packed once."""

from __future__ import annotations

from pathlib import Path

from harness.check.settings import Settings
from harness.packing import PackRequest, PackSummary, pack
from harness.result import Result

ONNX = ("onnx-torchscript@17", "onnx-dynamo@23")
TARGETS = (*(f"{export}/ort-cpu" for export in ONNX), "trace/torch-cpu")
SPEC = """
harness: 1
about: One case for each kind of verdict.
cases:
  - name: linear
    about: Right, at two sets of shapes, with a formula in parameters.
    layer: Linear
    args: {in_features: 3, out_features: 2}
    inputs: {x: {shape: [2, 3]}}
    dynamic: {x: {0: N}}
    also: [{x: [5, 3]}]
    expect: {formula: "matmul(x, transpose(weight)) + bias", shape: [2, 2]}
  - name: divisor
    about: The stock exporters drop it; one line of known-failures.yaml speaks of it.
    layer: AvgPool2d
    args: {kernel_size: 2, divisor_override: 3}
    inputs: {x: {shape: [1, 1, 4, 4]}}
  - name: window
    about: Eager torch refuses it.
    layer: MaxPool2d
    args: {kernel_size: 9}
    inputs: {x: {shape: [1, 1, 4, 4]}}
    expect: {raises: too small}
  - name: index
    about: Eager torch refuses it, and the file of one exporter does not.
    layer: MaxUnpool2d
    args: {kernel_size: 2}
    inputs: {x: {shape: [1, 1, 2, 2]}, i: {dtype: int64, values: [[[[0, 2], [8, -1]]]]}}
    expect: {raises: invalid max index}
  - name: drop
    about: Another answer each time; only the range can be held.
    layer: Dropout
    mode: train
    inputs: {x: {shape: [4, 4], fill: ones}}
    expect: {range: [0, 2]}
  - name: unpool
    about: Two inputs, and an exporter that fails.
    layer: MaxUnpool2d
    args: {kernel_size: 2}
    inputs: {x: {shape: [1, 1, 2, 2]}, i: {dtype: int64, values: [[[[0, 3], [8, 11]]]]}}
  - name: half
    about: A dtype that NumPy does not have.
    layer: Flatten
    dtype: bfloat16
    inputs: {x: {shape: [2, 3]}}
    expect: {equals: {layer: Identity}}
"""
KNOWN = """
- {cases: kinds/divisor, targets: onnx-*/*, stage: compare, symptom: mismatch, when: "torch>=2", reason: dropped}
- {cases: kinds/unpool, targets: onnx-torchscript*, stage: export, symptom: exception, when: "torch>=2.13", reason: no}
- {cases: kinds/unpool, targets: onnx-torchscript*, stage: export, symptom: unsupported, when: "torch<2.13", reason: no}
- {cases: kinds/half, targets: onnx-dynamo*, stage: export, symptom: exception, when: "torch<2.11", reason: renamed}
- {cases: kinds/index, targets: onnx-dynamo*, stage: compare, symptom: mismatch, reason: it counts from the end}
- {cases: other/*, targets: "*", stage: run, symptom: crash, reason: speaks of a case that was not packed}
"""


class Silent:
    """Nobody looks on."""

    def begin(self, total: int, what: str = "checks") -> None: ...

    def advance(self, result: Result | None = None) -> None: ...

    def end(self) -> None: ...


def packed(folder: Path) -> PackSummary:
    """``specs`` written into ``folder``, the current one, and packed into ``bundle``."""
    (folder / "specs").mkdir()
    (folder / "specs" / "kinds.yaml").write_text(SPEC, encoding="utf-8")
    (folder / "specs" / "other.yaml").write_text(
        "{harness: 1, layer: Tanh, cases: [{name: a, inputs: {x: {shape: [2]}}}]}", encoding="utf-8"
    )
    (folder / "specs" / "known-failures.yaml").write_text(KNOWN, encoding="utf-8")
    request = PackRequest(
        paths=("specs",),
        out=folder / "bundle",
        targets=TARGETS,
        keywords=("kinds/",),
        workers=1,
        settings=Settings(cache=folder / "cache" / "artifacts"),
    )
    return pack(request, Silent())
