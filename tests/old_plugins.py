"""A distribution with one plugin of each kind under the names before the renaming, and a run with these plugins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.running import Running, report_in

# Each plugin uses the old names that CONTRIBUTING.md listed for its kind.

LAYER = """\
import numpy as np
from harness.layers import Answer, Array, Call, Twin
from harness.spec.tolerance import Exact, Scaled, Tolerance, Ulp


class Softsign:
    name = "Softsign"

    def oracle(self, call: Call) -> Answer:
        (x,) = call.inputs
        return Answer((x / (1 + np.abs(x)),), (None,), (None,))

    def tolerance(self, args, dtype, opset):
        return Tolerance(Ulp(2))

    def twins(self, call):
        yield Twin("Identity()", layer="Identity", args={}, why_equal=None if call.inputs[0].size else "no elements")
"""

EXPORTER = """\
import hashlib

from harness.errors import Unsupported
from harness.exporters import Artifact


class OldTrace:
    name = "old-trace"
    makes = "torchscript"

    def opsets(self):
        return range(0)

    def export(self, subject, path, *, opset, fixes):
        import torch
        from harness.fixes import corrected
        from harness.model.subject import Subject

        assert isinstance(subject, Subject)
        if len(subject.answer) > 1:
            raise Unsupported("one output only", of_library=True)
        module, inputs = subject.fresh()
        torch.jit.trace(corrected(module) if fixes else module, inputs).save(str(path))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Artifact("torchscript", path, digest, notes=(f"answer of shape {list(subject.answer[0].shape)}",))
"""

FIX = """\
from harness.fixes import _builder
from harness.fixes._builder import INTEGERS, Builder, Value, cast, in_float32, integers, number
from harness.fixes._lowering import Fix, Kind, Lowering, Replacement


def lower(builder: Builder, x: Value) -> Value:
    assert builder.dtype(x) not in INTEGERS
    if (plain := in_float32(builder, "Identity", x)) is not None:
        return plain
    wide, compute = _builder.widened(builder, x)
    one = builder.op("Reshape", number(builder, 1.0, compute), integers(builder, [1]))
    below = builder.op("Add", builder.op("Exp", builder.op("Neg", wide)), one)
    return _builder.narrowed(builder, builder.op("Div", wide, below), builder.dtype(x))


kind: Kind = "v"
silu = Lowering(
    name="old_silu", about="SiLU", issue=None, aten="silu", arguments=(kind,), lower=lower
)
"""

RUNTIME = """\
from dataclasses import dataclass
from harness.environment import installed
from harness.errors import UsageError
from harness.onnx_arrays import dtype_of
from harness.runtimes import Array, Availability, Placement, Session, owned


@dataclass(frozen=True)
class OldBoard:
    name: str
    takes: str = "onnx"

    @property
    def options(self):
        return {}

    def check(self, options):
        if options:
            raise UsageError("no options; leave them out")

    def availability(self):
        if self.name == "old-absent":
            return Availability("no such board", bring="ask your dealer")
        return Availability(detail=f"onnx {installed('onnx')}", bring=None)

    def load(self, artifact, options):
        here = self.availability()
        if not here.present:
            raise LookupError(here.why_not(self.name) + here.bring)
        return OldSession(artifact.path)


class OldSession:
    def __init__(self, path):
        import onnx
        from onnx.reference import ReferenceEvaluator

        graph = onnx.load(path).graph
        self.dtype = dtype_of(graph.input[0].type.tensor_type.elem_type)
        self.names = [output.name for output in graph.output]
        self.evaluator = ReferenceEvaluator(str(path))

    def run(self, inputs):
        assert all(array.dtype == self.dtype for array in inputs.values())
        return dict(zip(self.names, map(owned, self.evaluator.run(None, dict(inputs)))))

    def bind(self, inputs):
        return lambda: self.run(inputs)

    def placement(self):
        return None

    def facts(self):
        return {"device": "old board"}

    def close(self):
        pass


boards = (OldBoard("old-board"), OldBoard("old-absent"))
"""

METRIC = """\
from harness.compare.metrics import Judged, Metric
from harness.compare.numberformat import number_format
from harness.compare.pair import Pair
from harness.compare.rules import Allowance, allowance, close


