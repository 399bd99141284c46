"""Whether verdicts about lower precision can be trusted.

    python -m benchmarks.precision.bench [--nets 200] [--first 0] [--report reports/precision-trust.md]

Random small networks, each exported and lowered: a good float16 file, bfloat16 file or int8 file that fails is a false
alarm. In every second one faults are planted in the int8 file: one weight's scale is four times what it should be, with
and without quantizing the weight again, or a layer that was excluded is quantized. A fault that is not found, or not
blamed on ``+int8``, is a miss. How many of the faults lower the outputs' SQNR by less than the margin of the expected
ratio is counted apart: only the comparison of the weights can tell those.

The exit code is 1 if there is a false alarm, or a miss.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import torch
from tabulate import tabulate
from torch import nn

from benchmarks.precision.nets import random_net
from benchmarks.precision.planted import FACTOR, IgnoresExclude, WrongScale, in_place_of_int8
from benchmarks.silence import silent
from harness import verify
from harness.check.judging.quantization_noise import MARGIN_DB
from harness.environment import versions
from harness.result import Result

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("torch", "onnx", "onnxruntime")
EXPORTER = "onnx-torchscript@17"
TARGETS = {
    "float16": f"{EXPORTER}+fp16/ort-cpu",
    "float16, inputs and outputs too": f"{EXPORTER}+fp16?keep_io=off/ort-cpu",
    "bfloat16": f"{EXPORTER}+bf16/reference",
    "int8": f"{EXPORTER}+int8/ort-cpu",
    "int8, static": f"{EXPORTER}+int8-static/ort-cpu",
}
RARE, EVERY = ("bfloat16", "int8, static", "float16, inputs and outputs too"), 4
"""These are checked for one net in so many: ``onnx.reference`` is slow, and the others differ little from the first."""
PLANTED_EVERY = 2
HIDDEN = "hidden from the outputs"
MARKDOWN = """\
# Can verdicts about lower precision be trusted?

{nets} random small networks, {seconds:.0f} s with {about}.

## Good files

Each net is exported and lowered by the transform. A check that fails is a false alarm.

{good}

The default tolerances apply: three times the error of eager torch in the same precision, or the ratio that the
quantizer's step sizes predict, less {margin:g} dB.

## Planted faults

{planted}

Planted in the int8 file of every second net:

- **scale of one weight times {factor:g}**: all values of the weight are {factor:g} times too large.
- **grid of one weight {factor:g} times as coarse**: the values are right, up to a rounding {factor:g} times as large.
- **excluded layer quantized**: `+int8?exclude=NODE` quantizes the node all the same.
- **named**: the check fails, and the evidence or the message names `+int8` and the weight or the layer.
- **hidden from the outputs**: of those, the fault lowers the SQNR of the outputs by less than {margin:g} dB, the margin
  of the expected ratio: the rest of the quantization costs more, or the net does not depend on the weight. The
  comparison of each quantized weight with the float weight shows it all the same.

## False alarms and misses

{alarms}

Made by `python -m benchmarks.precision.bench`.
"""


@dataclass
class Tally:
    """The outcomes of one kind of check. ``lowest`` is the lowest SQNR among those that passed."""

    counts: Counter[str] = field(default_factory=Counter)
    lowest: float = math.inf


def main() -> int:
    """Check all nets and write the report. Returns 1 for a false alarm or a miss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the number of the first net: others of the same kinds")
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / "precision-trust.md")
    arguments = parser.parse_args()
    began = time.monotonic()
    good: dict[str, Tally] = defaultdict(Tally)
    planted: dict[str, Tally] = defaultdict(Tally)
    alarms: list[str] = []
    with silent():
        for seed in range(arguments.first, arguments.first + arguments.nets):
            kind, net, x = random_net(seed)
            alarms += check_good(seed, kind, net, x, good)
            if seed % PLANTED_EVERY == 0:
                alarms += check_planted(seed, net, x, planted)
    report = MARKDOWN.format(
        nets=arguments.nets,
        seconds=time.monotonic() - began,
        about=", ".join(f"{name} {versions()[name]}" for name in SHOWN),
        good=_table(good, ("passed", "not supported", "false alarm"), lowest=True),
        planted=_table(planted, ("named", HIDDEN, "not noticed"), lowest=False),
        alarms="\n".join(f"- {line}" for line in alarms) or "None.",
        factor=FACTOR,
        margin=MARGIN_DB,
    )
    arguments.report.write_text(report, encoding="utf-8")
    print(report)
    for line in alarms:
        print(line)
    return int(bool(alarms))


