"""What an upstream issue about a failure would be called, and what it would say was expected."""

from __future__ import annotations

from harness.reproduction.literals import keywords
from harness.reproduction.models import parts
from harness.result import Result
from harness.spec.case import Case, LayerModel
from harness.spec.target import Target

EXPORTERS = {
    "trace": "torch.jit.trace",
    "script": "torch.jit.script",
    "onnx-torchscript": "torch.onnx.export(dynamo=False)",
    "onnx-dynamo": "torch.onnx.export(dynamo=True)",
}
RUNTIMES = {"torch-cpu": "torch.jit.load", "ort-cpu": "ONNX Runtime", "reference": "onnx.reference"}


def title(case: Case, target: Target, result: Result | None) -> str:
    """One line: who does what wrong with which layer."""
    exporter, runtime = exporter_of(target), RUNTIMES[target.runtime]
    what = subject(case)
    if result is None or result.stage is None:
        return f"{what}: {exporter} with {runtime} does not answer as eager PyTorch"
    match result.stage:
        case "export":
            return f"{exporter} fails on {what}"
        case "load" | "run":
            verb = "load" if result.stage == "load" else "run"
            return f"{runtime} fails to {verb} what {exporter} makes of {what}"
    if case.expect.raises is not None:
        return f"{what}: PyTorch refuses the input, {exporter} with {runtime} answers"
    who = exporter if result.blame == "exporter" else runtime
    return f"{who} gives a different answer than eager PyTorch for {what}"


def exporter_of(target: Target) -> str:
    """The exporter by the name of its function, with the opset."""
    return EXPORTERS[target.exporter] + ("" if target.opset is None else f" at opset {target.opset}")


def subject(case: Case) -> str:
    """The layer with its arguments, or the layers by name."""
    model = case.model.model
    if isinstance(model, LayerModel):
        mode = ", in training mode" if case.mode == "train" else ""
        return f"{model.layer}({keywords(model.args)}){mode}"
    return " -> ".join(each.layer for each in parts(model))


def expected(case: Case, result: Result | None) -> str:
    """What should have happened, in a sentence."""
    if case.expect.raises is not None:
        return f"an error that says {case.expect.raises!r}, as eager PyTorch raises."
    if result is not None and result.stage not in {None, "compare"}:
        return "the model exports, loads and runs, and answers as eager PyTorch does."
    return "the same answer as eager PyTorch."