class OldMetric:
    name = "old_metric"

    def measure(self, judged: Judged):
        pair = judged.pair
        assert isinstance(judged, Judged) and isinstance(pair, Pair) and isinstance(judged.allowance, Allowance)
        assert pair.form == number_format(pair.actual.dtype) and pair.form.spare == 0
        assert pair.same == (not pair.steps.any()) and pair.signs_of_zero == 0 and pair.most_relative < 1e-3
        assert (judged.outside == judged.allowance.outside).all() and not close(pair, 1, 1).outside.any()
        return float(pair.size.max()) + judged.strays.size
"""

REPORT = """\
from harness.report.advice import next_step
from harness.report.case_name import CaseName
from harness.report.facts import about
from harness.report.markup import code
from harness.report.matrix import targets
from harness.report.wording import (
    WRONG, blindness, comparisons, explanation, exports, happened, index, number, numbers, one_line, outcome,
    printable, shortened, telling, value_at, verdict, wrong,
)


class OldFormat:
    name = "old"
    suffix = ".old"

    def render(self, report):
        lines = [verdict(report), str(exports(report)), str(sorted(WRONG)), dict(about(report))["python"]]
        lines += map(code, targets(report.results))
        for result in report.results:
            lines += [CaseName.parse(result.case).family, happened(result), shortened(explanation(result), 20)]
            lines += [f"{result.target} wrong {result in wrong(report.results)}", blindness(result) or "sees errors"]
            output = telling(result)
            if output is not None:
                lines += [index(output.worst), value_at(output.actual_at_worst)]
                lines += [number(output.max_abs), numbers(output)]
            lines += [] if (advice := next_step(result)) is None else [advice.sentence]
        return "\\n".join(map(printable, map(one_line, lines)))
"""

PLUGINS = {
    "layers": (LAYER, "Softsign()"),
    "exporters": (EXPORTER, "OldTrace()"),
    "fixes": (FIX, "silu"),
    "runtimes": (RUNTIME, "boards"),
    "compare.metrics": (METRIC, "OldMetric()"),
    "report": (REPORT, "OldFormat()"),
}

SPEC = """\
harness: 1
cases:
  - {name: softsign, layer: Softsign, inputs: {x: {values: [-1, 3]}}}
  - {name: silu, layer: SiLU, inputs: {x: {values: [-1.5, 0.25, 3]}}, tolerance: {rtol: 1.0e-5, atol: 1.0e-5}}
"""


@dataclass(frozen=True)
class Ran:
    """The result of a run with these plugins."""

    code: int
    warnings: str
    """The command's standard error."""
    rows: dict[tuple[str, str], dict[str, Any]]
    text: str
    """The file in the old report format."""


def run_with_old_plugins(here: Path, packages: Path) -> Ran:
    """Install the plugins in ``packages``, and run the spec in ``here``."""
    points = []
    for kind, (code, value) in PLUGINS.items():
        module = f"old_{kind.replace('.', '_')}"
        (packages / f"{module}.py").write_text(f"{code}\n\nadded = {value}\n", encoding="utf-8")
        points.append(f"[harness.{kind}]\nold = {module}:added\n")
    metadata = packages / "old_plugins-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: old-plugins\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("".join(points), encoding="utf-8")
    (here / "old.yaml").write_text(SPEC, encoding="utf-8")
    targets = "old-trace/torch-cpu,onnx-dynamo+fixes/old-board,onnx-dynamo/old-absent"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "always::DeprecationWarning")
        patch.setenv("HARNESS_CACHE", str(here / "cache"))
        run = ("run", "old.yaml", "--targets", targets, "--no-latency", "--report-dir", ".")
        ended = Running(here, *run, paths=(packages,)).end()
        # `run` writes the formats of harness only; `merge` writes those of plugins too.
        merge = ("merge", "report.json", "--report-dir", "merged", "--format", "old")
        merged = Running(here, *merge, paths=(packages,)).end()
    rows = {(row["case"], row["target"]): row for row in report_in(here)["results"]}
    return Ran(ended[0], ended[2] + merged[2], rows, (here / "merged" / "report.old").read_text(encoding="utf-8"))