def check_good(seed: int, kind: str, net: nn.Module, x: torch.Tensor, tallies: dict[str, Tally]) -> list[str]:
    """Check the correct files of one net. The false alarms, one line each."""
    names = [name for name in TARGETS if name not in RARE or seed % EVERY == 0]
    results = verify(net, x, targets=[TARGETS[name] for name in names]).results
    alarms = []
    for name, result in zip(names, results, strict=True):
        tally = tallies[name]
        if result.symptom == "unsupported":
            tally.counts["not supported"] += 1
        elif result.status == "passed":
            tally.counts["passed"] += 1
            tally.lowest = min(tally.lowest, _ratio(result))
        else:
            tally.counts["false alarm"] += 1
            alarms.append(f"false alarm: net {seed} ({kind}) on {result.target}: {result.message}")
    return alarms


def check_planted(seed: int, net: nn.Module, x: torch.Tensor, tallies: dict[str, Tally]) -> list[str]:
    """Plant each fault in the int8 file of one net. The misses, one line each."""
    target = TARGETS["int8"]
    (right,) = verify(net, x, targets=[target]).results
    if right.status != "passed":
        return []
    misses = []
    for name, requantized in (("scale of one weight times 4", False), ("grid of one weight 4 times as coarse", True)):
        with in_place_of_int8(WrongScale(seed, requantized=requantized)):
            (result,) = verify(net, x, targets=[target]).results
        outcome = "named" if _is_named(result) else "not noticed"
        tallies[name].counts[outcome] += 1
        tallies[name].counts[HIDDEN] += _ratio(right) - _ratio(result) < MARGIN_DB
        if outcome == "not noticed":
            misses.append(f"missed: net {seed}, {name}: {result.status} {result.blame} {result.message}")
    node, name = _first_product(net, x), "excluded layer quantized"
    if node is None:
        return misses
    target = f"{EXPORTER}+int8?exclude={node}/ort-cpu"
    with in_place_of_int8(IgnoresExclude()):
        (result,) = verify(net, x, targets=[target]).results
    found = result.status == "error" and f"+int8 lowered the node {node}," in (result.message or "")
    tallies[name].counts["named" if found else "not noticed"] += 1
    return misses if found else [*misses, f"missed: net {seed}, {name}: {result.status} {result.message}"]


def _first_product(net: nn.Module, x: torch.Tensor) -> str | None:
    """The name of the first node of the exported file that has a matrix of weights."""
    written = io.BytesIO()
    torch.onnx.export(net, (x,), written, dynamo=False, opset_version=17)  # type: ignore[arg-type]  # a stream too
    graph = onnx.load_model_from_string(written.getvalue()).graph
    matrices = {each.name for each in graph.initializer if len(each.dims) >= 2}
    return next((node.name for node in graph.node if matrices & set(node.input)), None)


def _is_named(result: Result) -> bool:
    named = any("+int8: " in line and " of " in line for line in result.evidence)
    return result.status == "failed" and result.blame == "exporter" and named


def _ratio(result: Result) -> float:
    return min((output.sqnr for output in result.outputs if output.sqnr is not None), default=math.inf)


def _table(tallies: dict[str, Tally], counted: tuple[str, ...], *, lowest: bool) -> str:
    rows = [
        [name, *(tally.counts[what] for what in counted), *([f"{tally.lowest:.1f}"] if lowest else [])]
        for name, tally in tallies.items()
    ]
    return tabulate(rows, headers=["", *counted, *(["lowest SQNR (dB)"] if lowest else [])], tablefmt="pipe")


if __name__ == "__main__":
    sys.exit(main())
